"""What waits for what: the order of submission, and the jobs that each stage depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from undo_hpc.cluster.base import WAITING, Cluster, LiveJob, Submission
from undo_hpc.errors import ClusterError
from undo_hpc.pipeline.plan import Stage


def connected_stages(stages: Sequence[Stage], name: str) -> set[str]:
    """PURE: a stage, all that it depends on, and all that depends on it."""
    before, behind = {name}, {name}
    for stage in reversed(stages):
        if stage.name in before:
            before |= set(stage.after)
    for stage in stages:
        if behind & set(stage.after):
            behind.add(stage.name)
    return before | behind


def dependencies(
    stage: Stage, by_name: Mapping[str, Stage], ids: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Jobs that a stage waits for: those of the stages before it, or, where one has none, of those before that one."""
    found: dict[str, None] = {}
    for name in stage.after:
        here = ids.get(name) or dependencies(by_name[name], by_name, ids)
        found.update(dict.fromkeys(here))
    return tuple(found)


def submit_in_order(
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
            after = dependencies(stage, by_name, ids) + (ending if stage.name == "advance" else ())
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
