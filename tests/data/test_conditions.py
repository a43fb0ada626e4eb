"""`where`: conditions are compared as the column's values, and the values that are there are told where nothing meets them."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from undo_hpc.config.schema import FieldsConfig, SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.data.conditions import meets
from undo_hpc.errors import DataError


@pytest.mark.parametrize(
    ("value", "condition", "met"),
    [
        ("math", "math", True), ("math ", "math", True), ("Math", "math", False),
        (True, "true", True), (True, True, True), (True, False, False), ("Yes", True, True), ("no", False, True), ("maybe", True, False),
        (1, True, True), (0, False, True), (2, True, False), (False, "No", True), (True, "1", True),
        (2, 2, True), (2.0, 2, True), ("2", 2, True), ("2.0", 2, True), (2, "2", True), (Decimal("2.00"), 2, True), (0.1, "0.1", True), (3, 2, False),
        (10**30, str(10**30), True), (10**30 + 1, 10**30, False), ("2", "2.0", False),
        (None, None, True), ("", None, True), (float("nan"), None, True), ("x", None, False), (None, "x", False), (None, False, False),
        ("a", ["a", "b"], True), ("c", ["a", "b"], False), (2, ["2", 3], True), (None, ["a", None], True),
        ("proof", {"not": "proof"}, False), ("4", {"not": "proof"}, True), (None, {"not": "proof"}, True), (None, {"not": None}, False),
        ("proof", {"not": ["proof", "notfound"]}, False), ("4", {"not": ["proof", "notfound"]}, True),
        (["algebra", "geometry"], "geometry", True), (["algebra"], "geometry", False), (["algebra"], {"not": "algebra"}, False), ([], "x", False),
        (datetime.date(2024, 5, 1), "2024-05-01", True), ({"a": 1}, "x", False), ("x", float("nan"), False),
    ],
)  # fmt: skip
def test_a_value_and_a_condition(value: Any, condition: Any, met: bool) -> None:
    assert meets(value, condition) is met


ROWS = [
    {
        "problem": f"p{i}",
        "answer": i,
        "ok": i % 2 == 0,
        "valid": "Yes" if i % 3 else "No",
        "level": i,
        "about": {"kind": "ab"[i % 2]},
    }
    for i in range(6)
]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("{valid: Yes}", [1, 2, 4, 5]), ("{ok: true}", [0, 2, 4]), ('{ok: "true"}', [0, 2, 4]), ("{ok: 1}", [0, 2, 4]), ("{level: 2}", [2]),
        ("{level: [2, '3']}", [2, 3]), ("{level: {not: [2, 3]}, ok: yes}", [0, 4]), ("{about.kind: a}", [0, 2, 4]), ("{valid: {not: no}}", [1, 2, 4, 5]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_as_it_stands_in_a_yaml_file(tmp_path: Path, where: str, kept: list[int], kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    source = SourceConfig.model_validate({"path": str(path), "where": yaml.safe_load(where)})
    loaded = load_problems(source)
    assert [p.idx for p in loaded.problems] == kept
    assert loaded.source["filtered"] == 6 - len(kept)
    assert SourceConfig.model_validate(json.loads(source.model_dump_json())) == source, (
        "it is kept in the run directory"
    )


def test_nothing_meets_it_and_the_values_that_are_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with pytest.raises(DataError) as caught:
        load_problems(SourceConfig(path=str(path), where={"valid": "maybe", "ok": True}))
    assert (
        "6 do not meet `where`: 'valid' holds 'Yes' (4), 'No' (2); 'ok' holds true (3), false (3)"
        in caught.value.message
    )
    with pytest.raises(DataError, match=r"'level' holds 0 \(1\), .*"):
        load_problems(
            SourceConfig(path=str(path), where={"level": "x"}, fields=FieldsConfig(problem="problem"))
        )


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"a": {"no": 1}}, "neither a value, a list"), ({"a": [[1]]}, "neither a value, a list"), ({"a": []}, "neither a value, a list"),
        ({"a": {"not": {"not": 1}}}, "neither a value, a list"), ({True: 1}, "put it in quotes"), ({2024: "x"}, "put it in quotes"),
    ],
)  # fmt: skip
def test_a_condition_that_is_none_is_refused(where: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SourceConfig(where=where)


def test_a_date_is_compared_as_text() -> None:
    assert SourceConfig(where=yaml.safe_load("{day: 2024-05-01}")).where == {"day": "2024-05-01"}
