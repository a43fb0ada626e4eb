"""Plan + evidence + a SLURM cluster: submit what is missing, and nothing twice. Nobody stays behind.

The launcher calls it, and so do two stages from inside their jobs: `advance` (the next iteration, or what an unlucky one
still lacks) and `merge` (shards that failed). Whoever calls holds the run's lease. What is decided here rests on manifests;
the scheduler only says which tasks somebody is working on already.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from undo_hpc.cluster.base import WAITING, Cluster, JobState, LiveJob, Submission
from undo_hpc.cluster.commands import QueueFull, Unreachable
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.profile import Profile, load_profile
from undo_hpc.cluster.signals import own_job
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.control.position import Position, discard_stale, locate
from undo_hpc.errors import ClusterError, ConfigError, ExitCode, Incomplete, LeaseError
from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.pipeline.stages import RESUBMITTING_STAGES
from undo_hpc.pipeline.state import Key, TaskState
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.events import read_events
from undo_hpc.storage.lease import STALE_S, Lease
from undo_hpc.system.data_files import project_root
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint

PATIENCE_S = 1800.0  # a controller that is being mended or moved to its backup host; a queue that is full


@dataclass
class DispatchResult:
    """What was done.

    Attributes:
        submitted: (stage, job ids, number of tasks) in order.
        live: tasks that were queued or running already.
        held: jobs that somebody held, and that wait for `scontrol release`.
        released: tasks that the scheduler had given up (their node failed to start them), and that wait for a node again.
    """

    position: Position
    submitted: list[tuple[str, tuple[str, ...], int]] = field(default_factory=list)
    live: int = 0
    held: list[LiveJob] = field(default_factory=list)
    released: list[LiveJob] = field(default_factory=list)


def open_cluster(run: Run, *, from_launcher: bool) -> SlurmCluster:
    """The run's cluster. The launcher freezes profile and code for the jobs that it submits; jobs pass on their own."""
    if from_launcher:
        if os.pathsep in str(run.layout.code):
            raise ConfigError(
                f"{run.layout.root}: Python cannot be told to look for code below a path with '{os.pathsep}' (PYTHONPATH)",
                hint=f"choose a --run-dir without '{os.pathsep}'",
            )
        profile = load_profile(run.config.cluster.profile)
        # without defaults: jobs in the queue read it with the code they were submitted with, which may not know a newer key
        write_json(run.layout.profile, profile.model_dump(mode="json", exclude_defaults=True))
        from undo_hpc.cluster.snapshot import take_snapshot

        code = take_snapshot(run.layout.code) if run.config.cluster.code_snapshot else project_root()
    else:
        profile = Profile.model_validate(read_json(run.layout.profile))
        code = Path(os.environ.get("UNDO_CODE") or project_root())
    return SlurmCluster(profile, code, SubmissionJournal(run.layout.submissions).users(), run.layout.root)


def submit_missing(
    run: Run, cluster: Cluster, *, healer: str = "", own: str = "", check: bool = False
) -> DispatchResult:
    """Submits every missing task of the present iteration that nobody works on.

    Args:
        healer: the stage that calls from inside its job; the number of times it may submit again is limited.
        own: id of the calling job, which does not count as work under way.
        check: ask the cluster first whether it would accept each kind of job.

    Raises:
        ClusterError: refused or unreachable, or jobs wait for a run directory that is not there any more. What was accepted before
            is cancelled, unless older jobs wait for it already.
        Incomplete: a healer has submitted the same stage too often, or a new iteration would go over the budget.
    """
    from undo_hpc.control.accounting import require_budget

    cluster.recover(run.layout.root, run.id)
    jobs = _live_jobs(run, cluster, own)
    if not healer:
        _require_unmoved(run, jobs)
    position = locate(run, _live_states(jobs, _iteration(run)))
    result = DispatchResult(position, held=[job for job in jobs if job.state is JobState.HELD])
    if position.ended:
        return result
    jobs = [job for job in jobs if job.iteration == position.iteration]
    # An advance that is just ending may have been cancelled. Nobody else would go on with the run: another waits behind it.
    ending = tuple(job.id for job in jobs if job.stage == "advance" and job.state is JobState.STOPPING)
    jobs = [job for job in jobs if job.id not in ending]
    result.released = _release(cluster, jobs)
    require_budget(
        run, position.iteration, begun=bool(jobs) or len(position.missing) < len(position.statuses)
    )
    discard_stale(run, position)
    result.live = len({(job.stage, job.index) for job in jobs})
    todo = [
        (stage, indices)
        for stage, indices in wanted(position, jobs)
        if not healer or stage.name in related(position.stages, healer)
    ]
    _check_resubmits(run, position, todo, healer)
    submissions = [_submission(run, position, stage, indices) for stage, indices in todo]
    if check:
        cluster.check(submissions)
    result.submitted = _submit_in_order(cluster, position.stages, submissions, jobs, ending)
    if result.submitted:
        run.events.append(
            "submitted",
            iteration=position.iteration,
            by=healer or "launcher",
            stages={stage: {"jobs": list(new), "tasks": n} for stage, new, n in result.submitted},
        )
    return result


