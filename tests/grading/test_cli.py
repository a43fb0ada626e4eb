"""`python -m undo_hpc.grading`: rows kept, clear errors, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from undo_hpc.errors import ExitCode
from undo_hpc.grading.__main__ import main


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_keep_what_they_have_and_gain_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    data = [
        {"id": 1, "pred": "\\boxed{0.5}", "gold": "1/2"},
        {"id": 2, "pred": None, "gold": 7},
        {"id": 3, "pred": "a\ud800 8", "gold": "9"},
    ]
    source.write_text("\n\n".join(json.dumps(row) for row in data))
    assert main([str(source), str(target), "--workers", "1"]) == 0
    found = rows(target)
    assert [row["verdict"] for row in found] == ["correct", "no_answer", "wrong"]
    assert found[0] == data[0] | {
        "verdict": "correct",
        "answer": "0.5",
        "method": "expression",
        "boxed": True,
    }
    assert [row["id"] for row in found] == [1, 2, 3]
    assert "graded 3 rows" in capsys.readouterr().err


def test_other_field_names_and_choices(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        json.dumps({"output": "it is forty", "target": "B", "choices": ["ten", "forty"]}) + "\n"
    )
    assert (
        main(
            [
                str(source),
                str(target),
                "--pred-field",
                "output",
                "--gold-field",
                "target",
                "--kind",
                "letter",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    assert rows(target)[0]["verdict"] in ("correct", "wrong")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"pred": "1", "gold": "1"}\n{broken\n', "line 2"),
        ('{"pred": "1"}\n', "no key 'gold'"),
        ("[1, 2]\n", "not list"),
        ("\x00\n", "not JSON"),
    ],
)
def test_bad_lines_name_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(content)
    assert main([str(source), str(target), "--workers", "1"]) == ExitCode.WRONG_INPUT
    message = capsys.readouterr().err
    assert says in message and "in.jsonl" in message and "->" in message
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_missing_input_and_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([str(tmp_path / "no.jsonl"), str(tmp_path / "out.jsonl"), "--workers", "1"])
        == ExitCode.WRONG_INPUT
    )
    source = tmp_path / "in.jsonl"
    source.write_text("")
    assert main([str(source), str(tmp_path / "no" / "out.jsonl"), "--workers", "1"]) == ExitCode.WRONG_INPUT
    assert main([str(source), str(tmp_path / "out.jsonl"), "--workers", "1"]) == 0
    assert "the input is empty" in capsys.readouterr().err


def test_as_a_command_between_pipes() -> None:
    line = json.dumps({"pred": "5", "gold": "5"}) + "\n"
    command = [sys.executable, "-m", "undo_hpc.grading", "-", "-", "--workers", "2"]
    done = subprocess.run(command, input=line * 100, capture_output=True, text=True, timeout=300, check=True)
    assert len(done.stdout.splitlines()) == 100


def test_another_users_link_beside_the_output_is_not_followed(tmp_path: Path) -> None:
    source, target, mine = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "mine"
    source.write_text(json.dumps({"pred": "1", "gold": "1"}) + "\n")
    mine.write_text("keep me")
    (tmp_path / f".out.jsonl.{os.getpid()}.tmp").symlink_to(mine)
    assert main([str(source), str(target), "--workers", "1"]) == 0
    assert mine.read_text() == "keep me" and not target.is_symlink() and len(rows(target)) == 1
