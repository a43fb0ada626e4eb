"""PURE: does the teacher, scoring an answer after a rationale, copy the answer's error, or dislike right steps?

A teacher that sees the very attempt that it scores copies it: a model of 135M parameters preferred the wrong digit in 80 % of cases with the
attempt before it, in 62 % with attempt and right rationale, in 22 % with the problem alone and in none with the rationale alone. So the
attempt is never shown; here is measured whether it comes through all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from undo_hpc.method.diagnosis import diagnose
from undo_hpc.records import Attempt

MIN_WRONG = 10  # fewer say nothing
PREFERRED = 0.5  # a wrong result with more than this probability is what the teacher would write itself
MARGIN = 0.05  # more wrong results than this share may not become preferred; measured in docs/signals.md
NOISE = 2  # nor more than so many of few
MAX_DISLIKE = 0.5  # nats a token that right answers may become less likely


@dataclass
class Copying:
    """Sums over answers that were scored both after the problem alone and after the problem and a rationale.

    Attributes:
        wrong: answers with a wrong result that can be pointed at.
        preferred, preferred_plain: those whose wrong result the teacher prefers after the rationale, and after the problem alone.
        wrong_change: sum of the changes of its log-probability, in nats.
        right, right_change: right answers, and the sum of the changes of their mean log-probability a token.
    """

    wrong: int = 0
    preferred: int = 0
    preferred_plain: int = 0
    wrong_change: float = 0.0
    right: int = 0
    right_change: float = 0.0

    def add_wrong(self, after: float, plain: float) -> None:
        """A wrong result by its log-probabilities after the rationale and after the problem alone."""
        self.wrong += 1
        self.preferred += after > math.log(PREFERRED)
        self.preferred_plain += plain > math.log(PREFERRED)
        self.wrong_change += after - plain

    def add_right(self, after: float, plain: float) -> None:
        """A right answer by its mean log-probabilities a token."""
        self.right += 1
        self.right_change += after - plain

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    @classmethod
    def total(cls, parts: Iterable[Mapping[str, Any]]) -> Copying:
        """The sum over the tasks of a stage."""
        found = cls()
        for part in parts:
            for name in (f.name for f in fields(cls)):
                setattr(found, name, getattr(found, name) + part.get(name, 0))
        return found

    def problem(self) -> str:
        """What is wrong with these scores as something to learn from, in words; empty where nothing is."""
        if self.wrong < MIN_WRONG or self.preferred - self.preferred_plain <= max(NOISE, MARGIN * self.wrong):
            return ""
        return (
            f"after its rationale the teacher prefers {self.preferred} of {self.wrong} wrong results of the student, and "
            f"{self.preferred_plain} after the problem alone: the student would be taught its own errors"
        )

    def warnings(self) -> list[str]:
        """What may go wrong, in words."""
        found = []
        if self.wrong >= MIN_WRONG and self.wrong_change > 0:
            change = self.wrong_change / self.wrong
            found.append(
                f"wrong results are likelier to the teacher after its rationale ({change:+.2f} nats, {self.wrong} answers)"
            )
        if self.right and self.right_change < -MAX_DISLIKE * self.right:
            change = self.right_change / self.right
            found.append(
                f"right answers are less likely after the rationale ({change:+.2f} nats a token, {self.right} answers): reverse "
                "divergence will punish right steps that are not written as the rationale writes them"
            )
        return found


def wrong_result(attempt: Attempt, ground_truth: str, rationale: str) -> tuple[int, int] | None:
    """The characters of a wrong attempt that hold its first wrong result; None where no step can be pointed at."""
    found = diagnose(attempt.text, ground_truth, attempt.verdict, attempt.finish_reason, rationale)
    if found.kind != "arithmetic":
        return None
    return attempt.text.rfind("=", found.start, found.end) + 1 or found.start, found.end


def tokens_within(pieces: list[str], start: int, end: int) -> range:
    """The tokens that hold these characters.

    Args:
        pieces: the text of each token; together the whole text.
    """
    at, first, last = 0, len(pieces), 0
    for number, piece in enumerate(pieces):
        if at < end and at + len(piece) > start:
            first, last = min(first, number), number + 1
        at += len(piece)
    return range(first, last)
