"""Launchers that are killed at any moment, and two at once: exactly one job a stage (`UNDO_KILLS=22` for more of them, UNDO_CHAOS_SEED)."""

import os
import random
import signal
import subprocess
import time

import pytest

from tests.slurm.small import Campaign, environment, make_campaign
from tests.slurm.test_sites import STAGES, journal, queued, quiet_lab
from tests.slurmlab import Lab
from undo_hpc.cli.__main__ import main

__all__ = ["quiet_lab"]

KILLS = int(os.environ.get("UNDO_KILLS", "2"))
SEED = int(os.environ.get("UNDO_CHAOS_SEED", "0"))


def _start(small: Campaign) -> subprocess.Popen[str]:
    command = small.command("--profile", str(small.folder / "profile.yaml"))
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, cwd=small.folder, env=environment(), **pipe)  # type: ignore[call-overload, no-any-return]


def test_killed_at_any_moment_then_two_at_once(
    quiet_lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lab = quiet_lab

    def fresh() -> Campaign:
        return make_campaign(tmp_path_factory.mktemp("launch"))

    def ended(small: Campaign) -> None:
        assert sorted(queued(lab, small)) == sorted(STAGES)
        assert main(["cancel", str(small.run_dir)]) == 0
        assert queued(lab, small) == {}

    whole = fresh()
    began = time.monotonic()
    whole.launch()
    seconds = time.monotonic() - began  # on this machine, now
    ended(whole)
    chance, killed = random.Random(SEED), 0
    for number in range(KILLS):
        small = fresh()
        after = chance.uniform(0.1, 1.0) * seconds
        launcher = _start(small)
        time.sleep(after)
        launcher.send_signal(signal.SIGKILL)
        launcher.communicate(timeout=60)
        killed += launcher.returncode == -signal.SIGKILL
        both = [_start(small) for _ in range(2)]
        said = [process.communicate(timeout=120)[0] for process in both]
        codes = sorted(process.returncode for process in both)
        # The second waited its turn in vain, or came late and found all queued.
        assert codes in ([0, 0], [0, 3]), (number, after, said)
        names = {e["name"] for e in journal(small) if e["event"] in ("submitted", "found")}
        assert sorted(name.split("-")[0] for name in names) == sorted(STAGES), (number, after, said)
        ended(small)
    print(f"launchers killed: {killed} of {KILLS}, seed {SEED}")
