"""Rows as they come from disk."""

import pytest

from undo_hpc.records import Attempt, Problem

NEEDED = {"problem_id": "p", "idx": 3, "attempt": 0, "style": "plain", "text": "2", "verdict": "correct", "answer": "2", "method": "number",
          "finish_reason": "stop", "prompt_tokens": 4, "completion_tokens": 2, "seed": 1, "temperature": 0.5}  # fmt: skip


def test_a_row_from_disk_is_the_row_that_was_written() -> None:
    row = Attempt(**NEEDED, flags=("a", "b"), sent={"n": 1})  # type: ignore[arg-type]
    stored = row.to_dict() | {"flags": ["a", "b"], "of_a_newer_schema": [1]}
    assert Attempt.from_dict(stored) == row and hash(Attempt.from_dict(stored).flags)
    assert Attempt.from_dict(NEEDED) == Attempt(**NEEDED)  # type: ignore[arg-type]


def test_defaults_are_each_rows_own() -> None:
    first, second = Attempt.from_dict(NEEDED), Attempt.from_dict(NEEDED)
    first.sent["n"] = 1
    assert second.sent == {} and first.stop == ()
    made = Problem.from_dict(
        {"problem_id": "p", "problem": "?", "ground_truth": "1", "idx": 0, "options": ["a"]}
    )
    assert made.options == ("a",) and made.metadata == {} and made.kind == "auto"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(TypeError, match="Attempt: verdict is missing"):
        Attempt.from_dict({key: value for key, value in NEEDED.items() if key != "verdict"})
