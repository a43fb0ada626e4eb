"""Ctrl-C, SIGTERM, and SIGKILL of anything: the same command goes on, and the result is the undisturbed run's, byte for byte.

Tasks begin as copies of a warm process, at every third start as processes of their own. UNDO_CHAOS=N disturbs N times (default 6).
"""

import os
import random
import signal
import subprocess
import time

import pytest

from tests import figures
from tests.e2e.campaign import Small, kill, parent_of

pytestmark = pytest.mark.slow
TIMES = int(os.environ.get("UNDO_CHAOS", "6"))


def wait_for_workers(small: Small, launcher: object, seconds: float) -> list[int]:
    """Waits until a worker runs, then so many seconds more; returns the workers that run."""
    deadline = time.monotonic() + 120
    while launcher.poll() is None and time.monotonic() < deadline:  # type: ignore[attr-defined]
        if small.workers():
            break
        time.sleep(0.05)
    until = time.monotonic() + seconds
    while launcher.poll() is None and time.monotonic() < until:  # type: ignore[attr-defined]
        time.sleep(0.05)
    return small.workers()


def wait_for_none(small: Small) -> None:
    """Waits until the workers of the launcher before have ended: they would be taken for the next one's, which hears no signal yet."""
    deadline = time.monotonic() + 120
    while small.workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert small.workers() == []


def wait_for_own_process(small: Small, launcher: subprocess.Popen[str]) -> None:
    """Waits until a worker runs that is no copy, as the launcher starts them after the death of the warm process."""
    deadline = time.monotonic() + 120
    while launcher.poll() is None and time.monotonic() < deadline:
        if any(parent_of(worker) == launcher.pid for worker in small.workers()):
            return
        time.sleep(0.05)


def test_disturbed_runs_end_as_the_undisturbed(small: Small, undisturbed: Small) -> None:
    seed = int(os.environ.get("UNDO_CHAOS_SEED", "7"))
    rng = random.Random(seed)
    what = ["ctrl-c", "kill launcher", "kill the warm process", "sigterm", "kill a worker", "kill launcher"]
    log = []
    for number in range(TIMES):
        kind = what[number % len(what)]
        cold = kind == "kill a worker"
        wait_for_none(small)
        launcher = small.start(*(["--set", "cluster.warm_start=false"] if cold else []))
        workers = wait_for_workers(small, launcher, rng.uniform(0.2, 6.0))
        log.append((kind, launcher.poll(), workers))
        if kind == "ctrl-c":
            kill(launcher.pid, signal.SIGINT)
        elif kind == "sigterm":
            kill(launcher.pid, signal.SIGTERM)
        elif kind == "kill launcher":
            kill(launcher.pid)
        elif kind == "kill the warm process":
            kill(small.warm_process(launcher.pid) or launcher.pid)
            wait_for_own_process(small, launcher)
            kill(launcher.pid, signal.SIGINT)
        else:
            kill(rng.choice(workers) if workers else launcher.pid)
        output = launcher.communicate(timeout=600)[0]
        assert launcher.returncode in (0, 3, 130, -9), f"{log}\n{output}"
        assert "Traceback" not in output, output
    done = small.launch()
    assert done.returncode == 0, f"{log}\n{done.stdout}{done.stderr}"
    ours, theirs = small.results(), undisturbed.results()
    assert ours.keys() == theirs.keys()
    different = {k for k in ours if ours[k] != theirs[k]}
    figures.count(f"interrupted by seed {seed}", disturbances=TIMES, files_of_other_bytes=len(different))
    assert different == set(), log


def test_no_worker_outlives_a_killed_launcher(small: Small) -> None:
    launcher = small.start()
    assert wait_for_workers(small, launcher, 1.0)
    kill(launcher.pid)
    launcher.communicate()
    wait_for_none(small)


def test_two_launchers_on_one_run_directory(small: Small) -> None:
    launcher = small.start()
    assert wait_for_workers(small, launcher, 0.0)
    second = small.launch()
    assert second.returncode == 3
    assert "is in use by process" in second.stderr and "Traceback" not in second.stderr
    kill(launcher.pid, signal.SIGINT)
    output = launcher.communicate(timeout=300)[0]
    assert launcher.returncode == 130
    assert "all finished work is saved" in output
