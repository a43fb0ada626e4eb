"""What waits for what: the order of submission, and the jobs that each stage depends on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from undo_hpc.cluster.base import WAITING, Cluster, LiveJob, Submission
from undo_hpc.cluster.commands import QueueFull
from undo_hpc.errors import ClusterError
from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.stages import LAST_STAGE, RESUBMITTING_STAGES
from undo_hpc.system.wording import counted

log = logging.getLogger(__name__)


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


class _Chain:
    """Stages of an iteration being submitted, each behind those before it.

    Attributes:
        submitted: (stage, job ids, number of tasks) in order.
    """

    def __init__(
        self,
        cluster: Cluster,
        stages: Sequence[Stage],
        submissions: Iterable[Submission],
        jobs: Sequence[LiveJob],
        ending: tuple[str, ...],
        before: tuple[str, ...],
        nodes_submit: bool,
    ) -> None:
        self.cluster, self.stages, self.jobs, self.ending = cluster, stages, jobs, ending
        self.before, self.nodes_submit = before, nodes_submit
        self.todo = {submission.stage: submission for submission in submissions}
        self.by_name: dict[str, Stage] = {stage.name: stage for stage in stages}
        self.ids: dict[str, list[str]] = {
            stage.name: list(dict.fromkeys(job.id for job in jobs if job.stage == stage.name))
            for stage in stages
        }
        self.submitted: list[tuple[str, tuple[str, ...], int]] = []
        self.moved = False  # older jobs wait for new ones

    def after(self, stage: Stage) -> tuple[str, ...]:
        if not stage.after:
            return self.before
        return dependencies(stage, self.by_name, self.ids) + (self.ending if stage.name == LAST_STAGE else ())

    def redirect(self, stage: Stage) -> None:
        """Moves what waits already behind what is new before it."""
        if any(name in stage.after for name, _, _ in self.submitted):
            waits = {job.id for job in self.jobs if job.stage == stage.name and job.state in WAITING}
            self.moved = self.moved or bool(waits)
            self.cluster.redirect(sorted(waits), self.after(stage))

    def submit(self, stage: Stage) -> None:
        submission = replace(self.todo[stage.name], after=self.after(stage))
        new = self.cluster.submit(submission)
        self.ids[stage.name] += new
        self.submitted.append((stage.name, new, len(submission.indices or (0,))))

    def take_back(self) -> None:
        """Cancels the stage that was submitted last."""
        name, new, _ = self.submitted.pop()
        self.cluster.cancel(new)
        self.ids[name] = [job_id for job_id in self.ids[name] if job_id not in new]

    def shorten(self, refused: Stage, error: QueueFull) -> None:
        """Keeps as much of the chain as the queue takes: up to a resubmitting stage, which submits the rest when it ends.

        Raises QueueFull where not even one stage with a resubmitting one behind it has room.
        """
        if any(name in RESUBMITTING_STAGES for name, _, _ in self.submitted):
            while self.submitted[-1][0] not in RESUBMITTING_STAGES:
                self.take_back()
            return self._say()
        later = self.stages[self.stages.index(refused) :]
        end = next((s for s in later if s.name in RESUBMITTING_STAGES and s.name in self.todo), None)
        if end is refused and self.submitted:
            self.take_back()
        while end is not None and any(name != "serve" for name, _, _ in self.submitted):
            try:
                self.submit(end)
                return self._say()
            except QueueFull:
                self.take_back()
        first = next(s for s in self.stages if s.name in self.todo and s.name != "serve")
        places = self.cluster.places(self.todo[first.name])
        raise QueueFull(
            f"{error.message}; {first.name} takes {counted(places, 'place')} in the queue, and the stage behind it one more"
            f"{self.cluster.submit_limit()}",
            hint=error.hint,
        )

    def _say(self) -> None:
        last = self.submitted[-1][0]
        rest = (
            f"{last} submits the rest when it ends"
            if self.nodes_submit
            else f"run the same command again when {last} has ended"
        )
        log.warning("the queue takes no more jobs of yours now: %s", rest)


def submit_in_order(
    cluster: Cluster,
    stages: Sequence[Stage],
    submissions: Iterable[Submission],
    jobs: Sequence[LiveJob],
    ending: tuple[str, ...],
    *,
    before: tuple[str, ...] = (),
    nodes_submit: bool = True,
) -> list[tuple[str, tuple[str, ...], int]]:
    """Submits each stage behind those before it; jobs that wait already are moved behind what is new before them.

    Where the queue takes no more, as much is submitted as fits with a resubmitting stage at its end.

    Args:
        stages: of the iteration, in the order of the graph.
        jobs: of the iteration, that the scheduler holds.
        ending: jobs that a new advance waits for too.
        before: advance of the iteration before, where that has not ended: this iteration is submitted whole or not at all.
        nodes_submit: whether a resubmitting stage submits what the queue did not take.

    Returns:
        (stage, job ids, number of tasks) of each submission. Where one fails all of them are cancelled, unless older jobs have
        been moved behind them.
    """
    chain = _Chain(cluster, stages, submissions, jobs, ending, before, nodes_submit)
    try:
        for stage in stages:
            chain.redirect(stage)
            if stage.name not in chain.todo:
                continue
            try:
                chain.submit(stage)
            except QueueFull as error:
                if (
                    before or chain.moved or LAST_STAGE not in chain.todo
                ):  # older jobs wait, or continue the run
                    raise
                chain.shorten(stage, error)
                break
    except BaseException:
        if not chain.moved:  # nothing older waits for what is new: leave nothing half-submitted
            with contextlib.suppress(
                ClusterError
            ):  # what a silent controller keeps is found by the next launch
                cluster.cancel([job_id for _, new, _ in chain.submitted for job_id in new])
        raise
    return chain.submitted
