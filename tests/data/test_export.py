"""A benchmark in boxed form, as `datasets` reads it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.benchmarks import load_benchmark
from undo_hpc.data.export import boxed_solution, export_benchmark
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.grading.extract import last_boxed
from undo_hpc.records import Problem


def test_round_trip_through_datasets(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"question": "Half of 48?", "answer": "It is 48/2=<<48/2=24>>24.\n#### 24"}) + "\n"
        + json.dumps({"question": "Nothing?", "answer": ""}) + "\n"
    )  # fmt: skip
    out, count = export_benchmark("gsm8k", tmp_path / "out", SourceConfig(path=str(tmp_path / "rows.jsonl")))
    rows = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["test"]
    assert count == 1 and rows["problem"][0] == "Half of 48?"
    assert rows["answer"][0] == "24"
    assert rows["solution"][0] == "It is 48/2=24.\n\\boxed{24}"
    card = (out / "README.md").read_text()
    assert "license: mit" in card
    assert "rows.jsonl line 2" in card
    again = load_benchmark("gsm8k", SourceConfig.model_validate({"path": str(out)}))
    assert again.problems[0].ground_truth == "24", "what was exported is itself a source"


def test_the_tiny_benchmark_is_exported(tmp_path: Path) -> None:
    out, _ = export_benchmark("tiny", tmp_path / "tiny")
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(out / "data").to_pylist()
    assert len(rows) == 400
    assert all(last_boxed(row["solution"]) == row["answer"] for row in rows)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="is there already"):
        export_benchmark("tiny", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"
    with pytest.raises(ConfigError, match="no benchmark named"):
        export_benchmark("tinny", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("", "\\boxed{7}"),
        ("3+4=7", "3+4=7\n\\boxed{7}"),
        ("3+4=\\boxed{7}.", "3+4=\\boxed{7}."),
        ("3+4=<<3+4=7>>7 pens\n#### 7", "3+4=7 pens\n\\boxed{7}"),
        ("3+4=7 #### or\n \t#### 7 \n\n", "3+4=7 #### or\n\\boxed{7}"),
        pytest.param("3" + "\t" * 300_000 + ".", "3" + "\t" * 300_000 + ".\n\\boxed{7}", id="in linear time"),
    ],
)
def test_boxed_solution(solution: str, expected: str) -> None:
    assert boxed_solution(Problem("i", "p", "7", 0, solution=solution)) == expected


def test_another_users_link_beside_it_is_not_followed(tmp_path: Path) -> None:
    (mine := tmp_path / "mine").mkdir()
    (mine / "README.md").write_text("keep me")
    (tmp_path / ".out.tmp").symlink_to(mine)
    out, _ = export_benchmark("tiny", tmp_path / "out")
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("README.md", "keep me")]
    assert not out.is_symlink() and sorted(p.name for p in tmp_path.iterdir()) == [".out.tmp", "mine", "out"]
