"""Runs a program that a model wrote: a process of its own with bounds on time and memory, an empty environment, a folder that goes
away, no network and no writing elsewhere where the system allows that (see `inside.py`).

It keeps mistakes and mischief away from files and network; it is no defence against an attack on the kernel. Run foreign models'
code on a machine of no importance.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.errors import EngineError
from undo_hpc.system.unheard import unheard

_INSIDE = Path(__file__).with_name("inside.py")
_START_S = 20.0  # a busy machine starts Python slowly
TAKEN = frozenset({"network", "files", "processes"})  # what a program has not, where the system allows that
_SHOWN = 400  # characters of the output


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit code (negative: the signal), whether it took too long, the end of what it wrote, and what was
    taken from it (`TAKEN`)."""

    code: int
    too_long: bool
    output: str
    taken: frozenset[str]


def run_python(program: str, *, seconds: float, megabytes: int) -> Outcome:
    """Runs a Python program to its end, or to its bounds.

    Raises:
        EngineError: the sandbox itself could not start, so the program was not tried.
    """
    with tempfile.TemporaryDirectory(prefix="undo-sandbox-", ignore_cleanup_errors=True) as folder:
        path, output = Path(folder) / "program.py", Path(folder) / "output.txt"
        path.write_text(program, encoding="utf-8", errors="replace")
        read, write = os.pipe()
        bounds = [str(max(1, round(seconds))), str(megabytes)]
        command = [sys.executable, "-I", "-B", str(_INSIDE), *bounds, folder, str(path), str(write)]
        try:
            with output.open("wb") as sink, unheard():
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, cwd=folder, pass_fds=(write,),
                    start_new_session=True, env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"},
                )  # fmt: skip
            os.close(write)
            write = -1
            too_long = False
            try:
                process.wait(timeout=seconds + _START_S)
            except subprocess.TimeoutExpired:
                too_long = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            taken = frozenset(os.read(read, 100).decode().split())
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        if "started" not in taken:  # nothing was tested: no verdict may rest on it
            raise EngineError(
                f"the sandbox could not start: {output.read_text(errors='replace').strip()[-_SHOWN:] or f'exit code {code}'}",
                hint="look at memory and process limits of this machine; answers so far are kept",
            )
        text = output.read_bytes()[-4 * _SHOWN :].decode(errors="replace")[-_SHOWN:]
        return Outcome(code, too_long or code == -signal.SIGXCPU, text, taken - {"started"})
