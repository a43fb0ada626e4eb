"""What the caller may choose, and what is to be graded."""

from __future__ import annotations

from dataclasses import dataclass

from undo_hpc.records import AnswerKind


@dataclass(frozen=True, slots=True)
class GradeOptions:
    """How to grade.

    Args:
        kind: kind of answer; `auto` tells it from the gold answer.
        choices: texts of the options of a letter question, in the order A, B, C ...
        deadline_s: seconds after which the algebra of one answer is killed (verdict `timeout`).
        memory_mb: address space of the process that does algebra, in MiB.
    """

    kind: AnswerKind = "auto"
    choices: tuple[str, ...] = ()
    deadline_s: float = 5.0
    memory_mb: int = 2048


@dataclass(frozen=True, slots=True)
class GradeItem:
    """One prediction with its gold answer; `choices` are the texts of the options of a letter question."""

    prediction: str
    gold: str
    kind: AnswerKind = "auto"
    choices: tuple[str, ...] = ()
