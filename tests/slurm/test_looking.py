"""status, cancel and doctor against a real squeue, sinfo and scontrol."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cli import main
from undo_hpc.cluster.base import JobState
from undo_hpc.cluster.names import JobName
from undo_hpc.cluster.profile import Profile, load_profile
from undo_hpc.cluster.signals import ask_end
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.control.live import REASONS
from undo_hpc.control.stopping_run import cancel
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.lease import Lease

Make = Callable[..., Campaign]


def reasons(run: Run) -> dict[str, str]:
    """Why each stage waits, in words."""
    return {stage.name: stage.waits_for for stage in collect_status(run).stages}


def test_what_waits_is_shown_with_its_reason_and_cancelled(
    lab: Lab, campaign: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    small = campaign()
    small.profile["defaults"]["extra"] = {"begin": "now+1hour"}
    small.launch()
    run = open_run(small.run_dir)
    waiting = (REASONS["BeginTime"], "waits for the stage before it")  # once the scheduler has looked at them
    wait_until(
        lambda: tuple(reasons(run)[name] for name in ("generate", "merge")) == waiting,
        60,
        "the scheduler's reasons",
    )
    view = collect_status(run)
    states = {stage.name: stage.states for stage in view.stages}
    assert states["generate"] == {"waiting": 2} and states["merge"] == {"waiting": 1}
    assert view.jobs >= 5 and "--watch" in view.next_command and not view.notes

    name = JobName("merge", 0, run.id, 1, 0, 1, "0" * 8)
    with Lease(run.layout.lease, "the run"), ThreadPoolExecutor(1) as other:  # a stage is submitting just now
        cancelled = other.submit(cancel, run)
        wait_until(lambda: not lab.jobs(), 60, "the jobs to leave the queue")
        lab.run("sbatch", "--hold", "-o", "/dev/null", "-J", str(name), "--wrap", "true")
        assert not cancelled.done()
        run.layout.lease.unlink()
        assert cancelled.result(60) >= 6
    assert not lab.jobs(), "what was submitted meanwhile is cancelled too"
    assert main(["cancel", str(small.run_dir)]) == 0
    assert "cancelled; all data stays" in capsys.readouterr().out
    wait_until(lambda: collect_status(run).jobs == 0, 60, "the jobs to leave the queue")
    after = collect_status(run)
    assert "launchers/run_iteration.py --run-dir" in after.next_command


def test_names_that_others_gave_and_jobs_that_have_started_do_not_disturb(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        lab.run("sbatch", "--parsable", "--hold", "-o", "/dev/null", "-J", name, "--wrap", "true").strip()
        for name in ("two\nlines", "l\udce4ufe|PENDING")
    ]  # a byte that is no UTF-8
    name = JobName("train", 2, "0123abcd", 0, 0, 1, "0" * 8)
    mine = lab.run(
        "sbatch", "--parsable", "-t", "10", "-o", "/dev/null", "-J", str(name), "--wrap", "sleep 300"
    ).strip()
    cluster = SlurmCluster(Profile(), Path("/code"))
    wait_until(
        lambda: [(job.id, job.state) for job in cluster.live_jobs("0123abcd")] == [(mine, JobState.RUNNING)],
        60,
        "the job to start",
    )
    cluster.redirect(
        [mine, "999999"], [mine]
    )  # too late for the one, and the other is gone: both are left as they are
    cluster.release([mine])  # as where two people release a task that was given up
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")  # as a site may set it
    end = ask_end({"SLURM_JOB_ID": mine})
    assert end is not None and 0 < end - time.time() <= 600
    lab.run("scancel", mine, *odd)
    seen = cluster.live_jobs("0123abcd")
    wait_until(lambda: lab.show(mine).get("JobState") == "CANCELLED", 60, "the job to end")
    monkeypatch.setattr(
        cluster, "live_jobs", lambda tag: [replace(job, state=JobState.RUNNING) for job in seen]
    )
    assert cluster.pause("0123abcd") == 1, (
        "a task that ends while the run is paused does not keep the others from being told"
    )


def test_the_doctor_proposes_a_profile_that_the_doctor_accepts(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["doctor", "--write-profile", str(path)]) == 0
    load_profile(path)
    assert main(["doctor", "--write-profile", str(path)]) == 2, "an existing file is not overwritten"
    main(["doctor", "--profile", str(path), "--folder", str(tmp_path)])
    out = capsys.readouterr().out
    assert "slurm" in out and "partitions" in out
