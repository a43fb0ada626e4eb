"""Why a task is, or is not, submitted: state of the run + a SLURM cluster -> submit what is missing, and nothing twice.

The launcher calls it, and so do two stages from inside their jobs: `advance` (the next iteration, or what the present one still
lacks) and `merge` (shards that failed). No process stays behind. Whoever calls holds the run's lease. What is decided here is
derived from manifests; the scheduler only says which tasks somebody is working on already.

Beside it: `dependencies` (what waits for what), `resubmits` (how often a stage may submit again), `continue_run` (the call from inside a
job), `stopping_run`, `budget`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from undo_hpc.cluster.base import Cluster, JobState, LiveJob, Submission
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.control.ahead import Submitted, submit_ahead
from undo_hpc.control.budget import require_budget
from undo_hpc.control.dependencies import connected_stages, submit_in_order
from undo_hpc.control.listed import require_gone
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import RunState, discard_stale, latest_planned
from undo_hpc.control.resubmits import limit_resubmits
from undo_hpc.control.run_cluster import require_unmoved
from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.pipeline.state import Key, TaskState

log = logging.getLogger(__name__)


@dataclass
class DispatchResult:
    """What was done.

    Attributes:
        submitted: (stage, job ids, number of tasks) in order.
        live: tasks that were queued or running already.
        held: jobs that somebody held, and that wait for `scontrol release`.
        released: tasks that the scheduler had abandoned (their node failed to start them), and that wait for a node again.
        ahead: (iteration, stage, job ids, number of elements) of later iterations.
    """

    state: RunState
    submitted: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)
    live: int = 0
    held: list[LiveJob] = field(default_factory=list)
    released: list[LiveJob] = field(default_factory=list)
    ahead: Submitted = field(default_factory=list)


def submit_missing(
    run: Run,
    cluster: Cluster,
    *,
    resubmitter: str = "",
    own: str = "",
    check: bool = False,
    unattended: bool = False,
    ahead: bool = False,
) -> DispatchResult:
    """Submits every missing task of the present iteration that nobody works on.

    Args:
        resubmitter: the stage that calls from inside its job; the number of times it may submit again is limited.
        own: id of the calling job, which does not count as work under way.
        check: ask the cluster first whether it would accept each kind of job.
        ahead: submit the iterations behind it, too, before they are planned: the nodes may not.
        unattended: no person calls, but cron: the number of times is limited as that of a resubmitting stage.

    Raises:
        ClusterError: refused or unreachable, or jobs wait for a run directory that is not there any more. What was accepted before
            is cancelled, unless older jobs wait for it already.
        Incomplete: a resubmitting stage has submitted the same stage too often, or a new iteration would exceed the budget.
    """
    cluster.recover(run.layout.root, run.id)
    jobs, listed = _live_jobs(run, cluster, own, person=not (resubmitter or unattended))
    if not resubmitter:
        require_unmoved(run, jobs)
    state = current_state(run, _live_states(jobs, latest_planned(run)))
    result = DispatchResult(state, held=[job for job in jobs if job.state is JobState.HELD])
    if state.ended:
        return result
    everywhere, jobs = jobs, [job for job in jobs if job.iteration == state.iteration]
    # An advance that is just ending may have been cancelled. Nobody else would continue the run: submit another one behind it.
    ending = tuple(job.id for job in jobs if job.stage == "advance" and job.state is JobState.STOPPING)
    jobs = [job for job in jobs if job.id not in ending]
    result.released = _release(cluster, jobs)
    require_budget(run, state.iteration, begun=bool(jobs) or len(state.missing) < len(state.statuses))
    discard_stale(run, state)
    result.live = len({(job.stage, job.index) for job in jobs})
    todo = [
        (stage, indices)
        for stage, indices in missing_tasks(state, jobs)
        if not resubmitter
        or resubmitter == "release"
        or stage.name in connected_stages(state.stages, resubmitter)
    ]
    require_gone(run, cluster, state.iteration, {stage.name for stage, _ in todo}, listed)
    if resubmitter or unattended:
        limit_resubmits(run, state, todo, resubmitter)
    submissions = [_submission(run, state, stage, indices) for stage, indices in todo]
    if check:
        cluster.check(submissions)
    result.submitted = submit_in_order(
        cluster, state.stages, submissions, jobs, ending, nodes_submit=not ahead
    )
    by = resubmitter or ("cron" if unattended else "launcher")
    if result.submitted:
        run.events.append(
            "submitted",
            iteration=state.iteration,
            by=by,
            stages={stage: {"jobs": list(new), "tasks": n} for stage, new, n in result.submitted},
        )
    if ahead:
        new = [job_id for stage, ids, _ in result.submitted if stage == LAST_STAGE for job_id in ids]
        behind = new or sorted({job.id for job in jobs if job.stage == LAST_STAGE})
        result.ahead = submit_ahead(run, cluster, state.plan, everywhere, behind, by, listed, moved=bool(new))
    return result


def _live_jobs(run: Run, cluster: Cluster, own: str, person: bool) -> tuple[list[LiveJob], set[str]]:
    """The run's jobs, but for our own and those that can never start, which are cancelled; and the ids of all."""
    every = cluster.live_jobs(run.id)
    jobs = [job for job in every if own not in (job.id, job.task_id)]
    vain = {JobState.STUCK}
    if person:  # who may have corrected the profile; by itself it may pass, as where the controller has lost its accounts
        vain.add(JobState.BEYOND)
        for reason in sorted({job.reason for job in jobs if job.state is JobState.BEYOND}):
            log.warning("SLURM does not start tasks (%s): they are cancelled, and submitted again", reason)
    cluster.cancel(job.task_id for job in jobs if job.state in vain)  # of an array others may run
    return [job for job in jobs if job.state not in vain], {own} | {job.id for job in every}


