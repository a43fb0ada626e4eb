"""Arms and seeds on a real SLURM: nobody stays, equal work is done once, jobs start the arms that wait for it and write the page."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO
from tests.slurm.small import PROFILE, base_config, environment
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until


def test_arms_share_their_first_iteration_and_survive_a_killed_launcher(
    start_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    start_lab()
    base = base_config()
    base["iterations"] = 2
    base["evaluate"] |= {
        "benchmarks": ["tiny"],
        "overrides": {"tiny": {"tiny": "test", "sample": 50}},
        "train_predictions": True,
    }
    base["method"] = {"wrong_rationales": "keep"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
    asked = {
        "name": "arms", "base": "base.yaml", "seeds": [0, 1], "problem_set": "tiny", "student": "last", "repeat": False,
        "arms": {
            "undo": {},
            "one_shot": {"method.preset": "one_shot"},  # waits for iteration 0
            "as_long": {"method.preset": "one_shot", "train.tokens": {"match": "undo"}},  # waits for the end
        },
        "primary": [["undo", "one_shot"], ["undo", "as_long"]],
    }  # fmt: skip
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    root = tmp_path / "campaign"
    command = [
        sys.executable,
        str(REPO / "launchers" / "run_campaign.py"),
        str(tmp_path / "arms.yaml"),
        "--dir",
        str(root),
    ]
    command += ["--profile", str(tmp_path / "profile.yaml")]

    def journal(arm: str, seed: int) -> list[str]:
        path = root / arm / f"seed-{seed:03d}" / "submissions.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [row["stage"] for row in rows if row["event"] == "intent"]

    def again() -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment()
    )
    wait_until(lambda: len(journal("undo", 0)) > 1, 120, "the first submission")
    first.send_signal(signal.SIGKILL)
    first.wait()
    said = again()
    assert said.count("; its last job starts it") == 4
    assert not journal("one_shot", 0) and not journal("as_long", 0), (
        "what will be taken over is not made twice"
    )
    results = root / "results.json"

    def written() -> bool:
        return results.exists() and not json.loads(results.read_text())["pending"]

    wait_until(written, 1200, "the page, which the last job writes")  # nobody types the command again
    found = json.loads(results.read_text())
    for seed in (0, 1):
        # (not counted: an intent may stand twice where the launcher was killed before its submission)
        assert {*journal("undo", seed)} == {"generate", "merge", "train", "evaluate", "advance"}
        assert journal("one_shot", seed) == ["advance"]
        assert sorted(journal("as_long", seed)) == ["advance", "evaluate", "train"]
        trained = {r["arm"]: r["ledger"]["student_tokens"] for r in found["runs"] if r["seed"] == seed}
        assert trained["as_long"] == pytest.approx(trained["undo"], rel=0.05)
    assert len(found["runs"]) == 6 and len(found["comparisons"]) == 2
    assert (root / "report" / "index.html").is_file() and (root / "report" / "summary.md").is_file()
    said = again()
    assert "submitted" not in said and "waits for" not in said
