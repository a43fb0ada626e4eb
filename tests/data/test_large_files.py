"""What is too large for memory gives the same problems, splits and rejected rows as what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undo_hpc.config.schema import DataConfig, SourceConfig
from undo_hpc.data import arrow_files, load_problems, problem_file, rows, split_problems
from undo_hpc.data.json_files import LinesTable
from undo_hpc.data.problem_file import Selected, select
from undo_hpc.data.rows import read_table
from undo_hpc.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"problem": f"What is {k % 37} and {k % 29}? é", "answer": str(k), "solution": f"It is {k}.", "level": k % 3}
    for k in range(120)
] + [{"problem": "", "answer": "1"}, {"problem": "What is 1 and 1? é", "answer": "7"}]  # fmt: skip


def write(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" * (k == 5) + "\n" for k, row in enumerate(ROWS)))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=50)
    return path


@pytest.mark.parametrize("sample", [None, 40])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_large_files_and_many_problems_are_read_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sample: int | None
) -> None:
    path = write(tmp_path, kind)
    source = SourceConfig.model_validate(
        {"path": str(path), "sample": sample, "fields": {"metadata": ["level"]}}
    )
    config = DataConfig(validation=7, diagnosis=0.2)
    small = load_problems(source)
    small_splits = split_problems(small.problems, config, seed=3)
    monkeypatch.setattr(rows, "LARGE", 0)
    monkeypatch.setattr(arrow_files, "LARGE", 0)
    monkeypatch.setattr(problem_file, "IN_MEMORY", 10)
    large = load_problems(source)
    large_splits = split_problems(large.problems, config, seed=3)
    assert isinstance(large.problems, Selected) and isinstance(large_splits.train, Selected)
    assert list(large.problems) == small.problems and large.rejected == small.rejected
    assert (large.source, large.duplicates) == (small.source, small.duplicates)
    for name in ("train", "diagnosis", "validation"):
        mine, theirs = getattr(large_splits, name), getattr(small_splits, name)
        assert list(mine) == list(theirs) and mine[0] == theirs[0] and mine[1:3] == theirs[1:3]
        assert list(select(mine, [2, 0])) == list(select(theirs, [2, 0]))


def test_a_broken_line_of_a_large_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "jsonl")
    monkeypatch.setattr(rows, "LARGE", 0)
    assert isinstance(read_table(path), LinesTable)
    path.write_text(path.read_text() + '{"problem": "cut')
    with pytest.raises(DataError, match=r"line 12\d: invalid JSON"):
        read_table(path)


@pytest.mark.parametrize("text", ['[{"problem": "p", "answer": "1"}]', '{"problem": "p",\n "answer": "1"}',
                                  '{"problem": ["p", "q"], "answer": ["1", "2"]}'])  # fmt: skip
def test_what_is_called_lines_and_holds_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    small = read_table(path)
    monkeypatch.setattr(rows, "LARGE", 0)
    large = read_table(path)
    assert [large.row(k) for k in range(len(large))] == [small.row(k) for k in range(len(small))]
