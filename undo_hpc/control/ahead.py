"""Iterations that are submitted before they are planned, for sites whose nodes may not submit (`submit_from: login`).

The launcher submits the stages of the iterations that follow, each iteration behind the advance of the one before, as many as the queue
takes. How many tasks an iteration will have is not known by then: its arrays have as many elements as the present plan suggests, and each
element takes its share of the plan that exists when it starts (`Submission.ahead`). advance makes that plan (`continue_run.plan_next`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from undo_hpc.cluster.base import WAITING, Cluster, LiveJob, Submission
from undo_hpc.cluster.commands import QueueFull
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.config.parts import canary_problems, effective_iterations
from undo_hpc.control.dependencies import submit_in_order
from undo_hpc.control.listed import require_gone
from undo_hpc.control.position import latest_planned, read_state
from undo_hpc.errors import EvidenceError
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, plan_iteration
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.pipeline.workload import Workload
from undo_hpc.system.invocation import resume_hint
from undo_hpc.system.wording import counted

log = logging.getLogger(__name__)
Submitted = list[tuple[int, str, tuple[str, ...], int]]  # iteration, stage, job ids, elements


def expected_stages(run: Run, plan: IterationPlan, iteration: int) -> tuple[Stage, ...]:
    """The stages of a later iteration as the present plan suggests them; the stages are certain, the numbers of their tasks are not."""
    sets: dict[str, int] = {}
    for part in plan.slices("evaluate"):
        sets[part.problem_set] = max(part.stop, sets.get(part.problem_set, 0))
    trained = plan.problems or sets.get("train", 1)
    workload = Workload(**plan.workload) if plan.workload else None
    expected = plan_iteration(
        run.config, iteration, problems=trained, sets=sets, workload=workload, train_problems=trained
    )
    return build_graph(run.config, run.layout, expected)


def ahead_submissions(run: Run, plan: IterationPlan, iteration: int) -> list[Submission]:
    """What a later iteration asks for as a whole."""
    attempts = SubmissionJournal(run.layout.submissions).attempts(iteration)
    return [
        Submission(
            run_dir=run.layout.root,
            iteration=iteration,
            stage=stage.name,
            indices=tuple(range(len(stage.tasks))) if stage.is_array else None,
            resources=stage.resources,
            tag=run.id,
            attempt=attempts.get(stage.name, 0),
            ahead=True,
        )
        for stage in expected_stages(run, plan, iteration)
    ]


def submit_ahead(
    run: Run,
    cluster: Cluster,
    plan: IterationPlan,
    jobs: Sequence[LiveJob],
    behind: Sequence[str],
    by: str,
    listed: Collection[str],
    *,
    moved: bool,
) -> Submitted:
    """Submits the iterations behind the present one as far as they are not queued and the queue takes them, each whole or not at all.

    Args:
        plan: of the present iteration.
        jobs: all jobs of the run that the scheduler holds.
        behind: ids of the present iteration's advance.
        by: who submits, for the event.
        listed: ids of all jobs of the run that the scheduler lists.
        moved: whether that advance is a new one: jobs that waited for another wait for it.

    Raises:
        ClusterError: refused or unreachable; what was submitted of that iteration is cancelled.
    """
    done: Submitted = []
    last = effective_iterations(run.config)
    for iteration in range(plan.iteration + 1, last):
        if not behind:
            break
        stages = expected_stages(run, plan, iteration)
        shards = sum(len(stage.tasks) for stage in stages if stage.name == "generate")
        if canary_problems(run.config, iteration, plan.problems or 10**9, shards):
            break  # its array is planned when the canary is released
        mine = [job for job in jobs if job.iteration == iteration]
        queued = {job.stage for job in mine}
        if moved:
            first = {stage.name for stage in stages if not stage.after}
            waiting = {job.id for job in mine if job.stage in first and job.state in WAITING}
            cluster.redirect(sorted(waiting), behind)
        todo = [s for s in ahead_submissions(run, plan, iteration) if s.stage not in queued]
        require_gone(run, cluster, iteration, {s.stage for s in todo}, listed)
        try:
            new = submit_in_order(cluster, stages, todo, mine, (), before=tuple(behind))
        except QueueFull:
            log.warning(
                "the queue takes no more jobs of yours now: %s of %d not submitted yet; run the same command again later",
                counted(last - iteration, "iteration"),
                last,
            )
            break
        if new:
            stages_done = {stage: {"jobs": list(ids), "tasks": n} for stage, ids, n in new}
            run.events.append("submitted", iteration=iteration, by=by, stages=stages_done, ahead=True)
        done += [(iteration, *each) for each in new]
        ids = {stage: job_ids for stage, job_ids, _ in new}
        moved = LAST_STAGE in ids
        behind = ids.get(LAST_STAGE) or sorted({job.id for job in mine if job.stage == LAST_STAGE})
    return done


def wait_for_plan(run: Run, iteration: int, *, wait_s: float) -> IterationPlan | None:
    """The plan of an iteration, or None where the run has ended before it.

    Args:
        wait_s: within which a file of another node shows.

    Raises:
        EvidenceError: there is none: the iteration before is not complete.
    """
    deadline = time.monotonic() + wait_s
    while (plan := run.plan(iteration)) is None:
        state = read_state(run) if iteration > latest_planned(run) else None
        if state is not None and state.ended:
            return None
        if time.monotonic() >= deadline:
            raise EvidenceError(
                f"iteration {iteration} has no plan yet",
                hint=f"run the launcher, which plans it when the one before is complete: {resume_hint(run.layout.root)}",
            )
        time.sleep(1.0)
    return plan
