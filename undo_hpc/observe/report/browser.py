"""PURE: what the browser of examples shows of each, as plain values for `browser.html.jinja`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undo_hpc.observe.report.asked import Asked
from undo_hpc.observe.report.examples import OUTCOMES, Example, mark_differences, shorten
from undo_hpc.observe.report.mathematics import set_mathematics
from undo_hpc.records import Feedback
from undo_hpc.system.wording import percentage

KIND_NAMES = {
    "arithmetic": "a false equation",
    "setup": "true equations, wrong plan",
    "truncated": "cut off",
    "format": "right value, wrong form",
    "no_answer": "no answer",
}
OUTCOME_NAMES = {"fixed": "Fixed", "broken": "Broken", "wrong": "Still wrong"}


MOST_PROMPT = 5000  # characters of a prompt that is shown


def browser(
    examples: Sequence[Example], asked: Mapping[tuple[int, str], Asked] | None = None
) -> dict[str, Any]:
    """The examples, how many there are of each outcome, and the pairs of iterations that they compare.

    Args:
        asked: what the teacher was asked, by iteration and problem.
    """
    counts = {name: sum(e.outcome == name for e in examples) for name in OUTCOMES}
    return {
        "shown": [_example(e) | {"asked": _asked(e, asked or {})} for e in examples],
        "outcomes": [(name, OUTCOME_NAMES[name], count) for name, count in counts.items() if count],
        "pairs": list(dict.fromkeys((e.before, e.after) for e in examples)),
    }


def _asked(example: Example, asked: Mapping[tuple[int, str], Asked]) -> list[dict[str, Any]]:
    """The prompt of each iteration and the attempts that nobody learns from; nothing where the teacher did not write for the problem."""
    found = []
    for number in (example.before, example.after):
        given = asked.get((number, example.old.problem_id)) if number is not None else None
        if given is None:
            continue
        wrong = [
            (row.verdict.replace("_", " "), ", ".join(row.flags), set_mathematics(shorten(row.text)))
            for row in given.wrong
        ]
        found.append(
            {
                "iteration": number,
                "prompt": shorten(given.prompt, MOST_PROMPT),
                "remark": given.remark,
                "wrong": wrong,
            }
        )
    return found


def _example(example: Example) -> dict[str, Any]:
    old, new = example.old, example.new
    left, right = shorten(old.rationale), shorten(new.rationale) if new else ""
    changed = new is not None and old.rationale != new.rationale
    if changed and left and right:
        left, right = mark_differences(
            left, right
        )  # marked texts stay as they are: a mark may begin inside a formula
    else:
        left, right = set_mathematics(left), set_mathematics(right)
    return {
        "outcome": example.outcome,
        "title": OUTCOME_NAMES[example.outcome] if new else "Wrong",
        "before": example.before,
        "after": example.after,
        "split": old.split,
        "idx": old.idx,
        "kind": KIND_NAMES.get(old.error_kind or (new.error_kind if new else ""), ""),
        "problem": set_mathematics(shorten(old.problem)),
        "truth": shorten(old.ground_truth, 200),
        "left": (_rationale_title(old, example.before), left),
        "right": (_rationale_title(new, example.after or 0), right) if new else None,
        "note": "" if changed or not old.rationale else "unchanged",
        "answers": [_answer(old, example.before)] + ([_answer(new, example.after or 0)] if new else []),
    }


def _rationale_title(row: Feedback, iteration: int) -> str:
    """What the text is: the teacher's rationale, or the data's solution where the student learned from none.

    Runs of before the field have it by the split: nothing is ever distilled from validation problems.
    """
    from_data = row.rationale_from_data or row.split == "validation"
    return "Solution in the data, not trained on" if from_data else f"Rationale of iteration {iteration}"


def _answer(row: Feedback, iteration: int) -> dict[str, Any]:
    right = row.verdict == "correct"
    score = f"; {percentage(row.score)} % of its answers are right" if row.unstable else ""
    verdict = "right" if right else row.verdict.replace("_", " ")
    return {
        "iteration": iteration,
        "right": right,
        "verdict": verdict + score,
        "text": set_mathematics(shorten(row.student_answer)),
    }
