"""A campaign with real models: an arm that is matched in tokens, and a second student that learns from the data of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import REPO
from tests.e2e.campaign import SMALL
from undo_hpc.data.distilled import parquet_files
from undo_hpc.pipeline.run import open_run

ASKED = """
name: arms
base: tiny
seeds: [0, 1]
arms:
  plain: {method.preset: one_shot}
  two_samples: {method.preset: one_shot, generate.samples: 2, train.tokens: {match: plain}}
primary: [[two_samples, plain]]
problem_set: tiny
student: last
repeat: false
transfer: {arms: [plain, two_samples], set: {student.model: "tiny:student-1", train.epochs: 1}}
"""


@pytest.mark.timeout(1500)
def test_a_matched_arm_and_a_second_student(tmp_path: Path) -> None:
    (tmp_path / "arms.yaml").write_text(ASKED)
    small = ("data.train.sample=60", "evaluate.limit=50", "data.validation=4", "data.diagnosis=4")
    place = tmp_path / "out"
    command = [
        sys.executable,
        str(REPO / "launchers" / "run_campaign.py"),
        str(tmp_path / "arms.yaml"),
        "--dir",
        str(place),
    ]
    command += [
        word
        for item in (*SMALL, *small, "evaluate.baseline=false", "train.preflight=false")
        for word in ("--set", item)
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((place / "results.json").read_text())
    assert not found["pending"] and len(found["runs"]) == 4 and len(found["transfer"]["runs"]) == 4
    (compared,), (second,) = found["comparisons"], found["transfer"]["comparisons"]
    assert compared["seeds"] == second["seeds"] == 2 and "student_tokens" not in compared["unmatched"]
    for seed in (0, 1):
        trained = {r["arm"]: r["ledger"]["student_tokens"] for r in found["runs"] if r["seed"] == seed}
        assert trained["two_samples"] == pytest.approx(trained["plain"], rel=0.1)
        learned = open_run(place / "transfer" / "plain" / f"seed-{seed:03d}")
        assert learned.config.student.model == "tiny:student-1" and learned.layout.iterations() == [0]
        rows = [
            row["teacher_solution"]
            for run, iteration in ((learned, 0), (open_run(place / "plain" / f"seed-{seed:03d}"), 0))
            for path in parquet_files(run.layout.iteration(iteration).distilled)
            for row in pq.read_table(path).to_pylist()
        ]
        assert sorted(rows[: len(rows) // 2]) == sorted(rows[len(rows) // 2 :]), "word for word"
    page = (place / "report" / "index.html").read_text()
    assert "Another student, the same data" in page and "tiny:student-1" in page
