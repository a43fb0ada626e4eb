"""Every write fails once: the n-th call that changes a file fails, for every n, with the errors that a file system gives.

See disk.py for which calls are seen.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import figures
from tests.conftest import FUZZ
from tests.storage.disk import Disk
from undo_hpc.errors import ExitCode, UndoError

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "ESTALE")
REMOVING = ("unlink", "remove", "rmdir")
FULL = ("ENOSPC", "EDQUOT")  # what a full disk says; it lets files be removed


class Faults:
    """Counts calls; lets number `at` fail, and with `stays` every later one of its kind too, as a full disk does."""

    def __init__(self, at: int = -1, name: str = "EIO", *, stays: bool = False) -> None:
        self.at, self.name, self.stays, self.calls, self.hit = at, name, stays, 0, ""

    def before(self, call: str, path: str) -> None:
        if self.name in FULL and call in REMOVING:
            return
        number = self.calls
        self.calls += 1
        if number == self.at or (self.stays and number > self.at >= 0):
            self.hit = self.hit or f"{call} {os.path.basename(path)}"
            code = getattr(errno, self.name)
            raise OSError(code, os.strerror(code), path)


@contextmanager
def copy_of(template: Path) -> Iterator[Path]:
    """The folder as it is before the work, in memory where there is room."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        root = Path(folder) / "run"
        shutil.copytree(template, root)
        yield root


def fail_everywhere(
    template: Path, work: Callable[[Path], None], check: Callable[[Path], None], *, stays: bool = True
) -> tuple[int, int]:
    """The work with each of its calls failing in turn, then again with room; `check` looks at what is there in the end.

    A failing call may be of no consequence (progress, tidying up). Otherwise there must be an error of ours with a message, a hint and
    an exit code, never a bare OSError, and the same work again must end well.

    Returns:
        calls of the undisturbed work, and starts that were disturbed.
    """
    plain = Faults()
    with copy_of(template) as root, Disk(root, before=plain.before):
        work(root)
        check(root)
    bad: list[str] = []
    starts = 0
    ways = [(name, False) for name in ERRORS] + ([("ENOSPC", True)] if stays else [])
    for number, (name, lasting) in enumerate(ways):
        # all errors take the same way through the code: a call meets one of them here, and each with UNDO_FUZZ
        at, stride = (0, 1) if FUZZ or lasting else (number, len(ERRORS))
        while True:
            faults = Faults(at, name, stays=lasting)
            with copy_of(template) as root:
                words = f"{name}{' from there on' if lasting else ''} at call {at}"
                try:
                    with Disk(root, before=faults.before):
                        work(root)
                except UndoError as error:
                    if not (error.message and error.hint and error.exit_code != ExitCode.COMPLETE):
                        bad.append(f"{words} ({faults.hit}): no message, hint or exit code: {error!r}")
                except Exception as error:  # noqa: BLE001 (that is what is looked for)
                    bad.append(f"{words} ({faults.hit}): a bare {type(error).__name__}: {error}")
                if not faults.hit:
                    break
                starts += 1
                try:
                    with Disk(root):
                        work(root)
                        check(root)
                except (Exception, AssertionError) as error:  # noqa: BLE001
                    bad.append(
                        f"{words} ({faults.hit}), then again: {type(error).__name__}: {str(error)[:200]}"
                    )
            at += stride
    assert not bad, f"{len(bad)} of {starts} starts are wrong:\n" + "\n".join(bad[:15])
    figures.count("every write fails, all ends right", calls=plain.calls, disturbed_starts=starts)
    return plain.calls, starts
