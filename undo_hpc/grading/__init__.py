"""Checking mathematical answers: one grammar, typed values, one table of equality; in a process that can be killed, never eval.

    from undo_hpc.grading import grade
    grade("so it is \\boxed{0.5}", "1/2").correct  # True

Importing this costs nothing; the grammar, sympy and math-verify live in worker processes only.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Iterator

from undo_hpc.grading.extract import after_hashes, extract_gold, last_boxed
from undo_hpc.grading.options import GradeItem, GradeOptions
from undo_hpc.grading.pool import Checker
from undo_hpc.records import Grade

# Raised with every change that can change a verdict; manifests and results name it, so that scores are compared like with like.
CHECKER_VERSION = "2.6"
__all__ = [
    "CHECKER_VERSION",
    "Checker",
    "Grade",
    "GradeItem",
    "GradeOptions",
    "after_hashes",
    "extract_gold",
    "grade",
    "grade_many",
    "last_boxed",
]

_DEFAULT = GradeOptions()
_checkers: dict[tuple[int, float, int], Checker] = {}
_lock = threading.Lock()


def grade(prediction: str, gold: str, *, options: GradeOptions = _DEFAULT) -> Grade:
    """Grades one prediction against its gold answer. Always returns, within `options.deadline_s` once the worker is warm.

    Args:
        prediction: a bare answer or a whole rationale.
        gold: the ground truth: a bare answer, `#### 42`, or a solution with a box.
        options: kind of answer, choices of a letter question, limits.
    """
    with _lock:
        key = (os.getpid(), options.deadline_s, options.memory_mb)
        if key not in _checkers:
            _checkers[key] = Checker(1, options.deadline_s, options.memory_mb)
        return _checkers[key].grade(GradeItem(prediction, gold, options.kind, options.choices))


def grade_many(
    pairs: Iterable[tuple[str, str]], *, workers: int | None = None, options: GradeOptions = _DEFAULT
) -> Iterator[Grade]:
    """Grades pairs of prediction and gold in their order, as a stream with bounded memory.

    Args:
        pairs: (prediction, gold).
        workers: processes; by default one for each core that this process may use.
        options: kind of answer, choices, limits; the same for all.
    """
    count = workers or len(os.sched_getaffinity(0))
    with Checker(count, options.deadline_s, options.memory_mb) as checker:
        yield from checker.grade_many(GradeItem(p, g, options.kind, options.choices) for p, g in pairs)


@atexit.register
def _close_all() -> None:
    for key, checker in _checkers.items():
        if key[0] == os.getpid():
            checker.close()
