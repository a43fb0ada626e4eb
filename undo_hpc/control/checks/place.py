"""The run directory: whether a run may be made or resumed there."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.budget import check_budget
from undo_hpc.control.position import read_state
from undo_hpc.control.run_cluster import require_unqueued, require_usable_path
from undo_hpc.errors import Incomplete
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.run import Run, changed_keys, open_run, require_free
from undo_hpc.stages.prepare import check_models
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.system.invocation import resume_hint


def check_run_dir(config: RunConfig, run_dir: Path) -> None:
    """The directory is new, empty, or holds this run with the same results-relevant keys."""
    layout = Layout(run_dir.resolve())
    if config.cluster.kind == "slurm":
        require_usable_path(layout)
    if layout.config.exists():
        changed_keys(open_run(run_dir), config)
    else:
        require_free(layout)


def check_recorded_models(config: RunConfig, run_dir: Path) -> None:
    """Local models are still those that the run began with."""
    run = open_run(run_dir)
    prepared = read_manifest(run.layout.prepared)
    if prepared is not None:
        check_models(Run(run.layout, config), prepared)


def check_queue(config: RunConfig, run_dir: Path) -> None:
    """No job of the run is in SLURM's queue while it is resumed on this machine."""
    run = open_run(run_dir)
    if config.cluster.kind == "local" and run.layout.submissions.exists():
        require_unqueued(run)


def check_next_iteration(config: RunConfig, run_dir: Path) -> None:
    """The next iteration fits into the budget; one that has begun is finished whatever it costs."""
    run = Run(open_run(run_dir).layout, config)
    state = read_state(run)
    begun = state is not None and not state.complete and len(state.missing) < len(state.statuses)
    if begun or (state is not None and state.ended):
        return
    if why := check_budget(run):
        raise Incomplete(why, hint=f"{resume_hint(run.layout.root)} --set budget.gpu_hours=N (0 is no limit)")