def _live_jobs(run: Run, cluster: Cluster, own: str) -> list[LiveJob]:
    """The run's jobs, but for our own; those that can never start are cancelled."""
    jobs = [job for job in cluster.live_jobs(run.id) if own not in (job.id, job.task_id)]
    cluster.cancel(job.id for job in jobs if job.state is JobState.STUCK)
    return [job for job in jobs if job.state is not JobState.STUCK]


def _require_unmoved(run: Run, jobs: Sequence[LiveJob]) -> None:
    """Raises ClusterError where jobs know the run directory by a path that is gone: they would do nothing, and others wait for them."""
    lost = [job for job in jobs if job.gone]
    if lost:
        raise ClusterError(
            f"jobs of this run ({lost[0].task_id}, ...) are queued or running in {lost[0].gone}, which is not there: was the run directory moved?",
            hint=f"{cli_hint(f'cancel {display_path(run.layout.root)}')} ends them and keeps all data; then run the same command again. "
            "Or move it back: a run directory stays where it is while jobs wait for it",
        )


def require_unqueued(run: Run) -> None:
    """For who is about to work without a scheduler. Raises ClusterError while SLURM holds jobs of the run: they would go on with it, too."""
    journal = SubmissionJournal(run.layout.submissions)
    if not journal.path.exists() or shutil.which("squeue") is None:
        return
    try:
        jobs = SlurmCluster(Profile(), run.layout.code, journal.users(), run.layout.root).live_jobs(run.id)
    except ClusterError:  # nobody answers: leases keep two workers from one task all the same
        return
    if jobs:
        root = display_path(run.layout.root)
        raise ClusterError(
            f"SLURM holds jobs of this run ({', '.join(sorted({job.id for job in jobs})[:3])}, ...), which would go on with it at the same time",
            hint=f"{cli_hint(f'pause {root}')} lets them save and stop; then the same command again. Or leave the run to them: "
            f"{launcher_hint(f'--run-dir {root} --cluster slurm')}",
        )


def _submit_in_order(
    cluster: Cluster,
    stages: Sequence[Stage],
    submissions: Iterable[Submission],
    jobs: Sequence[LiveJob],
    ending: tuple[str, ...],
) -> list[tuple[str, tuple[str, ...], int]]:
    """Submits each stage behind those before it; jobs that wait already are moved behind what is new before them.

    Args:
        stages: of the iteration, in the order of the graph.
        jobs: of the iteration, that the scheduler holds.
        ending: jobs that a new advance waits for too.

    Returns:
        (stage, job ids, number of tasks) of each submission. Where one fails all of them are cancelled, unless older jobs have
        been moved behind them.
    """
    by_stage = {submission.stage: submission for submission in submissions}
    by_name: dict[str, Stage] = {stage.name: stage for stage in stages}
    ids: dict[str, list[str]] = {
        stage.name: list(dict.fromkeys(job.id for job in jobs if job.stage == stage.name)) for stage in stages
    }
    submitted: list[tuple[str, tuple[str, ...], int]] = []
    moved = False
    try:
        for stage in stages:
            after = _dependencies(stage, by_name, ids) + (ending if stage.name == "advance" else ())
            if any(name in stage.after for name, _, _ in submitted):
                waits = {job.id for job in jobs if job.stage == stage.name and job.state in WAITING}
                moved = moved or bool(waits)
                cluster.redirect(sorted(waits), after)
            if stage.name in by_stage:
                submission = replace(by_stage[stage.name], after=after)
                new = cluster.submit(submission)
                ids[stage.name] += new
                submitted.append((stage.name, new, len(submission.indices or (0,))))
    except BaseException:
        if not moved:  # nothing older waits for what is new: leave nothing half-submitted
            with contextlib.suppress(
                ClusterError
            ):  # what a silent controller keeps is found by the next launch
                cluster.cancel([job_id for _, new, _ in submitted for job_id in new])
        raise
    return submitted


