"""A checker of another version, for tests of what rests on verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from undo_hpc.grading import GradeItem
from undo_hpc.records import Grade


class Harsh:
    """Nothing is right."""

    def __init__(self, **_: object) -> None:
        return None

    def __enter__(self) -> Harsh:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        return (Grade("wrong", "1", "harsh") for _ in items)
