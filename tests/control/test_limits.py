"""A queue that takes fewer jobs than an iteration has: as much is submitted as fits, with a stage at its end that submits the rest."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.control.test_dispatch import STAGES, Queue
from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.commands import QueueFull
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.control.continue_run import _chain_ends_here
from undo_hpc.control.dependencies import submit_in_order
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.run import Run


class SmallQueue(Queue):
    """Takes `limit` jobs; those of a submission that is cancelled leave room."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.held: dict[str, Submission] = {}
        self.count = 0

    def used(self) -> int:
        return sum(self.places(submission) for submission in self.held.values())

    def submit(self, submission: Submission) -> tuple[str, ...]:
        if self.used() + self.places(submission) > self.limit:
            raise QueueFull("your account may not have that many jobs in the queue")
        self.count += 1
        self.held[str(self.count)] = submission
        return (str(self.count),)

    def cancel(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            del self.held[job_id]


def submissions(*without: str) -> list[Submission]:
    return [
        Submission(
            Path("/r"),
            0,
            stage.name,
            tuple(range(len(stage.tasks))) if stage.is_array else None,
            StageResources(),
        )
        for stage in STAGES
        if stage.name not in without
    ]


def submitted(limit: int, *without: str) -> dict[str, Submission]:
    queue = SmallQueue(limit)
    result = submit_in_order(queue, STAGES, submissions(*without), [], ())
    assert [name for name, _, _ in result] == [held.stage for held in queue.held.values()]
    ids = {held.stage: job_id for job_id, held in queue.held.items()}
    for held in queue.held.values():
        assert set(held.after) <= set(ids.values()), "nothing waits for what was taken back"
    return {held.stage: held for held in queue.held.values()}


# three shards, one baseline task, merge, train, one evaluation, advance: eight places
@pytest.mark.parametrize(
    ("limit", "without", "stages"),
    [
        (8, (), "generate baseline merge train evaluate advance"),
        (7, (), "generate baseline merge"),
        (6, (), "generate baseline merge"),
        (5, (), "generate baseline merge"),
        (4, (), "generate merge"),  # advance submits the baseline later
        (4, ("generate", "baseline", "merge"), "train evaluate advance"),
        (2, ("generate", "baseline", "merge"), "train advance"),
        (2, ("generate", "baseline", "merge", "train"), "evaluate advance"),
        (2, ("generate", "merge", "train"), "baseline advance"),
    ],
)
def test_as_much_as_fits_and_what_continues_it(limit: int, without: tuple[str, ...], stages: str) -> None:
    found = submitted(limit, *without)
    assert " ".join(found) == stages
    last = list(found.values())[-1]
    assert len(found) == 1 or last.after, "it starts when the others have ended"


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
def test_less_room_than_one_stage_needs_is_told_with_numbers(limit: int) -> None:
    queue = SmallQueue(limit)
    with pytest.raises(
        QueueFull, match="generate takes 3 places in the queue, and the stage behind it one more"
    ):
        submit_in_order(queue, STAGES, submissions(), [], ())
    assert not queue.held, "nothing is left half-submitted"


def test_a_merge_that_nothing_waits_for_submits_the_rest(tmp_path: Path) -> None:
    run = Run(Layout(tmp_path), RunConfig())
    journal = SubmissionJournal(run.layout.submissions)

    def submit(stage: str) -> None:
        journal.intend(f"{stage}-{len(journal.entries())}", stage, 0, 0, None, ())

    submit("merge")
    assert _chain_ends_here(run, 0) and not _chain_ends_here(run, 1)
    submit("advance")
    assert not _chain_ends_here(run, 0)
