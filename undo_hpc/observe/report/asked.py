"""What the teacher was asked for the examples that the report shows, and its attempts that are not learned from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from undo_hpc.observe.attempts import PromptReader, answered_by_teacher
from undo_hpc.pipeline.run import Run
from undo_hpc.records import Attempt

MOST_WRONG = 3  # attempts that are shown of a problem


@dataclass
class Asked:
    """The prompt of one problem in one iteration, as the teacher read it, and its attempts that were not right."""

    prompt: str = ""
    remark: str = ""
    wrong: list[Attempt] = field(default_factory=list)


def read_asked(run: Run, wanted: Collection[tuple[int, int, str]]) -> dict[tuple[int, str], Asked]:
    """By (iteration, problem id), for those that the teacher wrote for.

    Args:
        wanted: (iteration, idx, problem id).

    Raises:
        StorageError, DataError: templates or a shard cannot be read.
    """
    found: dict[tuple[int, str], Asked] = {}
    reader = PromptReader(run)
    for iteration in sorted({number for number, _, _ in wanted}):
        places = sorted((idx, who) for number, idx, who in wanted if number == iteration)
        for row in answered_by_teacher(run, iteration, places):
            key = iteration, row.problem.problem_id
            if key not in found:
                found[key] = Asked(*reader.as_read(row))
            if row.attempt.verdict != "correct" and len(found[key].wrong) < MOST_WRONG:
                found[key].wrong.append(row.attempt)
    return found
