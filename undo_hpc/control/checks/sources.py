"""Models and data: local ones are read; of those on the Hub it is asked whether they exist and may be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from undo_hpc.config.schema import RunConfig, SourceConfig
from undo_hpc.control.checks.finding import NotChecked
from undo_hpc.data.benchmarks.loader import describe_benchmark
from undo_hpc.errors import DataError
from undo_hpc.models import loaded_models, resolve_model, unreachable
from undo_hpc.stages.prepare import Sources, describe_model, read_sources
from undo_hpc.training.student_check import check_student


def check_models(config: RunConfig) -> None:
    """Local models are complete; those on the Hub exist and may be read."""
    for model in loaded_models(config).values():
        describe_model(model)


def check_chat_templates(config: RunConfig) -> None:
    """Local models have a chat template, and the student can be trained with its own. Raises DataError."""
    for role, model in loaded_models(config).items():
        folder = Path(resolve_model(model.model))
        if folder.is_dir() and _has_chat_template(folder) is False:
            raise DataError(
                f"{role}.model: {folder}: its tokenizer has no chat template",
                hint="take an instruct model, or put a chat_template.jinja into a local copy of the model",
            )
    check_student(config)


def _has_chat_template(folder: Path) -> bool | None:
    """Whether a model folder has a chat template; None where its files cannot tell (tekken.json and the like)."""
    if any(
        (folder / name).exists()
        for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    ):
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text())
    except (OSError, ValueError):
        return None
    return bool(settings.get("chat_template"))


def check_data(config: RunConfig) -> Sources | None:
    """Local training data and benchmarks give problems; returns them. None where the training data lies on the Hub."""
    local = [name for name, source in _benchmarks(config).items() if not on_hub(source)]
    return None if on_hub(config.data.train) else read_sources(config, local)


def check_hub_sources(config: RunConfig) -> None:
    """Data sets on the Hub exist and may be read."""
    for source in hub_sources(config):
        check_hub_data(source)


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

    if _is_cached(source.hub):
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
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()
    wanted = name.replace("/", "___").lower()
    return cache.is_dir() and any(path.name.lower() == wanted for path in cache.iterdir())
