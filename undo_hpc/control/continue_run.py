"""What a resubmitting stage does at its end, inside its job: nobody else continues the run."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from undo_hpc.cluster.commands import QueueFull, Unclear, Unreachable
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.signals import own_job
from undo_hpc.control.budget import require_budget
from undo_hpc.control.dispatch import DispatchResult, submit_missing
from undo_hpc.control.patience import keep_trying
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import RunState, latest_planned
from undo_hpc.control.run_cluster import open_cluster, run_lease
from undo_hpc.control.stopping_run import stop_servers
from undo_hpc.errors import ClusterError, ExitCode, Incomplete, LeaseError
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.pipeline.stages import LAST_STAGE, RESUBMITTING_STAGES

log = logging.getLogger(__name__)


def continue_run(run_dir: Path, stage: str, code: int) -> int:
    """What a resubmitting stage does at its end, inside its job; returns the exit code of the job.

    advance submits the next iteration when it is complete, and what is missing when it is not. merge submits missing
    shards and itself behind them; jobs that waited for it then wait for its successor. Where the queue had no room for the stages
    behind merge, it submits them when it is complete.
    """
    if stage not in RESUBMITTING_STAGES or code not in (ExitCode.COMPLETE, ExitCode.INCOMPLETE):
        return code
    run = open_run(run_dir)
    if stage == "merge" and code == ExitCode.COMPLETE:
        stop_servers(run)
        if not _chain_ends_here(run, latest_planned(run)):
            return code
    try:
        done = _submit_when_possible(run, stage)
    except Incomplete:
        stop_servers(run)
        raise
    if done is None:
        return code
    for name, ids, tasks in done.submitted:
        log.info(
            "submitted %s of iteration %d: %d tasks as job %s",
            name,
            done.state.iteration,
            tasks,
            ", ".join(ids),
        )
    return code


def plan_next(run_dir: Path, stage: str, iteration: int, code: int) -> int:
    """What merge and advance do instead where nodes may not submit: what follows was submitted before (`submit_from: login`).

    advance plans the next iteration, whose jobs wait for it; where the run has ended it cancels them, as far as the node may.
    Returns the exit code of the job.

    Raises:
        Incomplete: the next iteration would exceed the budget; its jobs wait in vain, and SLURM drops them.
    """
    if stage not in RESUBMITTING_STAGES or code != ExitCode.COMPLETE:
        return code
    run = open_run(run_dir)
    if stage == "merge":
        with contextlib.suppress(ClusterError):
            stop_servers(run)
    if stage != LAST_STAGE:
        return code

    def plan() -> RunState:
        with run_lease(run):
            return current_state(run)

    planned = latest_planned(run) > iteration
    state = keep_trying(plan, (LeaseError,))
    if state.ended:
        cluster = open_cluster(run, from_launcher=False)
        with contextlib.suppress(ClusterError):  # they see by themselves that there is nothing to do
            cluster.cancel({job.id for job in cluster.live_jobs(run.id) if job.iteration > state.iteration})
        return code
    if state.iteration <= iteration:
        log.warning("iteration %d is not complete; the launcher submits what is missing", iteration)
        return int(ExitCode.INCOMPLETE)
    require_budget(run, state.iteration, begun=planned)
    log.info("iteration %d is planned", state.iteration)
    return code


def _chain_ends_here(run: Run, iteration: int) -> bool:
    """Whether nothing was submitted behind the last merge, by the journal; older jobs may wait for it all the same."""
    last: dict[str, float] = {}
    for entry in SubmissionJournal(run.layout.submissions).entries():
        if entry.iteration == iteration:
            last[entry.stage] = entry.time
    return last.get("merge", 0.0) > last.get(LAST_STAGE, 0.0)


def _submit_when_possible(run: Run, stage: str) -> DispatchResult | None:
    """Submits what is missing, or nothing where the run is paused. Waits for a controller that is down, a full queue, a launcher
    that holds the run: nobody else would continue it."""

    def submit() -> DispatchResult | None:
        with run_lease(run):
            if run.layout.paused.exists():
                return None
            cluster = open_cluster(run, from_launcher=False)
            return submit_missing(run, cluster, resubmitter=stage, own=own_job(os.environ))

    return keep_trying(submit, (Unreachable, Unclear, QueueFull, LeaseError))