def _release(cluster: Cluster, jobs: list[LiveJob]) -> list[LiveJob]:
    """Releases tasks that the scheduler has abandoned: they wait for a node again, and their dependents still wait for them."""
    abandoned = [job for job in jobs if job.state is JobState.ABANDONED]
    cluster.release(job.task_id for job in abandoned)
    return abandoned


def missing_tasks(state: RunState, jobs: list[LiveJob]) -> list[tuple[Stage, tuple[int, ...]]]:
    """PURE: the missing tasks of each stage that nobody works on, in the order of the graph.

    Where anything is done again, so is advance: it submits what becomes stale by it.
    """
    wanted = {(s.stage, s.index) for s in state.missing}
    alive = {(job.stage, job.index or 0) for job in jobs if not job.stride}
    shares = [job for job in jobs if job.stride]  # submitted before the plan was made
    totals = {stage.name: len(stage.tasks) for stage in state.stages}
    for job in shares:
        alive |= {(job.stage, index) for index in range(job.index or 0, totals.get(job.stage, 0), job.stride)}
    result: list[tuple[Stage, tuple[int, ...]]] = []
    for stage in state.stages:
        again = stage.name == "advance" and bool(result)
        missing = tuple(
            s.index
            for s in state.statuses
            if s.stage == stage.name
            and (s.stage, s.index) not in alive
            and (again or (s.stage, s.index) in wanted)
        )
        if missing:
            result.append((stage, missing))
    return result


def _live_states(jobs: list[LiveJob], iteration: int) -> Mapping[Key, tuple[TaskState, str]]:
    live: dict[Key, tuple[TaskState, str]] = {}
    for job in jobs:
        if job.iteration == iteration:
            state: TaskState = "running" if job.state in (JobState.RUNNING, JobState.STOPPING) else "waiting"
            live[job.stage, job.index or 0] = (state, job.reason)
    return live


def _submission(run: Run, state: RunState, stage: Stage, indices: tuple[int, ...]) -> Submission:
    return Submission(
        run_dir=run.layout.root,
        iteration=state.iteration,
        stage=stage.name,
        indices=indices if stage.is_array else None,
        resources=stage.resources,
        tag=run.id,
        attempt=SubmissionJournal(run.layout.submissions).attempts(state.iteration).get(stage.name, 0),
        total=len(stage.tasks),
    )
