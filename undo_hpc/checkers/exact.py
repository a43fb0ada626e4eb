"""Right where the final answer is the ground truth, letter by letter; only white space is made equal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from undo_hpc.grading import GradeItem
from undo_hpc.grading.extract import last_boxed
from undo_hpc.grading.reasoning import visible
from undo_hpc.records import Grade


class ExactText:
    """The last box, or the last line that is not empty, compared as text (NFC, runs of white space as one space)."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item, in their order."""
        for item in items:
            text = visible(item.prediction)
            boxed = last_boxed(text)
            lines = [line for line in text.splitlines() if line.strip()]
            answer = _plain(boxed if boxed is not None else lines[-1] if lines else "")
            verdict = "correct" if answer == _plain(item.gold) else "wrong" if answer else "no_answer"
            yield Grade(verdict, answer, "exact text", boxed=boxed is not None)  # type: ignore[arg-type]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
