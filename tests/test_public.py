"""The names of a notebook: lazy, and the same figures that the files hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import undo_hpc
from tests.observe.conftest import finished  # noqa: F401
from undo_hpc.errors import ConfigError, StorageError


def test_importing_the_package_loads_nothing_but_the_guard_of_names() -> None:
    code = "import sys, undo_hpc; print(sorted(m for m in sys.modules if m.startswith(('undo_hpc.', 'pydantic', 'rich'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['undo_hpc.system', 'undo_hpc.system.hub_names']"


def test_every_public_name_is_there_and_documented() -> None:
    for name in undo_hpc.__all__:
        assert getattr(undo_hpc, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'opne_run'"):
        _ = undo_hpc.opne_run


def test_a_finished_run(finished: Path) -> None:  # noqa: F811
    run = undo_hpc.open_run(str(finished))
    at = run.layout.iteration(1)
    assert [m["iteration"] for m in undo_hpc.metrics(run)] == [0, 1, 2]
    assert undo_hpc.status(run).ended and undo_hpc.status(run).next_command
    rows = undo_hpc.distilled(run, 1)
    assert len(rows) == undo_hpc.metrics(run)[1]["distilled"]["rows"] and rows[0]["teacher_solution"]
    found = list(undo_hpc.answers(run, 1, "validation"))
    lines = [
        json.loads(line)
        for path in sorted(at.shard("evaluate", 0, "validation").parent.glob("shard-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert [a.problem_id for a in found] == [line["problem_id"] for line in lines] and found
    assert list(undo_hpc.students(run)) == [0, 1, 2]


def test_what_is_not_there_is_named(finished: Path, tmp_path: Path) -> None:  # noqa: F811
    run = undo_hpc.open_run(finished)
    with pytest.raises(ConfigError, match="evaluates no 'gsm9k'") as raised:
        next(undo_hpc.answers(run, 0, "gsm9k"))
    assert "validation" in raised.value.hint
    with pytest.raises((StorageError, ConfigError)):
        undo_hpc.open_run(tmp_path)


def test_a_run_is_started_and_resumed(tmp_path: Path) -> None:
    config = undo_hpc.load_config(
        "tiny",
        [
            "iterations=1",
            "data.train.sample=36",
            "data.validation=6",
            "data.diagnosis=6",
            "train.epochs=1",
            "evaluate.limit=4",
        ],
    )
    run = undo_hpc.start(config, tmp_path / "run", quiet=True)
    assert undo_hpc.metrics(run)[0]["decision"]["action"] == "finished"
    again = undo_hpc.start(config, tmp_path / "run", quiet=True)
    assert undo_hpc.metrics(again) == undo_hpc.metrics(run)
    assert undo_hpc.grade("so it is \\boxed{0.5}", "1/2").correct