def _release(cluster: Cluster, jobs: list[LiveJob]) -> list[LiveJob]:
    """Tasks that the scheduler gave up wait for a node again; what depends on them has waited all the time."""
    given_up = [job for job in jobs if job.state is JobState.GIVEN_UP]
    cluster.release(job.task_id for job in given_up)
    return given_up


def wanted(position: Position, jobs: list[LiveJob]) -> list[tuple[Stage, tuple[int, ...]]]:
    """PURE: the missing tasks of each stage that nobody works on, in the order of the graph.

    A stage whose followers are all complete is left alone (a policy let them go on without its missing tasks), but for tasks
    that are stale. Behind whatever is done again advance is, too: it submits what becomes stale by it.
    """
    complete = {
        stage.name: all(s.state == "done" for s in position.statuses if s.stage == stage.name)
        for stage in position.stages
    }
    alive = {(job.stage, job.index or 0) for job in jobs}
    result: list[tuple[Stage, tuple[int, ...]]] = []
    for stage in position.stages:
        followers = [other.name for other in position.stages if stage.name in other.after]
        if stage.name == "serve":
            followers = ["generate"]
        again = stage.name == "advance" and bool(result)
        if complete[stage.name] and not again:
            continue
        left_out = bool(followers) and all(complete[name] for name in followers)
        missing = tuple(
            s.index
            for s in position.statuses
            if s.stage == stage.name
            and (s.stage, s.index) not in alive
            and (again or (s.state == "stale" if left_out else s.state != "done"))
        )
        if missing:
            result.append((stage, missing))
    return result


