"""What is said at the end of an iteration, and when a person is asked to look."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from undo_hpc.observe.outcome import outcome, warnings_of

SOUND: dict[str, Any] = {
    "iteration": 0,
    "sets": {
        "validation": {
            "answers": 200,
            "accuracy": 0.45,
            "low": 0.38,
            "high": 0.52,
            "truncated": 3,
            "errors": 0,
        }
    },
    "baseline": {"validation": {"accuracy": 0.4, "low": 0.33, "high": 0.47}},
    "generate": {"rows": 918, "correct": 834, "problems": 850, "errors": 0},
    "distilled": {"rows": 834, "refreshed": 834, "dropped": {"wrong": 84}},
    "decision": {"action": "continue", "best_iteration": 0, "why": "the best so far"},
}


def test_the_outcome_in_a_line() -> None:
    assert outcome(SOUND) == (
        "iteration 0 is done: validation 45.0 % [38.0, 52.0], untrained 40.0 % [33.0, 47.0]; "
        "834 of 918 attempts right; 834 rows learned; continues"
    )
    later = SOUND | {"iteration": 2, "baseline": None, "decision": {"action": "converged"}, "sets": {}}
    assert outcome(later) == "iteration 2 is done: 834 of 918 attempts right; 834 rows learned; converged"


@pytest.mark.parametrize(
    ("place", "values", "words"),
    [
        (
            "distilled",
            {"refreshed": 3, "dropped": {"truncated": 4, "wrong": 234}},
            "rationales to learn from for only 3 of 850 problems .*4 truncated, 234 wrong",
        ),
        (
            "generate",
            {"errors": 10, "error": "no room"},
            "10 of 918 requests to the teacher failed, for example: no room",
        ),
        (
            "validation",
            {"accuracy": 0.3, "low": 0.24, "high": 0.37},
            "student worse: 30.0 % .24.0, 37.0. on validation, untrained 40.0 %",
        ),
        ("validation", {"truncated": 80}, "student were cut off: validation 80 of 200"),
        (
            "validation",
            {"errors": 3, "error": "no room"},
            "requests to the student failed: validation 3 of 200, for example: no room",
        ),
    ],
)
def test_each_doubt_is_told_and_no_other(place: str, values: dict[str, Any], words: str) -> None:
    assert warnings_of(SOUND) == []
    metrics = copy.deepcopy(SOUND)
    (metrics["sets"][place] if place in metrics["sets"] else metrics[place]).update(values)
    (told,) = warnings_of(metrics)
    assert re.search(words, told), told


def test_rows_that_training_left_out_are_told_with_the_reason() -> None:
    train = {"rows_given": 38, "rows_learned": 4, "rows_left_out": {"longer than max_length (40)": 34}}
    (told,) = warnings_of(SOUND | {"train": train})
    assert "4 of 38 rows learned (34: longer than max_length (40))" in told and "train.max_length" in told
    assert "4 of 38 rows learned (34: longer than" in outcome(SOUND | {"train": train})
    assert warnings_of(SOUND | {"train": train | {"rows_learned": 38, "rows_left_out": {}}}) == warnings_of(
        SOUND
    )
