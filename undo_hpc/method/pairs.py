"""PURE: preference pairs from what a run has written: a right answer against a wrong one of the same problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from undo_hpc.records import Attempt

Author = Literal["teacher", "student"]
WRONG = ("wrong", "no_answer")  # the checker has decided; `unparsed` and `timeout` may be right


@dataclass(frozen=True)
class Pair:
    """A pair of one problem, and who wrote its two texts."""

    problem_id: str
    chosen: str
    rejected: str
    chosen_from: Author
    rejected_from: Author


@dataclass
class Left:
    """Why wrong answers are in no pair."""

    reasons: Counter[str] = field(default_factory=Counter)


def make_pairs(
    order: Iterable[str],
    teacher: Mapping[str, Sequence[Attempt]],
    student: Mapping[str, Sequence[Attempt]],
    learned: Mapping[str, Sequence[str]],
    left: Left,
) -> Iterator[Pair]:
    """Each distinct wrong answer to a problem once, the student's first, against a right text: a rationale of the distilled set where
    there is one, then another right attempt of the teacher, then a right answer of the student.

    A wrong answer that was cut off, that failed, or of which the checker is not sure is in no pair, and counted. A right one that was cut off,
    or that `generate.quality` refuses, is not what another trainer is to prefer.

    Args:
        order: problem ids.
        teacher, student: attempts by problem id.
        learned: rationales of the distilled set by problem id.
        left: counts why wrong answers are left out.
    """
    for key in order:
        right: list[tuple[str, Author]] = [(text, "teacher") for text in learned.get(key, ())]
        wrong: list[tuple[str, Author]] = []
        authors: tuple[tuple[Author, Mapping[str, Sequence[Attempt]]], ...] = (
            ("teacher", teacher),
            ("student", student),
        )
        correct = {text for text, _ in right}
        for author, attempts in authors:
            correct |= {row.text for row in attempts.get(key, ()) if row.verdict == "correct"}
            right += [(row.text, author) for row in attempts.get(key, ()) if _is_exemplary(row)]
        for author, attempts in reversed(authors):
            for row in attempts.get(key, ()):
                if row.verdict == "correct":
                    continue
                reason = _unfit(row) or ("no right answer" if not right else "")
                if reason:
                    left.reasons[reason] += 1
                elif row.text not in correct and row.text not in {text for text, _ in wrong}:
                    wrong.append((row.text, author))
        for text, author in wrong:
            yield Pair(key, right[0][0], text, right[0][1], author)


def _is_exemplary(row: Attempt) -> bool:
    """Whether an answer is right, whole, and nothing that the distilled set refused."""
    return row.verdict == "correct" and row.finish_reason == "stop" and not row.flags


def _unfit(row: Attempt) -> str:
    if row.verdict not in WRONG:
        return "not decided"
    if row.finish_reason != "stop":
        return "cut off" if row.finish_reason == "length" else "failed"
    return "" if row.text.strip() else "empty"
