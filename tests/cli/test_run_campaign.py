"""The launcher of campaigns: every run is an ordinary one, equal work is done once, the same command resumes, the page says what is missing."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.observe.synthetic import RunBuilder, make_problem
from undo_hpc.cli import run_campaign, run_locally
from undo_hpc.cli.run_campaign import main
from undo_hpc.control.planning import current_state
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.atomic import read_json
from undo_hpc.storage.events import read_events

ARMS = "{undo: {}, blind: {method.preset: blind}, one_shot: {method.preset: one_shot}}"


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return write_campaign(tmp_path)


def write_campaign(tmp_path: Path) -> Path:
    """The file of a campaign of three arms and two seeds, beside its data."""
    rng = random.Random(0)
    for name, count in (("train", 60), ("test", 60)):
        rows = [make_problem(k + 1000 * (name == "test"), rng) for k in range(count)]
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps({"problem": p.problem, "answer": p.ground_truth}) + "\n" for p in rows)
        )
    (tmp_path / "base.yaml").write_text(
        "data: {train: {path: train.jsonl}, diagnosis: 10, validation: 20, contamination: 'off'}\n"
        "teacher: {model: 'tiny:teacher'}\nstudent: {model: 'tiny:student'}\n"
        "evaluate: {benchmarks: [gsm8k], overrides: {gsm8k: {path: test.jsonl}}}\niterations: 2\nstop: {enabled: false}\n"
    )
    path = tmp_path / "camp.yaml"
    path.write_text(
        f"name: camp\nbase: base.yaml\nseeds: [0, 1]\narms: {ARMS}\nprimary: [[undo, blind], [undo, one_shot]]\n"
        "problem_set: gsm8k\nstudent: last\nrepeat: false\n"
    )
    return path


class Played:
    """Takes the place of the local cluster: plays what is missing of a run; `stops_at` is the run in which it is interrupted."""

    def __init__(self, stops_at: int = -1) -> None:
        self.began: list[str] = []
        self.trained: list[str] = []
        self._stops_at = stops_at

    def __call__(self, run: Run, console: Console) -> int:
        self.began.append(f"{run.layout.root.parent.name}/{run.layout.root.name}")
        builder: Any = RunBuilder.__new__(RunBuilder)
        builder.run, builder.rng, builder.left_out = run, random.Random(run.config.seed), 0
        names = ("train", "validation", "diagnosis", "gsm8k")
        builder.sets = {name: run.problems(name) for name in names}
        while not (state := current_state(run)).ended:
            missing = {status.stage for status in state.missing}
            if "train" in missing:
                self.trained.append(f"{self.began[-1]}/{state.iteration}")
            for stage in ("generate", "baseline", "merge", "train", "evaluate", "advance"):
                if stage not in missing:
                    continue
                if len(self.began) - 1 == self._stops_at and stage == "evaluate" and state.iteration:
                    raise KeyboardInterrupt
                if stage in ("generate", "train"):
                    getattr(builder, stage)(state.plan)
                elif stage in ("baseline", "evaluate"):
                    builder.evaluate(state.plan, stage, skill=0.6)
                else:
                    builder.single(state.plan, stage)
        return 0


def test_a_campaign_runs_resumes_and_is_compared(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    command = [str(campaign), "--dir", str(place)]
    assert main([*command, "--dry-run"]) == 0 and not place.exists()
    assert "6 runs; iteration 0 of 4 of them is taken over" in capsys.readouterr().out

    first = Played(stops_at=1)
    monkeypatch.setattr(run_locally, "run_locally", first)
    assert main(command) == 130
    assert first.began == ["undo/seed-000", "blind/seed-000"]
    assert first.trained == ["undo/seed-000/0", "undo/seed-000/1", "blind/seed-000/1"], (
        "iteration 0 was trained once"
    )

    second = Played()
    monkeypatch.setattr(run_locally, "run_locally", second)
    assert main(command) == 0
    assert second.began == [
        "blind/seed-000",
        "one_shot/seed-000",
        "undo/seed-001",
        "blind/seed-001",
        "one_shot/seed-001",
    ]
    assert second.trained == ["undo/seed-001/0", "undo/seed-001/1", "blind/seed-001/1"]
    results = read_json(place / "results.json")
    assert len(results["runs"]) == 6 and not results["pending"] and len(results["comparisons"]) == 2
    assert all(r["n"] == 60 and r["accuracy"] == r["correct"] / 60 for r in results["runs"])
    assert (place / "report" / "index.html").is_file()
    taken = [
        e
        for e in read_events(open_run(place / "blind" / "seed-001").layout.events)
        if e["kind"] == "taken_over"
    ]
    assert [e["run_id"] for e in taken] == [open_run(place / "undo" / "seed-001").id]

    third = Played()
    monkeypatch.setattr(run_locally, "run_locally", third)
    assert main(command) == 0 and third.began == [], "nothing is left to do"
    assert read_json(place / "results.json") == results

    capsys.readouterr()
    campaign.write_text(campaign.read_text().replace("student: last", "student: best"))
    assert main(command) == 2
    assert "was begun with another file" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_campaign_is_not_continued(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that have ended there would be believed, and taken over."""
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    place = tmp_path / "out"
    place.mkdir()
    link = place / "undo"
    link.symlink_to(tmp_path / "elsewhere")
    os.chown(link, 54321, 54321, follow_symlinks=False)
    for words in ([], ["--dry-run"]):
        assert main([str(campaign), "--dir", str(place), *words]) == 2
        assert "a link of another user, 54321" in capsys.readouterr().err
    os.chown(place, 54321, 54321)
    assert main([str(campaign), "--dir", str(place)]) == 2
    assert "belongs to another user, 54321" in capsys.readouterr().err
    assert list(place.iterdir()) == [link]
    tmp_path.chmod(0o1777)
    (tmp_path / "checkpoints").symlink_to(tmp_path)  # to wherever they may rename what is made there
    os.chown(tmp_path / "checkpoints", 54321, 54321, follow_symlinks=False)
    assert main([str(campaign), "--dir", str(tmp_path / "checkpoints" / "mine")]) == 2
    assert "checkpoints belongs to another user, 54321" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


