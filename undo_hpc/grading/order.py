"""The order in which the deciders are asked, and the comparison of two extracted answers by it.

To add a decider: one file in `deciders/` with `decide(gold, pred, compare)`, one line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from undo_hpc.grading import guard
from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import (
    NeedsAlgebra,
    OutOfBounds,
    base,
    clock,
    congruence,
    date,
    expression,
    intervals,
    matrix,
    number,
    parts,
    ratio,
    relation,
    same,
    text,
)

DECIDERS = (
    ("same", same.decide),  # the same characters
    ("base", base.decide),  # 204_5
    ("clock", clock.decide),  # 12:30
    ("number", number.decide),  # exact quantities, percent, units
    ("matrix", matrix.decide),  # matrices, piecewise functions
    ("date", date.decide),  # June 20
    ("congruence", congruence.decide),  # 3 (mod 7)
    ("text", text.decide),  # words
    ("interval", intervals.decide),  # sets of reals, inequalities
    ("parts", parts.decide),  # lists, sets, tuples, labels, plus-minus
    ("relation", relation.decide),  # equations
    ("ratio", ratio.decide),  # 3:4
    ("expression", expression.decide),  # identity of expressions
)
_WORD_THEN_NUMBER = re.compile(r"(?<![\\A-Za-z])(?!mod\b)[A-Za-z]{2,}\u27e7?\s+\d")  # `1 over 6`
_SIDE_BY_SIDE = re.compile(
    r"(?<!frac)(?:^|[\s,(])\d+(?:\.\d+)?\s+\d+(?:\.\d+)?(?=[\s,)]|$)"
)  # `0.25 1.0 1.6` is no product
MAX_LENGTH = 5000
MAX_COMPARISONS = 4000
MAX_DEPTH = 12
Algebra = Callable[[str, str], bool | None]


@dataclass
class Comparison:
    """One comparison with its budget. Without `algebra` it raises NeedsAlgebra where no cheap decider can say."""

    algebra: Algebra | None = None
    method: str = ""
    _left: int = field(default=MAX_COMPARISONS)
    _depth: int = 0

    def equal(self, gold: str, pred: str) -> bool | None:
        """Whether two answers are equal; None where one of them could not be read. `method` says who decided.

        Raises:
            NeedsAlgebra: only algebra can say, and there is none here.
            OutOfBounds: too long, too deep, or too large to compute.
        """
        return self._equal(Answer(gold), Answer(pred))

    def _equal(self, a: Answer, b: Answer) -> bool | None:
        if len(a.raw) > MAX_LENGTH or len(b.raw) > MAX_LENGTH:
            if a.raw.strip() == b.raw.strip():
                self.method = "same"
                return True
            raise OutOfBounds(f"an answer of more than {MAX_LENGTH} characters")
        for name, decide in DECIDERS:
            verdict = decide(a, b, self._part)
            if verdict is not None:
                self.method = name
                return verdict
        return self._by_algebra(a, b)

    def _part(self, gold: str, pred: str) -> bool:
        self._left -= 1
        if self._left < 0 or self._depth >= MAX_DEPTH:
            raise OutOfBounds("too many parts to compare")
        self._depth += 1
        try:
            return bool(self._equal(Answer(gold, part=True), Answer(pred, part=True)))
        finally:
            self._depth -= 1

    def _by_algebra(self, a: Answer, b: Answer) -> bool | None:
        if hopeless(a, b):
            self.method = "unread"
            return None
        guard.check(a.clean)
        guard.check(b.clean)
        if self.algebra is None:
            raise NeedsAlgebra
        self.method = "algebra"
        return self.algebra(a.body_and_unit[0], b.body_and_unit[0])


def hopeless(a: Answer, b: Answer) -> bool:
    """Whether algebra could not make sense of the answers either: words, or nothing at all."""
    if not a.clean or not b.clean or len(b.plain_words) > 2 or len(a.plain_words) > 2:
        return True
    return any(
        (_WORD_THEN_NUMBER.search(answer.clean) and answer.wordy) or _SIDE_BY_SIDE.search(answer.clean)
        for answer in (a, b)
    )
