"""status, cancel and doctor against a real squeue, sinfo and scontrol."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cli import main
from undo_hpc.cluster.profile import load_profile
from undo_hpc.observe.live import REASONS
from undo_hpc.observe.status import look
from undo_hpc.run import Run, open_run

Make = Callable[..., Campaign]


def reasons(run: Run) -> dict[str, str]:
    """Why each stage waits, in words."""
    return {stage.name: stage.waits_for for stage in look(run).stages}


def test_what_waits_is_shown_with_its_reason_and_cancelled(lab: Lab, campaign: Make, capsys: pytest.CaptureFixture[str]) -> None:
    small = campaign()
    small.profile["defaults"]["extra"] = {"begin": "now+1hour"}
    small.launch()
    run = open_run(small.run_dir)
    waiting = (REASONS["BeginTime"], "waits for the stage before it")  # once the scheduler has looked at them
    wait_until(lambda: tuple(reasons(run)[name] for name in ("generate", "merge")) == waiting, 60, "the scheduler's reasons")
    view = look(run)
    states = {stage.name: stage.states for stage in view.stages}
    assert states["generate"] == {"waiting": 2} and states["merge"] == {"waiting": 1}
    assert view.jobs >= 5 and "--watch" in view.next_command and not view.notes

    assert main(["cancel", str(small.run_dir)]) == 0
    assert "cancelled; all data stays" in capsys.readouterr().out
    wait_until(lambda: look(run).jobs == 0, 60, "the jobs to leave the queue")
    after = look(run)
    assert "launchers/run_iteration.py --run-dir" in after.next_command


def test_the_doctor_proposes_a_profile_that_the_doctor_accepts(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["doctor", "--write-profile", str(path)]) == 0
    load_profile(path)
    assert main(["doctor", "--write-profile", str(path)]) == 2, "an existing file is not overwritten"
    main(["doctor", "--profile", str(path), "--folder", str(tmp_path)])
    out = capsys.readouterr().out
    assert "slurm" in out and "partitions" in out
