"""A warm process: it imports what workers import, once, and starts each of them as a copy of itself.

The launcher holds a `WarmServer`; the other side is `serve`, called by `undo_hpc/warm.py`. They speak JSON lines over a socket pair:
`{"id", "argv", "log", "env"}` starts a worker, `{"id", "signal"}` signals it; `{"id", "pid", "start"}` tells that it has begun, `{"id", "code"}`
its end. Where the launcher dies the socket closes: the warm process ends, and its children are told to save by the kernel (`parent_death`).
Where the warm process dies, they are told to save too; the launcher waits for them, and is then told to start them again (ExitCode.REQUEUE).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from undo_hpc.errors import ExitCode
from undo_hpc.system.forking import Forked, process_start, set_warm

ROOM = " " * 1000  # of the command line, for the names of the copies
LOOK_S = 0.02


class WarmServer:
    """The launcher's side. It starts at once and imports in the background; what is asked meanwhile waits for it.

    Args:
        command: starts the other side; the number of a file descriptor is added to it.
        env: its environment. Variables that libraries read at their import (OMP_NUM_THREADS) must be those of the workers.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self._codes: dict[int, int] = {}
        self._begun: dict[int, tuple[int, str]] = {}  # of a worker: process id and start
        self._incoming = b""
        self._number = 0
        self._closed = False
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), ROOM],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(env),
                start_new_session=True,
            )

    def knows_code(self, worker: int) -> bool:
        """Whether a worker's end was told."""
        return worker in self._codes

    @property
    def alive(self) -> bool:
        """Whether workers can be started here."""
        return not self._closed and self._process.poll() is None

    def start(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> WarmProcess:
        """Starts a worker that appends what it prints to a log."""
        self._number += 1
        self._send({"id": self._number, "argv": list(argv), "log": str(log), "env": dict(env)})
        return WarmProcess(self, self._number)

    def signal(self, worker: int, number: int) -> None:
        """Signals a worker, unless it has ended."""
        code = self.code(worker)
        if code is None and not self._begun:  # it still imports: nothing is to be saved
            self._process.kill()
            self._process.wait()
            self._codes |= dict.fromkeys(range(1, self._number + 1), -number)
        elif code is None and self.alive:
            self._send({"id": worker, "signal": number})
        elif code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._begun[worker][0], number)

    def code(self, worker: int) -> int | None:
        """A worker's exit code, None while it runs. Where the warm process has died nobody knows it: REQUEUE, once the worker has ended."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while not self._closed:
                data = self._socket.recv(1 << 16)
                if not data:
                    self._closed = True
                self._incoming += data
        *lines, self._incoming = self._incoming.split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "code" in said:
                self._codes[said["id"]] = said["code"]
            else:
                self._begun[said["id"]] = said["pid"], said["start"]
        if worker in self._codes or self.alive:
            return self._codes.get(worker)
        pid, start = self._begun.get(worker, (0, ""))
        return None if pid and process_start(pid) == start else int(ExitCode.REQUEUE)

    def close(self) -> None:
        """Ends the warm process; workers that still run are told to save."""
        self._closed = True
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            while data:
                select.select([], [self._socket], [], 10)
                data = data[self._socket.send(data) :]
        except OSError:  # it has died: `code` says so
            self._closed = True


class WarmProcess:
    """A worker of a warm process, as far as a launcher needs `subprocess.Popen` of it."""

    def __init__(self, server: WarmServer, number: int) -> None:
        self._server, self._number = server, number
        self.returncode: int | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it has ended and nobody knows how: its warm process died first. Its code is REQUEUE then."""
        return self.returncode is not None and not self._server.knows_code(self._number)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.code(self._number)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if timeout is not None and deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(LOOK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Signals it."""
        self._server.signal(self._number, number)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


def serve(fd: int, work: Callable[[list[str]], int], command: Sequence[str]) -> None:
    """The other side: starts workers as copies until the launcher closes the socket. Everything is imported by now.

    Args:
        work: what a worker does with its arguments; returns its exit code.
        command: what stands before them in its name.
    """
    set_warm()
    gc.collect()
    gc.freeze()  # a collection in a copy would touch, and so copy, all that it shares with us
    children: dict[int, Forked] = {}
    incoming = b""
    with socket.socket(fileno=fd) as launcher:
        while True:
            ready, _, _ = select.select([launcher], [], [], LOOK_S if children else None)
            if ready:
                data = launcher.recv(1 << 16)
                if not data:
                    return
                *lines, incoming = (incoming + data).split(b"\n")
                for line in lines:
                    asked = json.loads(line)
                    if "signal" in asked:
                        if asked["id"] in children:
                            children[asked["id"]].send_signal(asked["signal"])
                        continue
                    children[asked["id"]] = _start(launcher, asked, work, command)
            for number, child in list(children.items()):
                if (code := child.poll()) is not None:
                    del children[number]
                    launcher.sendall(json.dumps({"id": number, "code": code}).encode() + b"\n")


def _start(
    launcher: socket.socket, asked: dict[str, Any], work: Callable[[list[str]], int], command: Sequence[str]
) -> Forked:
    def begin() -> int:
        told = {"id": asked["id"], "pid": os.getpid(), "start": process_start(os.getpid())}
        launcher.sendall(
            json.dumps(told).encode() + b"\n"
        )  # by itself: no work begins that the launcher cannot know of
        launcher.close()
        return work(asked["argv"])

    with os.fdopen(
        os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "ab"
    ) as log:
        name = [sys.executable, *command, *asked["argv"]]
        return Forked(begin, command=name, env=asked["env"], log=log.fileno(), session=True)
