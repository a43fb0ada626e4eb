"""PURE: which problems get a new rationale, and what the teacher is shown of each.

The method (arXiv 2504.02521) leaves both open; the switches are MethodConfig's. The controls live here too: `blind` shows
the same problems without the student's attempt, `shuffled` shows another problem's attempt.

What of the diagnosis, the score and the past is shown is set by `hint`, `show_score` and `history`.

Problems and feedback come as they stand on disk (rows of Problem and Feedback): there may be a million of each.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Any

from undo_hpc.config.schema import MethodConfig
from undo_hpc.method.diagnosis import failed_step
from undo_hpc.records import ShownExample, Target

Fields = dict[str, Any]  # a row as it stands on disk

_SPLITS = {"train": ("train",), "diagnosis": ("diagnosis",), "both": ("train", "diagnosis")}


def is_chosen(feedback: Fields, method: MethodConfig) -> bool:
    """Whether a problem is to be regenerated: it is of the chosen splits, and wrong, unstable, or any."""
    if method.signal == "on_policy" and method.condition == "one_shot":
        return False  # the teacher scores the student's answers and writes nothing more
    if feedback["split"] not in _SPLITS[method.errors_from]:
        return False
    if method.regenerate == "all" or feedback["verdict"] != "correct":
        return True
    return method.regenerate == "wrong_and_unstable" and bool(feedback["unstable"])


def learned_splits(method: MethodConfig, iteration: int) -> tuple[str, ...]:
    """The splits whose problems the teacher may write for: diagnosis only after its problems were failed."""
    return ("train",) if iteration == 0 or method.errors_from == "train" else ("train", "diagnosis")


def shuffle_group(feedback: Fields) -> tuple[str, int]:
    """The structure within which attempts are exchanged: the kind of error, and how many equations there are."""
    return feedback["error_kind"], feedback["student_answer"].count("=")


def partners(groups: Sequence[Hashable], seed: int) -> list[int]:
    """For each row the number of the row whose attempt is shown instead of its own (control `shuffled`).

    It is the neighbour in a random order within the same group, so that only the link between problem and error is cut. Rows
    that are alone in their group exchange among themselves.
    """
    rng = random.Random(seed)
    members: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    lonely = [rows[0] for rows in members.values() if len(rows) == 1]
    pools = [rows for rows in members.values() if len(rows) > 1]
    if len(lonely) == 1 and pools:  # by itself it would keep its own attempt
        pools[0] += lonely
    else:
        pools.append(lonely)
    found = [0] * len(groups)
    for pool in pools:
        rng.shuffle(pool)
        for row, other in zip(pool, [*pool[1:], *pool[:1]], strict=True):
            found[row] = other
    return found


def choose_examples(correct: Sequence[bool], count: int, seed: int) -> list[int]:
    """Which problems of `method.examples_from` are shown to the teacher as examples, wrong answers first; the same for every problem.

    Args:
        correct: whether the student was right, for each problem of that split in its order.
    """
    order = list(range(len(correct)))
    random.Random(seed).shuffle(order)
    return sorted(order, key=lambda row: correct[row])[:count]


def first_target(problem: Fields, method: MethodConfig, given: Sequence[str] = ()) -> Target:
    """What the teacher is asked for a first rationale. Only the control `ground_truth` takes the data's own solution along.

    Args:
        given: rationales that exist already; no teacher is asked then.
    """
    return Target(
        problem_id=problem["problem_id"],
        idx=problem["idx"],
        style="plain",
        problem=problem["problem"],
        ground_truth=problem["ground_truth"],
        kind=problem["kind"],
        options=tuple(problem["options"]),
        solution=problem["solution"] if method.condition == "ground_truth" else "",
        given=tuple(given),
    )


def refine_target(
    problem: Fields,
    feedback: Fields,
    attempt: Fields,
    method: MethodConfig,
    examples: tuple[ShownExample, ...] = (),
    history: tuple[ShownExample, ...] = (),
) -> Target:
    """What the teacher is asked for a new rationale.

    Args:
        feedback: the problem's row of the last iteration.
        attempt: the row whose attempt is shown: the same one, or its partner's in the control `shuffled`.
        examples: of other problems; the problem itself is left out of them.
        history: of earlier iterations, oldest first, as `shown_past` makes it.
    """
    blind = method.condition == "blind"
    return Target(
        problem_id=problem["problem_id"],
        idx=problem["idx"],
        style="refine",
        problem=problem["problem"],
        rationale=feedback["rationale"],
        student_answer="" if blind else attempt["student_answer"],
        verdict="" if blind else attempt["verdict"],
        shown_ground_truth=problem["ground_truth"] if method.show_truth else "",
        examples=tuple(e for e in examples if e.problem_id != problem["problem_id"]),
        history=history,
        score=score_of(attempt) if method.show_score and not blind else "",
        error_kind=attempt["error_kind"] if method.hint == "kind" and not blind else "",
        failed_step=_failed_step(attempt) if method.hint == "step" and not blind else "",
        ground_truth=problem["ground_truth"],
        kind=problem["kind"],
        options=tuple(problem["options"]),
    )


def shown_example(feedback: Fields, method: MethodConfig) -> ShownExample:
    """A row of feedback as an example of another problem."""
    return _shown(feedback, feedback, method, 0)


def shown_past(feedback: Fields, attempt: Fields, method: MethodConfig, iteration: int) -> ShownExample:
    """What was shown and tried in an earlier iteration; `attempt` as for `refine_target`."""
    return _shown(feedback, attempt, method, iteration)


def score_of(feedback: Fields) -> str:
    """The share of the student's answers that are right, in words: 0, 0.25, 1."""
    return f"{round(feedback['score'], 2):g}"


def _shown(feedback: Fields, attempt: Fields, method: MethodConfig, iteration: int) -> ShownExample:
    blind = method.condition == "blind"
    return ShownExample(
        problem_id=feedback["problem_id"],
        problem=feedback["problem"],
        rationale=feedback["rationale"],
        student_answer="" if blind else attempt["student_answer"],
        verdict="" if blind else attempt["verdict"],
        score=score_of(attempt) if method.show_score and not blind else "",
        iteration=iteration,
    )


def _failed_step(attempt: Fields) -> str:
    wrong = attempt["verdict"] != "correct"
    return failed_step(attempt["student_answer"], attempt["rationale"]) if wrong else ""


def expected_length(target: Target) -> int:
    """How long answering takes, in characters: a long problem has a long answer, and a rationale is replaced by one like it."""
    return len(target.problem) + len(target.rationale)
