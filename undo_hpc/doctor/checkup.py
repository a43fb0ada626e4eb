"""The doctor: what is found on this machine, then what a launch of the planned run would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks import Finding, Level, Notice, Subject, find_problems
from undo_hpc.doctor.hub import check_cache, check_nodes, check_token
from undo_hpc.doctor.machine import check_file_system, check_gpu, check_space
from undo_hpc.doctor.packages import check_python, check_versions
from undo_hpc.doctor.scheduler import check_slurm
from undo_hpc.errors import UndoError
from undo_hpc.models.resolve import loaded_models, resolve_model
from undo_hpc.system.wording import counted


def checkup(config: RunConfig | None, folder: Path, *, profile: str = "") -> Iterator[Finding]:
    """All findings, in order.

    Args:
        config: the run that is planned; None checks the machine alone.
        folder: where run directories shall lie.
        profile: profile of the cluster, if any.
    """
    cluster = bool(profile) or (config is not None and config.cluster.kind == "slurm")
    yield from check_python()
    yield from check_versions()
    yield from check_gpu()
    yield from check_slurm(wanted=cluster, profile=profile or (config.cluster.profile if config else ""))
    yield from check_file_system(folder, cluster=cluster)
    yield from check_cache(config, cluster=cluster)
    yield from check_nodes()
    yield from check_token(config)
    if config is not None:
        yield from _run(Subject(config, folder / config.name))


def _run(subject: Subject) -> Iterator[Finding]:
    """What a launch would refuse; then what the models and the data are."""
    failed = set()
    for check, error in find_problems(subject, "doctor"):
        failed.add(check.what)
        level: Level = "warning" if isinstance(error, Notice) else "error"
        yield Finding(level, check.what, error.message, error.hint)
    config = subject.config
    for role, model in loaded_models(config).items():
        try:
            where = resolve_model(model.model)
        except UndoError:  # one of the errors above
            continue
        if where != model.model:
            yield Finding("ok", role, f"{model.model}: complete")
    problems = None
    if "data" not in failed and subject.sources is not None:
        loaded = subject.sources.loaded
        problems, unused = len(loaded.problems), loaded.rejected
        detail = f"{config.data.train.path or 'the tiny world'}: {counted(problems, 'problem')}"
        if unused:
            detail += (
                f", {counted(len(unused), 'row')} not used (first: {unused[0].where}: {unused[0].reason})"
            )
        yield Finding("warning" if unused else "ok", "data", detail)
    yield from check_space(config, subject.run_dir.parent, problems)
