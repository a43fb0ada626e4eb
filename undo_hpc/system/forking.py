"""Child processes that begin as a copy of this one: what is imported here need not be imported again.

A `Forked` is watched and signalled as a `subprocess.Popen`. The copy has only the thread that forked, its own session, log and environment,
and its own command line for `ps`. It must be made before any thread of a library computes here (OpenMP does not survive a fork) and before
CUDA is initialised.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from undo_hpc.system.parent_death import DIE_WITH_PARENT, bound_to_this_process, die_with_parent_if_asked

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
_warm = False


def is_warm() -> bool:
    """Whether this process has what workers import loaded already, so that its children are forked."""
    return _warm


def set_warm() -> None:
    """Says so, for this process and those that it forks."""
    global _warm
    _warm = True


class Forked:
    """A child that runs a function.

    Args:
        work: returns its exit code.
        command: what `ps` shows of it.
        env: its environment. Where DIE_WITH_PARENT stands in it, this process is meant.
        log: a file descriptor for what it prints; None leaves it where this process's goes.
        session: whether it gets a session of its own, so that Ctrl-C does not reach it.
    """

    def __init__(
        self,
        work: Callable[[], int],
        *,
        command: Sequence[str],
        env: Mapping[str, str],
        log: int | None = None,
        session: bool = False,
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        if asked := env.get(DIE_WITH_PARENT):
            env = dict(env) | bound_to_this_process(asked.partition(":")[0])
        # A signal that comes before the child has its own handlers waits, else this process's would swallow it there.
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            self.pid = os.fork()
            if not self.pid:
                _become(work, command, env, log, session, heard)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)

    def poll(self) -> int | None:
        """The exit code, None while it runs; a signal that ended it is a negative number."""
        return self._reap(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired."""
        if timeout is None:
            code = self._reap(0)
            assert code is not None, "it was waited for"
            return code
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.02)
        return code

    def _reap(self, how: int) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):  # another thread was first
                pid, status = os.waitpid(self.pid, how)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        while self.returncode is None and not how:
            time.sleep(0.01)  # that thread is about to say
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signals it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


def _become(
    work: Callable[[], int],
    command: Sequence[str],
    env: Mapping[str, str],
    log: int | None,
    session: bool,
    heard: set[int | signal.Signals],
) -> None:
    """In the child; does not return."""
    code = 1
    try:
        for number in _HEARD:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        if session:
            os.setsid()
        os.environ.clear()
        os.environ.update(env)
        die_with_parent_if_asked()  # now: the work may ask late
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        if log is not None:
            os.dup2(log, 1)
            os.dup2(log, 2)
        name_process(command)
        random.seed()  # else all copies draw the same names
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 -- the end of a process: printed in full
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def name_process(command: Sequence[str]) -> None:
    """Writes a command line over that of this process, for `ps`; cut where the old one is shorter (Linux: proc(5), cmdline)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
        data = b"\0".join(os.fsencode(part) for part in command)[: end - begin - 1]
        if begin and end > begin:
            ctypes.memmove(begin, data.ljust(end - begin, b"\0"), end - begin)


def process_start(pid: int) -> str:
    """Start time of a process of this host in clock ticks (a pid alone may be given again), or empty where it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
