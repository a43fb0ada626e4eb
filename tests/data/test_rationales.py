"""Rationales that exist already find their problems, and every row that does not is counted and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.config.schema import RationalesConfig
from undo_hpc.data.rationales import Rationales, load_rationales
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.records import Problem, content_id

TRAIN = [Problem(content_id(f"What is {k} + 1?"), f"What is {k} + 1?", str(k + 1), k) for k in range(4)]
HELD = [Problem(content_id("What is 9 + 1?"), "What is 9 + 1?", "10", 9)]


def load(tmp_path: Path, rows: list[dict[str, Any]], **keys: Any) -> Rationales:
    path = tmp_path / "given.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_rationales(RationalesConfig(path=str(path), **keys), TRAIN, HELD)


def test_rows_find_their_problem_by_text_however_it_is_spaced(tmp_path: Path) -> None:
    rows = [
        {"problem": "what is  1 + 1?", "teacher_solution": "one"},
        {"problem": "What is 1 + 1?", "teacher_solution": "two"},
        {"problem": "What is 1 + 1?", "teacher_solution": "one"},
        {"problem": "What is 9 + 1?", "teacher_solution": "held"},
        {"problem": "Who is there?", "teacher_solution": "nobody"},
        {"problem": "What is 2 + 1?", "teacher_solution": None},
    ]
    found = load(tmp_path, rows)
    assert found.texts == {TRAIN[1].problem_id: ["one", "two"]}
    assert found.counts() == {
        "problems": 1,
        "rows": 6,
        "held_out": 1,
        "unknown": 1,
        "unusable": 1,
        "twice": 1,
    }
    assert any("line 5" in text and "Who is there?" in text for text in found.examples)
    assert any("line 6" in text and "missing" in text for text in found.examples)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "What is 0 + 1?", "solution": "r"},
        {"input": "What is 0 + 1?", "output": "r"},
        {"messages": [{"role": "user", "content": "What is 0 + 1?"}, {"role": "assistant", "content": "r"}]},
    ],
)
def test_the_usual_columns_are_found(tmp_path: Path, row: dict[str, Any]) -> None:
    assert load(tmp_path, [row]).texts == {TRAIN[0].problem_id: ["r"]}


def test_columns_and_ids_may_be_named(tmp_path: Path) -> None:
    rows = [{"key": TRAIN[2].problem_id, "problem": "another wording", "think": "a", "say": "b"}]
    assert load(tmp_path, rows, id="key", rationale="{think}\n{say}").texts == {TRAIN[2].problem_id: ["a\nb"]}
    with pytest.raises(DataError, match="no column 'nr' for the ids"):
        load(tmp_path, rows, id="nr", rationale="say")
    with pytest.raises(
        DataError, match=r"data.rationales: given.jsonl has no column for the rationale"
    ) as error:
        load(tmp_path, rows, rationale="nothing")
    assert "data.rationales.rationale" in str(error.value) and "fields." not in str(error.value)


def test_a_source_of_other_problems_is_refused_with_an_example_of_both(tmp_path: Path) -> None:
    rows = [{"problem": f"Who is number {k}?", "teacher_solution": "x"} for k in range(3)]
    with pytest.raises(DataError) as error:
        load(tmp_path, rows)
    text = str(error.value)
    assert (
        "none of the 3 rows of given.jsonl" in text
        and "Who is number 0?" in text
        and "What is 0 + 1?" in text
    )


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run directory"):
        load_rationales(RationalesConfig(run=str(tmp_path)), TRAIN, HELD)
