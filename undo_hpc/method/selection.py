"""PURE: which of a problem's attempts the student learns from, and what becomes of the rationales it has already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from undo_hpc.records import Example

Combine = Literal["replace", "add", "best"]
Row = dict[str, Any]  # an Attempt as it stands in a shard; dataclasses would cost the merge too much


def accept(attempts: Sequence[Row], *, most: int, keep_wrong: bool) -> tuple[list[Row], dict[str, int]]:
    """The attempts good enough to learn from (at most `most`, distinct texts), and why the others were left out.

    Args:
        attempts: rows of one problem, in order of attempt, with the reasons found by `quality.assess` in `flags`.
        keep_wrong: a wrong answer is no reason to leave an attempt out; right ones go first all the same.
    """
    kept: list[Row] = []
    dropped: dict[str, int] = {}
    for row in sorted(attempts, key=lambda row: "wrong" in row["flags"]):
        reasons = [flag for flag in row["flags"] if not (keep_wrong and flag == "wrong")]
        if not reasons and any(row["text"] == other["text"] for other in kept):
            reasons = ["duplicate"]
        if not reasons and len(kept) >= most:
            reasons = ["surplus"]
        if reasons:
            dropped[reasons[0]] = dropped.get(reasons[0], 0) + 1
        else:
            kept.append(row)
    return sorted(kept, key=lambda row: row["attempt"]), dropped


def combine(old: Sequence[Example], new: Sequence[Example], how: Combine) -> list[Example]:
    """The rationales of one problem after an iteration.

    `replace`: the new ones where there are any, else the old. `add`: both, equal texts once. `best`: as many as before,
    right ones first, then the shortest in tokens (in characters where the tokens of one are unknown; ties go to
    the new).
    """
    if not new or not old:
        return list(new or old)
    if how == "replace":
        return list(new)
    if how == "add":
        texts = {example.teacher_solution for example in old}
        return [*old, *(example for example in new if example.teacher_solution not in texts)]
    both = [*new, *old]
    counted = all(
        example.completion_tokens for example in both
    )  # of rationales that were given no tokens are known

    def length(example: Example) -> int:
        return example.completion_tokens if counted else len(example.teacher_solution)

    ranked = sorted(both, key=lambda e: (e.verdict != "correct", length(e)))
    return sorted(ranked[: max(len(new), len(old))], key=lambda e: (e.iteration, e.attempt))
