"""PURE: which of a problem's attempts the student learns from, and what becomes of the rationales it has already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from undo_hpc.config.method import MethodConfig
from undo_hpc.records import Example

Combine = Literal["replace", "add", "best"]
Select = Literal["first", "shortest", "likeliest"]
Row = dict[str, Any]  # an Attempt as it stands in a shard; dataclasses would cost the merge too much


@dataclass(frozen=True)
class Choice:
    """What is kept of a problem's attempts.

    Attributes:
        most: at most so many, with distinct texts.
        keep_wrong: a wrong answer is no reason to leave an attempt out; right ones go first all the same.
        select: which ones where there are more.
        samples: attempts that every problem has; the others were retries.
        low, high: bounds of the pass rate, the share of those attempts that is right; a problem outside is not learned from.
    """

    most: int = 1
    keep_wrong: bool = False
    select: Select = "first"
    samples: int = 1
    low: float = 0.0
    high: float = 1.0

    @property
    def by_rate(self) -> bool:
        """Whether the pass rate leaves problems out."""
        return self.low > 0 or self.high < 1


def choice_of(method: MethodConfig, samples: int) -> Choice:
    """The choice that a configuration makes of `samples` rationales a problem."""
    keeps_wrong = method.wrong_rationales == "keep"
    rates = (method.pass_rate_min, method.pass_rate_max)
    return Choice(method.keep or samples, keeps_wrong, method.select, samples, *rates)


def pass_rate(attempts: Sequence[Row], samples: int) -> float:
    """Share of right attempts among the first `samples`. Retries are made only until one is right, so they would bias it."""
    first = [row["verdict"] == "correct" for row in attempts if row["attempt"] < samples]
    return sum(first) / len(first) if first else 0.0


def candidates(attempts: Sequence[Row], choice: Choice) -> list[Row]:
    """The attempts that `accept` chooses from by likelihood; none where it keeps all of them, or leaves the problem out."""
    if choice.by_rate and not choice.low <= pass_rate(attempts, choice.samples) <= choice.high:
        return []
    good = [r for r in attempts if not set(r["flags"]) - ({"wrong"} if choice.keep_wrong else set())]
    return good if len({row["text"] for row in good}) > choice.most else []


def accept(attempts: Sequence[Row], choice: Choice) -> tuple[list[Row], dict[str, int]]:
    """The attempts good enough to learn from, in order of attempt, and why the others were left out.

    Args:
        attempts: rows of one problem, in order of attempt, with the reasons found by `quality.assess` in `flags`; where the likeliest are
            chosen, those that were scored have `log_p`, and the others come last.
    """
    if choice.by_rate and not choice.low <= pass_rate(attempts, choice.samples) <= choice.high:
        return [], {"pass_rate": len(attempts)}

    def rank(row: Row) -> tuple[bool, float]:
        if choice.select == "likeliest":
            log_p = row.get("log_p")
            return "wrong" in row["flags"], math.inf if log_p is None else -log_p
        return "wrong" in row["flags"], row["completion_tokens"] if choice.select == "shortest" else 0

    kept: list[Row] = []
    dropped: dict[str, int] = {}
    for row in sorted(attempts, key=rank):
        reasons = [flag for flag in row["flags"] if not (choice.keep_wrong and flag == "wrong")]
        if not reasons and any(row["text"] == other["text"] for other in kept):
            reasons = ["duplicate"]
        if not reasons and len(kept) >= choice.most:
            reasons = ["surplus"]
        if reasons:
            dropped[reasons[0]] = dropped.get(reasons[0], 0) + 1
        else:
            kept.append(row)
    return sorted(kept, key=lambda row: row["attempt"]), dropped


def combine(old: Sequence[Example], new: Sequence[Example], how: Combine) -> list[Example]:
    """The rationales of one problem after an iteration.

    `replace`: the new ones where there are any, else the old. `add`: both, equal texts once. `best`: at most as many as there were of
    one kind, equal texts once, right ones first, then the shortest in tokens (in characters where the tokens of one are unknown; ties
    go to the new).
    """
    if not new or not old:
        return list(new or old)
    if how == "replace":
        return list(new)
    if how == "add":
        texts = {example.teacher_solution for example in old}
        return [*old, *(example for example in new if example.teacher_solution not in texts)]
    texts = {example.teacher_solution for example in new}
    both = [*new, *(example for example in old if example.teacher_solution not in texts)]
    counted = all(
        example.completion_tokens for example in both
    )  # of rationales that were given no tokens are known

    def length(example: Example) -> int:
        return example.completion_tokens if counted else len(example.teacher_solution)

    ranked = sorted(both, key=lambda e: (e.verdict != "correct", length(e)))
    return sorted(ranked[: max(len(new), len(old))], key=lambda e: (e.iteration, e.attempt))
