"""`undo-hpc export`: any iteration at any time, in the shapes that the trainers' documentation names."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from undo_hpc.cli import main
from undo_hpc.cli.verbs.export import NAMES
from undo_hpc.data.distilled import read_distilled
from undo_hpc.observe.training_sets import FORMATS, ROWS, export
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.shards import read_rows


def load(path: Path, cache: Path) -> Any:
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_and_loads(
    name: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export", str(finished), "--format", name, "--iteration", "0", "--out", str(tmp_path / "out")])
        == 0
    )
    assert str(tmp_path / "out") in capsys.readouterr().out
    rows = list(load(tmp_path / "out" / ROWS, tmp_path / "cache"))
    if name == "preference":
        assert all(
            [m["role"] for m in row["chosen"] + row["rejected"]] == ["assistant", "assistant"] for row in rows
        )
        assert (
            all(row["chosen"] != row["rejected"] and row["prompt"][-1]["role"] == "user" for row in rows)
            and rows
        )
        return
    learned = list(read_distilled(open_run(finished).layout.iteration(0).distilled))
    assert [row["id"] for row in rows] == [example.id for example in learned]
    turns = [row["prompt"] + row["completion"] if name == "trl" else row["messages"] for row in rows]
    assert [turn[-1]["content"] for turn in turns] == [example.teacher_solution for example in learned]
    assert all(
        [m["role"] for m in turn] == ["user", "assistant"] and "\\boxed" in turn[0]["content"]
        for turn in turns
    )


def test_what_stands_beside_the_rows_describes_them(finished: Path, tmp_path: Path) -> None:
    run = open_run(finished)
    export(run, "axolotl", 1, tmp_path / "a")
    (given,) = yaml.safe_load((tmp_path / "a" / "axolotl.yaml").read_text())["datasets"]
    assert (
        given["type"] == "chat_template"
        and Path(given["path"]).is_file()
        and given["roles_to_train"] == ["assistant"]
    )
    export(run, "llama-factory", 1, tmp_path / "l")
    info = json.loads((tmp_path / "l" / "dataset_info.json").read_text())["undo"]
    row = next(read_rows(tmp_path / "l" / info["file_name"]))
    assert (
        info["formatting"] == "sharegpt"
        and info["tags"]["assistant_tag"] == row[info["columns"]["messages"]][-1]["role"]
    )
    export(run, "preference", 1, tmp_path / "p")
    info = json.loads((tmp_path / "p" / "dataset_info.json").read_text())["undo_preference"]
    row = next(read_rows(tmp_path / "p" / info["file_name"]))
    assert (
        info["ranking"] is True
        and {"messages", "chosen", "rejected"} == set(info["columns"].values()) <= row.keys()
    )
    assert row["chosen"]["role"] == row["rejected"]["role"] == "assistant"
    assert yaml.safe_load((tmp_path / "p" / "axolotl.yaml").read_text())["rl"] == "dpo"


def test_an_export_replaces_no_training_set_of_the_users_own(finished: Path, tmp_path: Path) -> None:
    words = ["export", str(finished), "--format", "trl", "--iteration", "0", "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ROWS).write_text("mine")
    assert main(words) == 2 and (tmp_path / "out" / ROWS).read_text() == "mine"
    (tmp_path / "out" / ROWS).unlink()
    assert main(words) == 0 == main(words) and (tmp_path / "out" / ROWS).stat().st_size > 100


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("below", ["", "sub"])
def test_nothing_is_exported_through_another_users_link(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    (mine := tmp_path / "mine").mkdir()
    (scratch := tmp_path / "scratch").mkdir()
    (scratch / "out").symlink_to(mine)
    scratch.chmod(0o1777)
    os.chown(scratch / "out", 54321, -1, follow_symlinks=False)
    out = str(scratch / "out" / below)
    assert main(["export", str(finished), "--format", "trl", "--iteration", "0", "--out", out]) == 2
    assert main(["data", "export", "tiny", out]) == 2
    page = str(scratch / "out" / "page.html")
    assert main(["compare", str(finished), str(finished), "--page", page]) == 2
    assert not list(mine.iterdir())


def test_no_pair_holds_a_problem_that_is_held_out(finished: Path, tmp_path: Path) -> None:
    run = open_run(finished)
    held_out = {
        p.problem_id for name in ("validation", "diagnosis", "gsm", "hard") for p in run.problems(name)
    }
    for iteration in range(3):
        done = export(run, "preference", iteration, tmp_path / str(iteration))
        rows = list(read_rows(done.folder / ROWS))
        assert len(rows) == done.rows and held_out.isdisjoint(row["id"] for row in rows)
        assert {row["rejected_from"] for row in rows} <= {"student", "teacher"}


def test_the_same_export_again_replaces_it_and_others_are_left_alone(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(copied), "--format", "trl"]
    assert main(words) == 0 and main(words) == 0
    folder = open_run(copied).layout.exported("trl", 2)
    assert folder.is_dir() and main([*words, "--out", str(copied)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main([*words, "--iteration", "9"]) == 2
    assert "iterations with one: 0, 1, 2" in capsys.readouterr().err
    for number in range(3):
        shutil.rmtree(copied / f"iter_{number:03d}" / "distilled")
    assert main(words) == 2 and "no distilled set yet" in capsys.readouterr().err


def test_the_verb_knows_all_formats() -> None:
    assert tuple(FORMATS) == NAMES
