"""The same characters once spacing is gone."""

from __future__ import annotations

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """True where both read the same; never False."""
    return True if gold.compact and gold.compact == pred.compact else None
