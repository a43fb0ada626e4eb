"""The pool: worker processes that may be killed, and the loop that feeds them, keeps order and holds the clock.

Everything that reads an answer runs in a worker, with one worker as with many, so that the deadline holds for all of it: the parent
kills a worker that is late, gives the item the verdict `timeout`, and goes on. Only loading the algebra, once a worker, has more time.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from undo_hpc.errors import ConfigError, UndoError
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.reasoning import MAX_TEXT
from undo_hpc.records import Grade
from undo_hpc.system.invocation import python_module
from undo_hpc.system.unheard import unheard

JOB_ITEMS = 48
WINDOW_ITEMS = 8192
WINDOW_BYTES = 32 * 1024 * 1024
_START_SECONDS = 600.0  # on a crowded machine a start was seen to take over two minutes
_EARLY = 0.9  # a worker is killed at this share of the deadline, so that the verdict is there in time
_SEE_WHY = "is math-verify installed? Run `python -P -m undo_hpc.grading.worker 2048 10 1` to see why"


@dataclass
class _Ticket:
    """An item on its way: what is sent, how much memory it holds, its grade once there is one, and how many workers died over it."""

    row: list[Any]
    size: int
    grade: Grade | None = None
    deaths: int = 0


@dataclass
class _Worker:
    process: Popen[bytes]
    since: float  # when its clock started
    ready: bool = False
    loading: bool = False
    job: deque[_Ticket] = field(default_factory=deque)
    incoming: bytes = b""


def _ticket(item: GradeItem) -> _Ticket:
    """Only the end of a text counts; what is no text becomes one."""
    texts = ["" if text is None else str(text) for text in (item.prediction, item.gold)]
    row = [*(text[-MAX_TEXT:] for text in texts), item.kind, item.choices]
    return _Ticket(row, sum(map(len, texts)) + 100)


class Checker:
    """Grades answers with `workers` processes. A context manager; `close()` ends its processes.

    Args:
        workers: processes; they start when first needed, or at `warm()`.
        deadline_s: seconds within which each item has a verdict.
        memory_mb: address space of each worker, in MiB.
    """

    def __init__(self, workers: int = 1, deadline_s: float = 5.0, memory_mb: int = 2048) -> None:
        if not 1 <= workers <= 1024 or not deadline_s > 0 or memory_mb < 256:
            raise ConfigError(
                f"grading needs 1 to 1024 workers, deadline_s > 0 and memory_mb >= 256, not {workers}, {deadline_s}, {memory_mb}",
                hint="leave the settings of grading at their defaults, or correct these",
            )
        self.workers, self.deadline_s, self.memory_mb = workers, deadline_s, memory_mb
        self._pool: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._jobs: deque[deque[_Ticket]] = deque()

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker processes and waits for them. After an interruption (a second Ctrl-C) the rest can be closed again."""
        while self._pool:
            self._end(self._pool.pop())
        self._jobs.clear()

    def warm(self) -> None:
        """Starts the workers and waits until all of them are ready."""
        self._start_missing(self.workers)
        while any(not worker.ready for worker in self._pool):
            self._turn(1.0)

    def grade(self, item: GradeItem) -> Grade:
        """Grades one item."""
        return next(self._run(iter([item]), 1))

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """Grades as the items come, in their order; at most 8,192 items or 32 MiB are in flight."""
        yield from self._run(iter(items), self.workers)

    def _run(self, items: Iterator[GradeItem], wanted: int) -> Iterator[Grade]:
        """The loop: take items in while there is room, hand out grades in order, keep the clock."""
        order: deque[_Ticket] = deque()
        held, more = 0, True
        try:
            while more or order:
                while order and order[0].grade is not None:
                    ticket = order.popleft()
                    held -= ticket.size
                    yield ticket.grade  # type: ignore[misc]
                room = (
                    len(order) < WINDOW_ITEMS and held < WINDOW_BYTES and len(self._jobs) <= 2 * self.workers
                )
                if more and room:
                    job = deque(map(_ticket, islice(items, JOB_ITEMS)))
                    more = bool(job)
                    order.extend(job)
                    held += sum(ticket.size for ticket in job)
                    if job:
                        self._jobs.append(job)
                        self._start_missing(wanted)
                    self._turn(0.0)
                elif order:
                    self._turn(1.0)
        finally:
            if order:  # the caller stopped early, or an input failed
                self.close()

    def _start_missing(self, wanted: int) -> None:
        while len(self._pool) < wanted:
            self._pool.append(self._start())

    def _start(self) -> _Worker:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        limits = [str(self.memory_mb), str(2 * self.deadline_s + 5), str(os.getpid())]
        command = python_module("undo_hpc.grading.worker", *limits)
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with unheard():
            process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=env, start_new_session=True)
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        worker = _Worker(process, time.monotonic())
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        assert worker.process.stdout and worker.process.stdin
        worker.process.kill()
        self._selector.unregister(worker.process.stdout)
        worker.process.wait()
        worker.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # it died with a job half sent
            worker.process.stdin.close()

    def _turn(self, timeout: float) -> None:
        """One turn of the loop: read from the workers, replace the late, give jobs to the idle."""
        now = time.monotonic()
        patience = min((self._end_of(w) - now for w in self._pool if w.job or not w.ready), default=timeout)
        for key, _ in self._selector.select(max(0.0, min(timeout, patience))):
            self._read(key.data)
        now = time.monotonic()
        for worker in list(self._pool):
            if now > self._end_of(worker) and not worker.ready:
                raise UndoError(f"a grading worker did not start within {_START_SECONDS:g} s", hint=_SEE_WHY)
            if now > self._end_of(worker) and worker.job:
                self._replace(worker, Grade("timeout", "", "deadline"))
        for worker in self._pool:
            if worker.ready and not worker.job and self._jobs:
                self._send(worker, self._jobs.popleft())

    def _end_of(self, worker: _Worker) -> float:
        """When a worker is late."""
        unbounded = not worker.ready or worker.loading
        return worker.since + (_START_SECONDS if unbounded else self.deadline_s * _EARLY)

    def _send(self, worker: _Worker, job: deque[_Ticket]) -> None:
        """An idle worker waits for its input, so that writing does not block for long."""
        assert worker.process.stdin
        worker.job, worker.since = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died; the end of its output says so
            worker.process.stdin.write(json.dumps([ticket.row for ticket in job]).encode("ascii") + b"\n")
            worker.process.stdin.flush()

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout
        data = os.read(worker.process.stdout.fileno(), 1 << 20)
        if not data:
            return self._died(worker)
        *lines, worker.incoming = (worker.incoming + data).split(b"\n")
        worker.since = time.monotonic()
        for line in lines:
            message = json.loads(line)
            worker.ready, worker.loading = True, message == "loading"
            if isinstance(message, list):
                worker.job.popleft().grade = Grade(*message)

    def _died(self, worker: _Worker) -> None:
        """A worker that ended by itself: memory, or somebody killed it. Its item is tried once more: it may be no fault of that."""
        if not worker.ready or worker.loading:
            raise UndoError(
                f"a worker ended with code {worker.process.wait()} before it was ready", hint=_SEE_WHY
            )
        for ticket in list(worker.job)[:1]:
            ticket.deaths += 1
        once = bool(worker.job) and worker.job[0].deaths == 1
        self._replace(worker, None if once else Grade("unparsed", "", "memory"))

    def _replace(self, worker: _Worker, fault: Grade | None) -> None:
        """A new worker; the item at fault gets its verdict (None: another try), the rest of the job starts again."""
        self._end(worker)
        self._pool[self._pool.index(worker)] = self._start()
        if worker.job and fault is not None:
            worker.job.popleft().grade = fault
        if worker.job:
            self._jobs.appendleft(worker.job)
