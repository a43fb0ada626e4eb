"""Arms and seeds on a real SLURM: nobody stays, equal work is done once, a killed launcher's command is typed again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.conftest import REPO
from tests.slurm.small import PROFILE, _environment, base_config
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
        "arms": {"undo": {}, "one_shot": {"method.preset": "one_shot"}}, "primary": [["undo", "one_shot"]],
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
            command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=_environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path, env=_environment()
    )
    wait_until(lambda: len(journal("undo", 0)) > 1, 120, "the first submission")
    first.send_signal(signal.SIGKILL)
    first.wait()
    said = again()
    assert said.count("one_shot, seed") == 2 and "the same command later starts it" in said
    assert not (root / "one_shot").exists(), "what will be taken over is not made twice"

    def advanced(arm: str, iteration: int) -> bool:
        return all(
            (root / arm / f"seed-{s:03d}" / f"iter_{iteration:03d}" / "advance.manifest.json").exists()
            for s in (0, 1)
        )

    wait_until(lambda: advanced("undo", 0), 600, "iteration 0")
    assert "taken over from" in again()
    wait_until(lambda: advanced("undo", 1) and advanced("one_shot", 0), 600, "the end")
    assert "undo and one_shot" in (said := again()) or "is better than" in said
    for seed in (0, 1):
        assert sorted(journal("undo", seed)) == sorted(
            ["generate", "merge", "train", "evaluate", "advance"] * 2
        )
        assert journal("one_shot", seed) == ["advance"]
    results = json.loads((root / "results.json").read_text())
    assert not results["pending"] and len(results["runs"]) == 4 and len(results["comparisons"]) == 1
    assert (root / "report" / "index.html").is_file() and (root / "report" / "summary.md").is_file()
