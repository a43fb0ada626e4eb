"""All checks in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.precheck import check_config
from undo_hpc.data import load_problems
from undo_hpc.doctor.findings import Finding
from undo_hpc.doctor.hub import check_cache, check_nodes, check_token
from undo_hpc.doctor.machine import check_file_system, check_gpu, check_space
from undo_hpc.doctor.packages import check_packages, check_python
from undo_hpc.doctor.scheduler import check_slurm
from undo_hpc.errors import UndoError
from undo_hpc.models import loaded_models, resolve_model


def examine(config: RunConfig | None, folder: Path, *, profile: str = "") -> Iterator[Finding]:
    """The doctor's findings.

    Args:
        config: the run that is planned; None checks the machine alone.
        folder: where run directories shall lie.
        profile: profile of the cluster, if any.
    """
    cluster = bool(profile) or (config is not None and config.cluster.kind == "slurm")
    yield from check_python()
    yield from check_packages(
        engines={config.generate.engine.name, config.evaluate.engine.name} if config else ()
    )
    yield from check_gpu()
    yield from check_slurm(wanted=cluster, profile=profile or (config.cluster.profile if config else ""))
    yield from check_file_system(folder, cluster=cluster)
    yield from check_cache(config, cluster=cluster)
    yield from check_nodes()
    yield from check_token(config)
    if config is not None:
        yield from _config(config)
        yield from _models(config)
        problems = yield from _data(config)
        yield from check_space(config, folder, problems)


def _data(config: RunConfig) -> Generator[Finding, None, int | None]:
    """Local training data: how many problems it gives, or why it gives none. Returns their number; None for data on the Hub."""
    source = config.data.train
    if source.hub and not source.path:
        return None
    try:
        loaded = load_problems(source)
    except UndoError as error:
        yield Finding("bad", "data", error.message, error.hint)
        return None
    count, unused = len(loaded.problems), loaded.rejected
    detail = f"{source.path or 'the tiny world'}: {count:,} problem{'s'[: count != 1]}"
    if unused:
        detail += f", {len(unused):,} row{'s'[: len(unused) != 1]} not used (first: {unused[0].where}: {unused[0].reason})"
    yield Finding("look" if unused else "ok", "data", detail)
    return count


def _config(config: RunConfig) -> Iterator[Finding]:
    """What the launcher would refuse in the configuration."""
    try:
        check_config(config)
    except UndoError as error:
        yield Finding("bad", "configuration", error.message, error.hint)


def _models(config: RunConfig) -> Iterator[Finding]:
    """Local models: whether their directories are complete."""
    for role, model in ((role, settings.model) for role, settings in loaded_models(config).items()):
        if not model:
            yield Finding("look", role, "none is named", f"--set {role}.model=ID_OR_FOLDER")
            continue
        try:
            where = resolve_model(model)
        except UndoError as error:
            yield Finding("bad", role, error.message, error.hint)
        else:
            if where != model:
                yield Finding("ok", role, f"{model}: complete")
