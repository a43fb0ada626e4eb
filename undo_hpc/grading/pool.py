"""The pool: worker processes that may be killed, and the loop that feeds them, keeps order and holds the clock.

Everything that reads an answer runs in a worker, with one worker as with many, so that the deadline holds for all of it: the parent
kills a worker that is late, gives the item the verdict `timeout`, and goes on. Only loading the algebra, once a worker, has more time.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc.errors import UndoError
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.reasoning import MAX_TEXT
from undo_hpc.records import Grade

JOB_ITEMS = 48
JOB_BYTES = 256 * 1024
WINDOW_ITEMS = 8192
WINDOW_BYTES = 32 * 1024 * 1024
_START_SECONDS = 120.0
_EARLY = 0.9  # a worker is killed at this share of the deadline, so that the verdict is there in time


@dataclass
class _Job:
    """Items on their way to a worker, each with its place in the output."""

    items: deque[tuple[int, GradeItem]]
    alone: bool = False


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    started: float
    ready: bool = False
    job: _Job | None = None
    since: float = 0.0
    in_algebra: bool = False
    loading: bool = False
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)


def trimmed(item: GradeItem) -> GradeItem:
    """The item as it is sent: only the end of a text counts; what is no text becomes one."""
    prediction = (
        item.prediction
        if isinstance(item.prediction, str)
        else ("" if item.prediction is None else str(item.prediction))
    )
    gold = item.gold if isinstance(item.gold, str) else ("" if item.gold is None else str(item.gold))
    if (
        len(prediction) <= MAX_TEXT
        and len(gold) <= MAX_TEXT
        and prediction is item.prediction
        and gold is item.gold
    ):
        return item
    return GradeItem(prediction[-MAX_TEXT:], gold[-MAX_TEXT:], item.kind, item.choices)


class Checker:
    """Grades answers with `workers` processes. A context manager; `close()` ends its processes.

    Args:
        workers: processes; they start when first needed, or at `warm()`.
        deadline_s: seconds within which each item has a verdict.
        memory_mb: address space of each worker, in MiB.
    """

    def __init__(self, workers: int = 1, deadline_s: float = 5.0, memory_mb: int = 2048) -> None:
        if workers < 1 or deadline_s <= 0 or memory_mb < 256:
            raise UndoError(
                f"grading needs workers >= 1, deadline_s > 0 and memory_mb >= 256, not {workers}, {deadline_s}, {memory_mb}",
                hint="leave the settings of grading at their defaults, or correct these",
            )
        self.workers, self.deadline_s, self.memory_mb = workers, deadline_s, memory_mb
        self._pool: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._jobs: deque[_Job] = deque()
        self._done: dict[int, Grade] = {}
        self._in_flight: dict[int, int] = {}
        self._bytes = 0

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker processes and waits for them."""
        for worker in self._pool:
            self._end(worker)
        self._pool.clear()
        self._jobs.clear()
        self._done.clear()
        self._in_flight.clear()
        self._bytes = 0

    def warm(self) -> None:
        """Starts the workers and waits until all of them are ready."""
        self._start_missing(self.workers)
        while any(not worker.ready for worker in self._pool):
            self._turn(1.0)

    def grade(self, item: GradeItem) -> Grade:
        """Grades one item."""
        return next(self._spread([item], 1))

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """Grades as the items come, in their order; at most 8,192 items or 32 MiB are in flight."""
        yield from self._spread(items, self.workers)

    def _spread(self, items: Iterable[GradeItem], wanted: int) -> Iterator[Grade]:
        def jobs() -> Iterator[_Job]:
            batch: deque[tuple[int, GradeItem]] = deque()
            size = 0
            for place, item in enumerate(map(trimmed, items)):
                self._take_in(place, item)
                batch.append((place, item))
                size += self._in_flight[place]
                if len(batch) >= JOB_ITEMS or size >= JOB_BYTES:
                    yield _Job(batch)
                    batch, size = deque(), 0
            if batch:
                yield _Job(batch)

        yield from self._run(jobs(), wanted)

    def _take_in(self, place: int, item: GradeItem) -> None:
        self._in_flight[place] = len(item.prediction) + len(item.gold) + 100
        self._bytes += self._in_flight[place]

    def _run(self, jobs: Iterator[_Job], wanted: int) -> Iterator[Grade]:
        """The loop: take jobs in while there is room, hand out grades in order, keep the clock."""
        place, more = 0, True
        try:
            while more or self._in_flight or place in self._done:
                while place in self._done:
                    yield self._done.pop(place)
                    place += 1
                if more and self._has_room():
                    try:
                        job = next(jobs)
                    except StopIteration:
                        more = False
                        continue
                    self._jobs.append(job)
                    self._start_missing(wanted)
                    if self._hand_out() or len(self._jobs) < wanted:
                        self._turn(0.0)
                    continue
                if self._in_flight:
                    self._turn(self._patience())
        finally:
            if self._in_flight or self._jobs:  # the caller stopped early, or an input failed
                self.close()
            self._done.clear()

    def _has_room(self) -> bool:
        waiting = len(self._done) + len(self._in_flight)
        return waiting < WINDOW_ITEMS and self._bytes < WINDOW_BYTES and len(self._jobs) <= 2 * self.workers

    def _start_missing(self, wanted: int) -> None:
        while len(self._pool) < wanted:
            self._pool.append(self._start())

    def _start(self) -> _Worker:
        root = str(Path(__file__).resolve().parent.parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        environment = os.environ | {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [
            sys.executable,
            "-m",
            "undo_hpc.grading.worker",
            str(self.memory_mb),
            str(2 * self.deadline_s + 5),
            str(os.getpid()),
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        worker = _Worker(process, time.monotonic())
        assert process.stdin and process.stdout
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        process = worker.process
        assert process.stdin and process.stdout
        for stream in (process.stdin, process.stdout):
            if stream in self._selector.get_map():
                self._selector.unregister(stream)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def _hand_out(self) -> bool:
        """Gives waiting jobs to idle workers; True where one was given."""
        given = False
        for worker in self._pool:
            if worker.ready and worker.job is None and self._jobs:
                self._send(worker, self._jobs.popleft())
                given = True
        return given

    def _send(self, worker: _Worker, job: _Job) -> None:
        rows = [[item.prediction, item.gold, item.kind, item.choices] for _, item in job.items]
        worker.outgoing += json.dumps(rows, separators=(",", ":")).encode("ascii") + b"\n"
        worker.job, worker.since, worker.in_algebra, worker.loading = job, time.monotonic(), False, False
        self._write(worker)

    def _write(self, worker: _Worker) -> None:
        stdin = worker.process.stdin
        assert stdin
        try:
            while worker.outgoing:
                sent = os.write(stdin.fileno(), worker.outgoing[:65536])
                del worker.outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:  # it died; reading its end says so
            worker.outgoing.clear()
        registered = stdin in self._selector.get_map()
        if worker.outgoing and not registered:
            self._selector.register(stdin, selectors.EVENT_WRITE, worker)
        elif not worker.outgoing and registered:
            self._selector.unregister(stdin)

    def _patience(self) -> float:
        """Seconds until the first clock runs out."""
        now = time.monotonic()
        ends = [
            self._end_of(worker) - now for worker in self._pool if worker.job is not None or not worker.ready
        ]
        return max(0.0, min([*ends, 1.0]))

    def _end_of(self, worker: _Worker) -> float:
        """When a worker is late."""
        if not worker.ready:
            return worker.started + _START_SECONDS
        return worker.since + (_START_SECONDS if worker.loading else self.deadline_s * _EARLY)

    def _turn(self, timeout: float) -> None:
        """One turn of the loop: hear from the workers, feed them, kill the late."""
        for key, mask in self._selector.select(timeout):
            worker: _Worker = key.data
            if mask & selectors.EVENT_WRITE:
                self._write(worker)
            if mask & selectors.EVENT_READ:
                self._read(worker)
        now = time.monotonic()
        for worker in list(self._pool):
            if now <= self._end_of(worker):
                continue
            if worker.ready and worker.job is not None:
                self._late(worker)
            elif not worker.ready:
                raise UndoError(
                    "a grading worker did not start",
                    hint="run `python -m undo_hpc.grading.worker 2048 10 1` to see why",
                )
        self._hand_out()

    def _read(self, worker: _Worker) -> None:
        stdout = worker.process.stdout
        assert stdout
        try:
            data = os.read(stdout.fileno(), 1 << 20)
        except BlockingIOError:
            return
        if not data:
            self._died(worker)
            return
        worker.incoming += data
        *lines, rest = worker.incoming.split(b"\n")
        worker.incoming = bytearray(rest)
        for line in lines:
            self._hear(worker, json.loads(line))

    def _hear(self, worker: _Worker, message: list[Any]) -> None:
        worker.since = time.monotonic()
        if message[0] == "ready":
            worker.ready = True
        elif message[0] in ("loading", "algebra"):
            worker.loading, worker.in_algebra = message[0] == "loading", message[0] == "algebra"
        elif worker.job is not None:
            worker.in_algebra = False
            for fields in message[1]:
                place, _ = worker.job.items.popleft()
                self._finish(place, Grade(*fields))
            if not worker.job.items:
                worker.job = None

    def _finish(self, place: int, grade: Grade) -> None:
        self._done[place] = grade
        self._bytes -= self._in_flight.pop(place)

    def _late(self, worker: _Worker) -> None:
        """Kills a worker whose clock ran out. The item at fault times out; the rest of its job starts again."""
        self._replace(worker, Grade("timeout", "", "deadline"))

    def _died(self, worker: _Worker) -> None:
        """A worker that ended by itself: memory, or a signal from outside."""
        if not worker.ready or worker.loading:
            code = worker.process.wait()
            raise UndoError(
                f"a grading worker ended with code {code} before it was ready",
                hint="is math-verify installed? Run `python -m undo_hpc.grading.worker 2048 10 1` to see why",
            )
        self._replace(worker, Grade("unparsed", "", "memory"))

    def _replace(self, worker: _Worker, fault: Grade) -> None:
        job = worker.job
        self._end(worker)
        self._pool[self._pool.index(worker)] = self._start()
        if job is None:
            return
        if worker.in_algebra or job.alone:
            place, _ = job.items.popleft()
            self._finish(place, fault)
            if job.items:
                self._jobs.appendleft(job)
        else:  # which item it was is not known yet: each goes alone
            self._jobs.extendleft(_Job(deque([pair]), alone=True) for pair in reversed(job.items))
