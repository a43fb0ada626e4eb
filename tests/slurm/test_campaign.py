"""Whole iterations on a real cluster, with nobody at the login node."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPO
from tests.e2e.campaign import Small
from tests.slurm.conftest import STOCK, same_results
from tests.slurm.small import PROFILE, Campaign, has_output
from tests.slurm.test_disturbed import at_work
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from tests.training.tiny_student import rows

Make = Callable[..., Campaign]
SECRET = "hf_sEcReTtOkEn0123456789"


def test_two_iterations_without_a_launcher_and_no_secret_anywhere(
    start_lab: Callable[..., Lab],
    campaign: Make,
    undisturbed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = start_lab(**STOCK, accounting="dbd")
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    calls = _count_sbatch(lab, monkeypatch)
    small = campaign(iterations=2)
    small.launch()  # has returned: no process of ours is left here
    assert len(calls()) <= 8, "an iteration is a handful of sbatch calls"

    again = small.launch()  # while the arrays pend or run
    assert "nothing to submit" in again.stdout
    small.wait_ended()
    same_results(small, undisturbed)
    assert {e["attempt"] for e in _journal(small) if e["event"] == "intent"} == {0}, "nothing ran twice"
    assert not _holds(lab, small, SECRET)

    last = small.launch()
    assert "nothing to do" in last.stdout
    lab.wait_empty(60)  # the last job may be ending


def test_the_tiny_preset_on_the_cluster(
    start_lab: Callable[..., Lab], tiny_run: Small, tmp_path: Path
) -> None:
    """Real teacher, real student: two iterations with nobody there end as they do on one machine."""
    lab = start_lab(**STOCK)
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump(PROFILE))
    mine = Small(tmp_path / "run")
    done = mine.launch("--profile", str(profile))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(
        lambda: (mine.run_dir / "iter_001" / "advance.manifest.json").exists() or not lab.jobs(),
        900,
        "the run to end",
        every=0.5,
    )
    assert mine.results() == tiny_run.results()


def test_arrays_beyond_the_clusters_limit(
    start_lab: Callable[..., Lab], campaign: Make, tmp_path: Path
) -> None:
    start_lab(**STOCK, max_array=11)
    problems = tmp_path / "problems.jsonl"
    problems.write_text(
        "".join(
            json.dumps({"problem": r["problem"], "gt": r["gt"], "worked": f"It comes to {r['gt']}."}) + "\n"
            for r in rows(48, seed=1)
        )
    )
    small = campaign(
        method__condition="ground_truth",
        generate__shards=25,
        data__train={
            "path": str(problems),
            "fields": {"problem": "problem", "answer": "gt", "solution": "worked"},
        },
    )
    small.launch()
    small.wait_ended()
    intents = [e for e in _journal(small) if e["event"] == "intent"]
    generate = [e for e in intents if e["stage"] == "generate"]
    ids = {e["name"]: e["job_id"] for e in _journal(small) if e["event"] == "submitted"}
    merge = next(e for e in intents if e["stage"] == "merge")
    assert len(generate) == 2 and {e["attempt"] for e in intents} == {0}
    assert set(merge["after"]) == {ids[e["name"]] for e in generate}, "merge waits for every part"
    covered = sorted(i for e in generate for a, b in e["indices"] for i in range(a, b + 1))
    assert covered == list(range(25))


@pytest.mark.parametrize("after", [3])
def test_launcher_killed_between_sbatch_and_its_record(
    after: int,
    start_lab: Callable[..., Lab],
    campaign: Make,
    undisturbed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = start_lab(**STOCK)
    small = campaign()
    real = lab.env()["PATH"]
    _shim(
        lab,
        "sbatch",
        f'''
count=$(cat {lab.places.root}/count 2>/dev/null || echo 0)
case " $* " in *" --test-only "*) exec env PATH="{real}" sbatch "$@";; esac
out=$(PATH="{real}" sbatch "$@"); code=$?
echo $((count + 1)) > {lab.places.root}/count
[ $((count + 1)) = {after} ] && kill -KILL $PPID
echo "$out"; exit $code''',
        monkeypatch,
    )
    killed = small.launch(check=False)
    assert killed.returncode == -9
    unrecorded = {e["name"] for e in _journal(small) if e["event"] == "intent"} - {
        e["name"] for e in _journal(small) if e["event"] == "submitted"
    }
    assert len(unrecorded) == 1
    small.launch()
    found = [e for e in _journal(small) if e["event"] == "found"]
    assert [e["name"] for e in found] == sorted(unrecorded)
    small.wait_ended()
    same_results(small, undisturbed)
    stages = [e["stage"] for e in _journal(small) if e["event"] == "intent"]
    assert sorted(stages) == ["advance", "evaluate", "generate", "merge", "train"], (
        "nothing was submitted twice"
    )


def test_pause_and_resume_then_cancel_and_resume(
    start_lab: Callable[..., Lab], campaign: Make, undisturbed: dict[str, str]
) -> None:
    from undo_hpc.control.stopping_run import cancel, pause
    from undo_hpc.pipeline.run import open_run

    lab = start_lab(**STOCK)
    foreign = lab.run("sbatch", "--parsable", "-p", "high", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    small = campaign()
    small.launch()
    still = at_work(lab, small, "generate")
    run = open_run(small.run_dir)
    assert pause(run) >= 5
    still.let_go()  # the signal that asks to save waits for it
    wait_until(lambda: [job["id"] for job in lab.jobs()] == [foreign], 60, "the run's jobs to save and leave")
    assert any(e.get("status") == "requeue" for e in small.events("generate"))
    rows = sum(path.stat().st_size for path in (small.run_dir / "iter_000" / "generate").rglob("*.jsonl"))
    assert rows > 0

    small.launch()
    wait_until(lambda: has_output(small, "train"), 120, "a checkpoint")
    assert cancel(run) >= 2
    wait_until(lambda: [job["id"] for job in lab.jobs()] == [foreign], 60, "the run's jobs to end")
    assert not small.ended
    small.launch()
    small.wait_ended()
    same_results(small, undisturbed)


def test_a_template_works_by_hand(
    start_lab: Callable[..., Lab], begun: Campaign, undisturbed: dict[str, str]
) -> None:
    """The line of slurm/README.md, word for word; and merge by hand, which submits nothing behind it."""
    lab = start_lab(**STOCK)
    lost = begun.run_dir / "iter_000" / "generate" / "shard-00001.jsonl"
    lost.unlink()
    lost.with_name("shard-00001.manifest.json").unlink()
    (begun.run_dir / "iter_000" / "merge.manifest.json").unlink()
    text = (REPO / "slurm" / "README.md").read_text()
    line = "UNDO_PROFILE=slurm/profiles/lab.yaml bash slurm/generate.sbatch RUN_DIR 0"
    assert f"`{line}`" in text
    for command in (line, line.replace("generate", "merge")):
        done = subprocess.run(
            ["bash", "-c", command.replace("RUN_DIR", f"'{begun.run_dir}'")],
            cwd=REPO,
            env=lab.env() | {"UNDO_PYTHON": sys.executable},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "submitted" in done.stdout, done.stderr
        lab.wait_empty(120)
    logs = {path.name: path.read_text() for path in (begun.run_dir / "iter_000" / "logs").glob("*.log")}
    assert "is complete already" in logs["generate-1_0.log"], logs["generate-1_0.log"]
    digest = hashlib.sha256(lost.read_bytes()).hexdigest()
    assert digest == undisturbed["iter_000/generate/shard-00001.jsonl"], logs
    assert (begun.run_dir / "iter_000" / "merge.manifest.json").exists(), logs
    assert [e["stage"] for e in _journal(begun) if e["event"] == "intent"] == ["generate", "merge"]


def _journal(campaign: Campaign) -> list[dict[str, object]]:
    path = campaign.run_dir / "submissions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _shim(lab: Lab, name: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a script before one of SLURM's commands, for the launcher only."""
    folder = lab.places.root / "shim"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + body + "\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def _count_sbatch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    log, real = lab.places.root / "sbatch.log", lab.env()["PATH"]
    _shim(lab, "sbatch", f'echo "$*" >> {log}\nexec env PATH="{real}" sbatch "$@"', monkeypatch)
    return lambda: [line for line in log.read_text().splitlines() if "--test-only" not in line]


def _holds(lab: Lab, campaign: Campaign, secret: str) -> list[Path]:
    """Files that hold a text: scripts, logs and records of the run, SLURM's state, spool and logs, the database."""
    found = []
    for root in (campaign.folder, lab.places.root):
        for path in root.rglob("*"):
            if (
                path.is_file()
                and not stat.S_ISSOCK(path.lstat().st_mode)
                and secret.encode() in path.read_bytes()
            ):
                found.append(path)
    return found
