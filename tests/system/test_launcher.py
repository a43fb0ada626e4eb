"""A launcher starts with the standard library alone, and names what is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

LAUNCHERS = sorted((REPO / "launchers").glob("*.py"))


def test_a_missing_package_is_a_message() -> None:
    code = f"import sys; sys.path.insert(0, {str(REPO)!r})\nfrom undo_hpc.system.launcher import start\n"
    bare = [
        sys.executable,
        "-S",
        "-I",
        "-c",
        code + "sys.exit(start('undo_hpc.config.yaml_text'))",
    ]  # no site-packages
    done = subprocess.run(bare, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the package 'yaml' is missing" in done.stderr and "  -> " in done.stderr


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.stem)
def test_with_its_packages_it_works(launcher: object) -> None:
    done = subprocess.run(
        [sys.executable, str(launcher), "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 and "usage:" in done.stdout


@pytest.mark.parametrize(("guarded", "code", "said"), [(False, -signal.SIGINT, ""), (True, 130, "stopped\n")])
def test_an_interrupt_while_a_command_loads_leaves_no_traceback(guarded: bool, code: int, said: str) -> None:
    program = (
        "import os, signal, sys, time\n"
        "from undo_hpc.system.guard import guard\n"
        "from undo_hpc.system.launcher import ending_silently\n"
        "def interrupt():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ending_silently():\n"
        f"    sys.exit(guard(interrupt, interrupted='stopped') if {guarded} else interrupt())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.stem)
def test_an_interrupt_before_anything_of_ours_is_loaded_leaves_no_traceback(
    launcher: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests may run where it is ignored, in the background
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'undo_hpc':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    done = subprocess.run(
        [sys.executable, str(launcher), "--help"], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
