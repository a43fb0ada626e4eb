"""Runs a program that a model wrote: a process of its own with bounds on time and memory, an empty environment, a folder that goes
away, no network and no writing elsewhere where the system allows that (see `inside.py`).

It keeps mistakes and mischief away from files and network; it is no defence against an attack on the kernel. Run foreign models'
code on a machine of no importance.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.errors import EngineError
from undo_hpc.system.unheard import unheard

_INSIDE = Path(__file__).with_name("inside.py")
_START_S = 20.0  # a busy machine starts Python slowly
TAKEN = frozenset({"network", "files", "processes"})  # what a program has not, where the system allows that
_SHOWN = 400  # characters of the output
# Libraries start a thread a core, and memory is set aside for each.
_FEW_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RENAMED = "set TMPDIR to a folder where you alone can write; answers so far are kept"


@dataclass(frozen=True)
class Outcome:
    """How a program ended: whether it passed its tests, its exit code (negative: the signal), whether it took too long, the end of what
    it wrote, and what was taken from it (`TAKEN`, and 'threads' where this system cannot bound them)."""

    passed: bool
    code: int
    too_long: bool
    output: str
    taken: frozenset[str]


def run_python(program: str, tests: str = "", *, seconds: float, megabytes: int) -> Outcome:
    """Runs a Python program, and tests behind it that raise where it fails, to their end, or to its bounds (see `start.py`).

    Raises:
        EngineError: the sandbox itself could not start, so the program was not tried.
    """
    with _folder() as folder, (folder / "output.txt").open("xb+") as sink:
        texts = {folder / "program.py": program, folder / "tests.py": tests}
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8", errors="replace")
        read, write = os.pipe()
        bounds = [str(max(1, round(seconds))), str(megabytes)]
        given = [*bounds, str(folder), str(write), *map(str, texts)]
        command = [sys.executable, "-I", "-B", str(_INSIDE), *given]
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
        try:
            with unheard():
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, cwd=folder, pass_fds=(write,),
                    start_new_session=True, env=variables | _FEW_THREADS,
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
            started, _, said = os.read(read, 1000).decode(errors="replace").partition("\n")
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        # By our descriptor, not by its name: the program may have put a pipe there, at which we would wait for ever, or a link.
        sink.seek(max(0, sink.seek(0, os.SEEK_END) - 4 * _SHOWN))
        text = sink.read(4 * _SHOWN).decode(errors="replace")[-_SHOWN:]
    if not started.startswith("started "):  # nothing was tested: no verdict may rest on it
        raise EngineError(
            f"the sandbox could not start: {text.strip() or f'exit code {code}'}",
            hint="look at memory and process limits of this machine; answers so far are kept",
        )
    _, word, *taken = started.split()
    too_long = too_long or code == -signal.SIGXCPU
    return Outcome(code == 0 and not too_long and said == word, code, too_long, text, frozenset(taken))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for one program, removed afterwards: the one that was made, whatever lies under its name by then. Raises EngineError."""
    folder = Path(tempfile.mkdtemp(prefix="undo-sandbox-"))
    try:
        top = os.open(folder, _OPEN)
    except OSError as error:
        raise EngineError(f"{folder} was made, and is something else now: {error}", hint=_RENAMED) from error
    try:
        if os.listdir(top):  # noqa: PTH208 -- by its descriptor
            raise EngineError(f"{folder} was made, and is another folder now", hint=_RENAMED)
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                _empty(top)
    finally:
        os.close(top)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _empty(top: int) -> None:
    """Empties a folder, whatever a program made in it: thousands of folders in each other, for which `shutil.rmtree` calls itself too
    often, or some that nobody may enter. By descriptors: a link in place of a folder leads nowhere. Raises OSError."""
    os.fchmod(top, 0o700)
    waiting, number = ["."], 0
    while waiting:
        name = waiting.pop()
        folder = os.open(name, _OPEN, dir_fd=top)
        try:
            with os.scandir(folder) as found:
                entries = list(found)
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=folder)
                    continue
                number += 1
                waiting.append(f"{number}.{secrets.token_hex(8)}")  # no path becomes longer than that
                os.chmod(entry.name, 0o700, dir_fd=folder)
                os.rename(entry.name, waiting[-1], src_dir_fd=folder, dst_dir_fd=top)
        finally:
            os.close(folder)
        if name != ".":
            os.rmdir(name, dir_fd=top)
