"""A virtual clock and processes that take turns: one runs at a time, and who runs next is a matter of the seed alone."""

from __future__ import annotations

import _thread
import heapq
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

EPOCH = 1_900_000_000.0
_PREFIXES = ("SLURM_", "UNDO_")


class Killed(BaseException):
    """Raised in a process that was killed: nothing that it does from here on has an effect."""


@dataclass(eq=False)
class Process:
    """A process of ours: a thread that waits for its turn.

    Attributes:
        env: the variables that its environment adds.
        host: the node that it runs on; its clock is off by `skew` seconds.
        killed: it does nothing more.
        frozen_until: its node hangs until then.
        signalled: it was asked to save and stop.
        replaced: the scheduler has taken it for dead and started its task again.
        looks: it only looks, and no time passes for it.
        leases: those that it keeps alive.
    """

    name: str
    work: Callable[[], Any]
    pid: int
    env: dict[str, str] = field(default_factory=dict)
    host: str = "login"
    skew: float = 0.0
    killed: bool = False
    frozen_until: float = 0.0
    signalled: bool = False
    replaced: bool = False
    looks: bool = False
    ended: bool = False
    leases: list[Any] = field(default_factory=list)
    result: Any = None
    turn: Any = field(default_factory=_thread.allocate_lock)


class World:
    """Clock, processes and events of one simulation."""

    def __init__(self, seed: int) -> None:
        self.rng, self.now = random.Random(seed), EPOCH
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.violations: list[str] = []
        self._events: list[tuple[float, int, Any]] = []
        self._numbers, self._pids = itertools.count(), itertools.count(100)
        self._back = _thread.allocate_lock()
        self._back.acquire()
        self._beaten = self.now
        self._main = threading.get_ident()

    # -- time ---------------------------------------------------------------------------------------------------------

    def at(self, delay: float, action: Callable[[], None] | Process) -> None:
        """Does something later: calls it, or gives a process its turn."""
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), action))

    def sleep(self, seconds: float) -> None:
        """The current process waits; others have their turns."""
        process = self.current
        assert process is not None
        if process.looks:
            return
        if process.killed:
            raise Killed
        self.at(max(0.0, seconds), process)
        self._back.release()
        process.turn.acquire()
        if process.killed:
            raise Killed

    def start(self, process: Process, delay: float = 0.0) -> Process:
        """Starts a process."""

        def body() -> None:
            process.turn.acquire()
            try:
                if not process.killed:
                    process.result = process.work()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 (a bare error of our code is what is looked for)
                self.violate(f"{process.name}: a bare {type(error).__name__}: {error}")
                process.result = 1
            process.ended = True
            process.leases.clear()
            self._back.release()

        process.turn.acquire()
        self.processes.append(process)
        threading.Thread(target=body, daemon=True).start()
        self.at(delay, process)
        return process

    def new(self, name: str, work: Callable[[], Any], **more: Any) -> Process:
        """A process that has not started."""
        return Process(name, work, next(self._pids), **more)

    @contextmanager
    def look(self) -> Iterator[None]:
        """What is called within is a process that only looks."""
        assert self.current is None
        self.current = Process("a look", lambda: None, 1, looks=True)
        try:
            yield
        finally:
            self.current = None

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        if not process.ended:
            process.killed = True
            process.leases.clear()
            self.at(0.0, process)

    def step(self) -> bool:
        """The next event; False where there is none."""
        if not self._events:
            return False
        when, _, action = heapq.heappop(self._events)
        self.now = max(self.now, when)
        if self.now - self._beaten >= 5.0:
            self._beaten = self.now
            for process in self.processes:
                if process.leases and process.frozen_until <= self.now:
                    self.current = process
                    for lease in process.leases:
                        lease.beat()
                    self.current = None
        if not isinstance(action, Process):
            action()
        elif not action.ended:
            if action.frozen_until > self.now and not action.killed:
                self.at(action.frozen_until - self.now, action)
            else:
                self._give_turn(action)
        self.processes = [p for p in self.processes if not p.ended]
        return True

    def _give_turn(self, process: Process) -> None:
        for name in [n for n in os.environ if n.startswith(_PREFIXES)]:
            del os.environ[name]
        os.environ.update(process.env)
        self.current = process
        process.turn.release()
        self._back.acquire()
        self.current = None

    def finish(self) -> None:
        """Ends what is left."""
        for process in self.processes:
            process.killed = True
            if not process.ended:
                self._give_turn(process)

    def violate(self, what: str) -> None:
        """Notes that an invariant does not hold."""
        self.violations.append(f"after {self.now - EPOCH:,.0f} s: {what}")

    # -- what processes see of it -------------------------------------------------------------------------------------

    @contextmanager
    def patched(self) -> Iterator[None]:
        """`time` is ours, for the process whose turn it is."""
        plain = {name: getattr(time, name) for name in ("time", "monotonic", "sleep", "time_ns")}

        def mine() -> bool:
            return self.current is not None

        ours: dict[str, Callable[..., Any]] = {
            "time": lambda: self.now + self.current.skew if mine() else plain["time"](),  # type: ignore[union-attr]
            "monotonic": lambda: self.now if mine() else plain["monotonic"](),
            "sleep": lambda seconds: self.sleep(seconds) if mine() else plain["sleep"](seconds),
            "time_ns": lambda: int(self.now * 1e9) if mine() else plain["time_ns"](),
        }
        kept = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}
        with ExitStack() as stack:
            for name, function in ours.items():
                stack.enter_context(patch.object(time, name, function))
            stack.enter_context(patch.object(os, "fsync", lambda fd: None))
            try:
                yield
            finally:
                for name in [n for n in os.environ if n.startswith(_PREFIXES)]:
                    del os.environ[name]
                os.environ.update(kept)
