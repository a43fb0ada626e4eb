"""One variable ties a process to its parent: workers save and end, ranks and engines are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undo_hpc.system.parent_death import bound_to_this_process

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=os.environ | {"UNDO_DIE_WITH_PARENT": sys.argv[2]})
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import signal, time
from pathlib import Path
from undo_hpc.system.parent_death import die_with_parent_if_asked
signal.signal(signal.SIGTERM, lambda *_: Path({place!r}).write_text("asked"))
die_with_parent_if_asked({how})
Path({place!r}).write_text("ready")
while Path({place!r}).read_text() == "ready":
    time.sleep(0.02)
"""


def wait_for(condition, seconds: float = 120.0) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(("name", "left"), [("TERM", "asked"), ("KILL", "ready")])
def test_a_child_ends_with_its_parent_by_the_signal_that_was_named(
    tmp_path: Path, name: str, left: str
) -> None:
    place = tmp_path / "said"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(place=str(place), how=""), name],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert wait_for(lambda: place.exists() and place.read_text() == "ready")
        parent.kill()
    assert wait_for(lambda: gone(child))
    assert place.read_text() == left


def test_a_training_rank_ends_with_its_worker() -> None:
    """A rank that outlives its worker would write checkpoints beside those of the next start."""
    code = (
        "import time; from undo_hpc.training import __main__ as rank\n"
        "def stopper(started): print('ready', flush=True); time.sleep(600)\n"
        "rank.Stopper = stopper; rank.main(['spec.json'], 0.0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, code, "KILL"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert parent.stdout.readline() == "ready\n"
            parent.kill()
            assert wait_for(lambda: gone(child))
        finally:
            if not gone(child):
                os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_a_parent_that_died_before_the_child_could_ask_is_noticed(name: str) -> None:
    gone_already = subprocess.Popen([sys.executable, "-c", ""])
    gone_already.wait()
    code = "from undo_hpc.system.parent_death import *; die_with_parent_if_asked(); print('alive')"
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"UNDO_DIE_WITH_PARENT": f"{name}:{gone_already.pid}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -getattr(signal, f"SIG{name}") and "alive" not in child.stdout
    bound = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | bound_to_this_process(name), text=True, check=True
    )
    assert bound.returncode == 0


def test_children_are_not_bound_where_it_is_not_passed_on() -> None:
    code = "import os; from undo_hpc.system.parent_death import *; die_with_parent_if_asked(pass_on=False); print('UNDO_DIE_WITH_PARENT' in os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"UNDO_DIE_WITH_PARENT": "TERM"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
