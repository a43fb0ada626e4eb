"""PURE: which problems get a new rationale, and what the teacher is shown of each.

The method (arXiv 2504.02521) leaves both open; the switches are MethodConfig's. The controls live here too: `blind` shows
the same problems without the student's attempt, `shuffled` shows another problem's attempt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from undo_hpc.config.schema import MethodConfig
from undo_hpc.records import Feedback, Problem


@dataclass(frozen=True, slots=True)
class Target:
    """A problem for the teacher. `feedback` is None for a first rationale."""

    problem: Problem
    feedback: Feedback | None = None

    @property
    def style(self) -> str:
        """How the attempt is labelled: `plain` or `refine`."""
        return "plain" if self.feedback is None else "refine"


def select_feedback(feedback: Sequence[Feedback], method: MethodConfig) -> list[Feedback]:
    """The rows whose problems are to be regenerated: from the chosen splits, wrong, unstable, or all."""
    splits = {"train": ("train",), "diagnosis": ("diagnosis",), "both": ("train", "diagnosis")}[
        method.errors_from
    ]
    rows = [row for row in feedback if row.split in splits]
    if method.regenerate == "all":
        return rows
    unstable = method.regenerate == "wrong_and_unstable"
    return [row for row in rows if row.verdict != "correct" or (unstable and row.unstable)]


def shuffle_errors(rows: Sequence[Feedback], seed: int) -> list[Feedback]:
    """Each row with the attempt of another problem of a like structure: the neighbour in a random order within the same
    kind of error and number of equations, so that only the link between problem and error is cut."""
    rng = random.Random(seed)
    groups: dict[tuple[str, int], list[Feedback]] = {}
    for row in rows:
        groups.setdefault((row.error_kind, row.student_answer.count("=")), []).append(row)
    lonely = [group[0] for group in groups.values() if len(group) == 1]
    pools = [group for group in groups.values() if len(group) > 1]
    if len(lonely) == 1 and pools:  # by itself it would keep its own attempt
        pools[0] += lonely
    else:
        pools.append(lonely)
    shuffled: dict[str, Feedback] = {}
    for pool in pools:
        order = list(pool)
        rng.shuffle(order)
        for row, other in zip(order, [*order[1:], *order[:1]], strict=True):
            shuffled[row.problem_id] = replace(
                row, student_answer=other.student_answer, verdict=other.verdict
            )
    return [shuffled[row.problem_id] for row in rows]


def choose_targets(
    iteration: int,
    problems: Sequence[Problem],
    held_out: Sequence[Problem],
    feedback: Sequence[Feedback],
    method: MethodConfig,
    seed: int,
) -> list[Target]:
    """What the teacher writes for in an iteration, in the order of the splits.

    Args:
        problems: the training split.
        held_out: the diagnosis split; its failed problems become training material where `errors_from` includes it.
        feedback: rows of the last iteration; empty in iteration 0.
    """
    if iteration == 0:
        return [Target(problem) for problem in problems]
    rows = select_feedback(feedback, method)
    if method.condition == "blind":
        rows = [replace(row, student_answer="") for row in rows]
    elif method.condition == "shuffled":
        rows = shuffle_errors(rows, seed + iteration)
    chosen = {row.problem_id: row for row in rows}
    pool = [*problems, *held_out] if method.errors_from != "train" else list(problems)
    return [Target(problem, chosen[problem.problem_id]) for problem in pool if problem.problem_id in chosen]


def example_rows(feedback: Sequence[Feedback], count: int, seed: int) -> list[Feedback]:
    """Tuples of the validation split to show the teacher as examples, wrong answers first; the same for every problem."""
    rows = [row for row in feedback if row.split == "validation"]
    random.Random(seed).shuffle(rows)
    return sorted(rows, key=lambda row: row.verdict == "correct")[:count]