def test_runs_that_have_not_ended_are_named_on_the_page(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here another process works on them, or was killed: not finished, and the exit code says so."""
    monkeypatch.setattr(run_locally, "run_locally", lambda run, console: 0)
    place = tmp_path / "out"
    assert main([str(campaign), "--dir", str(place)]) == 3
    results = read_json(place / "results.json")
    assert len(results["pending"]) == 6 and not results["runs"] and not results["comparisons"]
    page = (place / "report" / "index.html").read_text()
    assert "No comparison can be made yet." in page and "one_shot, seed 1" in page


def test_helpers_are_as_many_as_there_are_seeds_and_one_that_is_killed_is_no_success(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def helper(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if "--jobs" not in command:
            return real(command, **options)
        started.append(real(["sh", "-c", "kill -9 $$"]))
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr("undo_hpc.cli.run_campaign.subprocess.Popen", helper)
    monkeypatch.setattr(run_locally, "run_locally", lambda run, console: 0)
    assert main([str(campaign), "--dir", str(tmp_path / "out"), "--jobs", "9000"]) == 3
    assert [process.returncode for process in started] == [-9]
    assert "the same command goes on" in " ".join(capsys.readouterr().err.split())
    assert main([str(campaign), "--dir", str(tmp_path / "out"), "--quiet"]) == 3
    assert "the same command goes on" in " ".join(capsys.readouterr().err.split()), "no code but 0 is silent"


def test_a_campaigns_folder_that_another_user_makes_meanwhile_is_refused(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, read = tmp_path / "camp", run_campaign.check_arms

    def meanwhile(*given: Any, **more: Any) -> Any:
        place.mkdir()
        place.chmod(0o777)
        return read(*given, **more)

    monkeypatch.setattr(run_campaign, "check_arms", meanwhile)
    assert main([str(campaign), "--dir", str(place)]) == 2
    assert "every user of this machine can write in the campaign's directory" in capsys.readouterr().err
    assert not (place / "campaign.resolved.json").exists()
