"""Models and data: local ones are read; of those on the Hub it is asked whether they exist and may be read."""

from __future__ import annotations

import os
import time
from pathlib import Path

from undo_hpc.chat.template import RenderError
from undo_hpc.config.parts import asks, only_evaluates
from undo_hpc.config.schema import RunConfig, SourceConfig
from undo_hpc.control.checks.finding import NotChecked
from undo_hpc.data.benchmarks.loader import describe_benchmark
from undo_hpc.errors import DataError
from undo_hpc.models.hub import unreachable
from undo_hpc.models.resolve import loaded_models, resolve_model
from undo_hpc.pipeline.layout import Layout
from undo_hpc.stages.prepare import Sources, describe_model, read_added, read_sources
from undo_hpc.system.data_files import expanded
from undo_hpc.training.student_check import check_student, student_notes, template_of


def check_models(config: RunConfig) -> None:
    """Local models are complete; those on the Hub exist and may be read. Raises NotChecked for what only a download would show."""
    for model in loaded_models(config).values():
        describe_model(model)
    hub = {m.model for m in loaded_models(config).values() if not Path(resolve_model(m.model)).is_dir()}
    if hub:
        raise NotChecked(f"the weights of {', '.join(sorted(hub))}: they come from the Hub")


def check_teacher_template(config: RunConfig) -> None:
    """The teacher's chat template renders a prompt. (Of a server's model the server knows.)"""
    model = loaded_models(config).get("teacher")
    if model is None:
        return
    template = template_of(model)
    if template is None:
        raise NotChecked(f"teacher.model: the chat template of {model.model}, which cannot be read here")
    system = [{"role": "system", "content": model.system_prompt}] if model.system_prompt else []
    try:
        text = template.render([*system, {"role": "user", "content": "7 + 8"}], True)
    except RenderError as error:
        hint = (
            "leave teacher.system_prompt empty" if system else "fix its chat_template.jinja in a local copy"
        )
        raise DataError(f"{model.model}: its chat template cannot be rendered: {error}", hint=hint) from error
    if "7 + 8" not in text:
        raise DataError(
            f"{model.model}: its chat template drops the user's text",
            hint="fix its chat_template.jinja in a local copy",
        )


def check_student_template(config: RunConfig) -> None:
    """The student's chat template can be trained."""
    if not asks(config, "student"):
        return
    if template_of(config.student) is None:
        raise NotChecked(
            f"student.model: the chat template of {config.student.model}, which cannot be read here"
        )
    check_student(config)


def describe_training(config: RunConfig, sources: Sources | None) -> list[str]:
    """What training will do that is not obvious: how the template is used, and rows that it leaves out."""
    if not asks(config, "student") or only_evaluates(config):
        return []
    problems = [problem.problem for problem in sources.splits.train] if sources else []
    return student_notes(config, problems, date=time.strftime("%Y-%m-%d"))


def check_data(config: RunConfig) -> Sources | None:
    """Local training data and benchmarks give problems; returns them. None where the training data lies on the Hub."""
    local = [name for name, source in _benchmarks(config).items() if not on_hub(source)]
    return None if on_hub(config.data.train) else read_sources(config, local)


def check_hub_sources(config: RunConfig) -> None:
    """Data sets on the Hub exist and may be read."""
    for source in hub_sources(config):
        check_hub_data(source)


def check_added(config: RunConfig, run_dir: Path) -> None:
    """Benchmarks that are added to a run can be read, before their names are recorded in it: each later start would fail by them."""
    layout = Layout(run_dir.resolve())
    for name, added in config.evaluate.added.items():
        if not layout.added_manifest(name).exists():
            read_added(added, config)


def hub_sources(config: RunConfig) -> list[SourceConfig]:
    """Sources of the run that are read from the Hub."""
    return [source for source in (config.data.train, *_benchmarks(config).values()) if on_hub(source)]


def _benchmarks(config: RunConfig) -> dict[str, SourceConfig]:
    overrides = config.evaluate.overrides
    return {
        name: describe_benchmark(name, overrides.get(Path(name).stem)).source
        for name in config.evaluate.benchmarks
    }


def on_hub(source: SourceConfig) -> bool:
    """Whether a source is read from the Hub."""
    return bool(source.hub and not source.path and not source.tiny)


def check_hub_data(source: SourceConfig) -> None:
    """Asks the Hub for a data set, unless it lies in the cache already. Raises DataError where it cannot be read, NotChecked where
    nobody answers.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if _is_cached(source.hub) or Path(source.hub).is_absolute():  # a folder is read as it is
        return
    try:
        HfApi().dataset_info(source.hub, revision=source.revision or None, timeout=20)
    except RevisionNotFoundError as error:
        raise DataError(
            f"{source.hub} has no revision {source.revision!r} on the Hub",
            hint="check the `revision` of the source",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DataError(
            f"no such data set on the Hub: {source.hub}, or it is private",
            hint="check `hub`; a private or gated data set needs a login (hf auth login); or give a local `path`",
        ) from error
    except HfHubHTTPError:
        return  # it answers, but not now
    except Exception as error:
        if not unreachable(error):
            raise
        raise NotChecked(
            f"the Hub cannot be reached, and {source.hub} is not in the local cache: a launch from here would be refused",
            hint="give a local file as `path`, or fetch it once on a machine with a network "
            "(undo-hpc doctor --config FILE --prefetch) and share its HF_HOME",
        ) from error


def _is_cached(name: str) -> bool:
    """Whether `datasets` has a data set of that name in its cache: by its folder, without the slow import."""
    home = expanded(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    cache = expanded(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    wanted = name.replace("/", "___").lower()
    return cache.is_dir() and any(path.name.lower() == wanted for path in cache.iterdir())