def _dependencies(
    stage: Stage, by_name: Mapping[str, Stage], ids: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Jobs that a stage waits for: those of the stages before it, or, where one has none, of what that one rests on."""
    found: dict[str, None] = {}
    for name in stage.after:
        here = ids.get(name) or _dependencies(by_name[name], by_name, ids)
        found.update(dict.fromkeys(here))
    return tuple(found)


def related(stages: Sequence[Stage], name: str) -> set[str]:
    """PURE: a stage, all that it rests on, and all that rests on it."""
    before, behind = {name}, {name}
    for stage in reversed(stages):
        if stage.name in before:
            before |= set(stage.after)
    for stage in stages:
        if behind & set(stage.after):
            behind.add(stage.name)
    return before | behind


def _iteration(run: Run) -> int:
    numbers = run.layout.iterations()
    return numbers[-1] if numbers else 0


def _live_states(jobs: list[LiveJob], iteration: int) -> Mapping[Key, tuple[TaskState, str]]:
    live: dict[Key, tuple[TaskState, str]] = {}
    for job in jobs:
        if job.iteration == iteration:
            state: TaskState = "running" if job.state in (JobState.RUNNING, JobState.STOPPING) else "waiting"
            live[job.stage, job.index or 0] = (state, job.reason)
    return live


def _submission(run: Run, position: Position, stage: Stage, indices: tuple[int, ...]) -> Submission:
    return Submission(
        run_dir=run.layout.root,
        iteration=position.iteration,
        stage=stage.name,
        indices=indices if stage.is_array else None,
        resources=stage.resources,
        tag=run.id,
        attempt=attempts(run, position.iteration).get(stage.name, 0),
        total=len(stage.tasks),
    )


def attempts(run: Run, iteration: int) -> dict[str, int]:
    """How often each stage of an iteration was submitted so far."""
    counts: dict[str, int] = {}
    for entry in SubmissionJournal(run.layout.submissions).entries():
        if entry.iteration == iteration:
            counts[entry.stage] = max(counts.get(entry.stage, 0), entry.attempt + 1)
    return counts


def submissions(events: Iterable[Mapping[str, Any]], iteration: int) -> Counter[str]:
    """PURE: how often each stage of an iteration was submitted since a person last did so, that time counted."""
    counts: Counter[str] = Counter()
    for event in events:
        if event.get("iteration") != iteration:
            continue
        if event["kind"] == "superseded":  # by a regrade: what was submitted belonged to other tasks
            counts.clear()
        elif event["kind"] == "submitted":
            if event["by"] == "launcher":
                counts.clear()
            counts.update(event["stages"].keys())
    return counts


def _check_resubmits(
    run: Run, position: Position, todo: list[tuple[Stage, tuple[int, ...]]], healer: str
) -> None:
    """Keeps healing stages from submitting for ever; a person may always submit again."""
    if not healer:
        return
    most = run.config.cluster.max_resubmits
    so_far = submissions(read_events(run.events.path), position.iteration)
    for stage, indices in todo:
        # A healing stage is submitted again each time that one of the others is.
        allowed = most + 3 * most * (stage.name in RESUBMITTING_STAGES)
        hopeless = [
            index
            for index in indices
            if stage.name != healer
            and _last_code(run, position.iteration, stage.name, index) == ExitCode.WRONG_INPUT
        ]
        often = so_far[stage.name] > allowed
        if not hopeless and not often:
            continue
        log = run.layout.iteration(position.iteration).logs
        why = (
            f"task {hopeless[0]} of {stage.name} says that its input is wrong"
            if hopeless
            else f"{len(indices)} tasks of {stage.name} failed in {so_far[stage.name]} submissions"
        )
        run.events.append("stopped", iteration=position.iteration, stage=stage.name, by=healer, why=why)
        raise Incomplete(
            f"{why}; nothing is submitted again",
            hint=f"see {log}/{stage.name}-*.log, mend the cause, then: python launchers/run_iteration.py --run-dir {run.layout.root}",
        )


def _last_code(run: Run, iteration: int, stage: str, index: int) -> int | None:
    """Exit code of a task's last end, or None."""
    code = None
    for event in read_events(run.layout.iteration(iteration).events(stage, index)):
        if event.get("kind") == "end":
            code = int(event.get("code", 1))
    return code


def carry_on(run_dir: Path, stage: str, code: int) -> int:
    """What a healing stage does at its end, inside its job; returns the exit code of the job.

    advance submits the next iteration when it is complete, and what is missing when it is not. merge submits missing
    shards and itself behind them; jobs that waited for it then wait for its successor.
    """
    if stage not in RESUBMITTING_STAGES or code not in (ExitCode.COMPLETE, ExitCode.INCOMPLETE):
        return code
    run = open_run(run_dir)
    if stage == "merge" and code == ExitCode.COMPLETE:
        _dismiss_servers(run)
        return code
    try:
        done = _submit_when_possible(run, stage)
    except Incomplete:
        _dismiss_servers(run)  # nobody will ask them any more
        raise
    if done is None:
        return code
    for name, ids, tasks in done.submitted:
        print(
            f"submitted {name} of iteration {done.position.iteration}: {tasks} tasks as job {', '.join(ids)}",
            flush=True,
        )
    return code


def _dismiss_servers(run: Run) -> None:
    """Ends the teacher's servers: all that they were asked is answered."""
    plan = run.plan(_iteration(run))
    if plan is None or not plan.servers:
        return
    cluster = open_cluster(run, from_launcher=False)
    cluster.cancel(sorted({job.id for job in cluster.live_jobs(run.id) if job.stage == "serve"}))


def _submit_when_possible(run: Run, stage: str) -> DispatchResult | None:
    """Submits what is missing, or nothing where the run is paused. A controller that is down, a full queue, a launcher that is slow
    are waited for: nobody else would go on with the run."""
    deadline = time.monotonic() + PATIENCE_S
    pause_s = 5.0
    while True:
        try:
            with _lease(run):
                if run.layout.paused.exists():
                    return None
                return submit_missing(
                    run, open_cluster(run, from_launcher=False), healer=stage, own=own_job(os.environ)
                )
        except (Unreachable, QueueFull, LeaseError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"{error.message}; trying again in {pause_s:.0f} s", flush=True)
            time.sleep(pause_s)
            pause_s = min(60.0, 2 * pause_s)


def _lease(run: Run) -> Lease:
    return Lease(run.layout.lease, f"the run directory {run.layout.root}", wait_s=2 * STALE_S)


def pause(run: Run) -> int:
    """Lets running tasks save and stop, and cancels what waits; returns the number of jobs. `submit_missing` resumes."""
    write_json(run.layout.paused, {"paused": True})
    with _lease(run):  # whoever submits just now has done so before we look
        count = open_cluster(run, from_launcher=False).pause(run.id)
    run.events.append("paused", jobs=count)
    return count


def cancel(run: Run) -> int:
    """Ends all jobs of the run; all data stays. Returns the number of jobs."""
    cluster = open_cluster(run, from_launcher=False)
    ids = {job.id for job in cluster.live_jobs(run.id)}
    cluster.cancel(sorted(ids))
    with _lease(run):  # a stage that was submitting more has ended by now; what it had handed over ends too
        late = {job.id for job in cluster.live_jobs(run.id)} - ids
        cluster.cancel(sorted(late))
    ids |= late
    run.events.append("cancelled", jobs=sorted(ids))
    return len(ids)
