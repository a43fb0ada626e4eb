"""The process that grades: `python -m undo_hpc.grading.worker MEMORY_MB CPU_SECONDS PARENT`, JSON lines in and out.

In:  `[[prediction, gold, kind, choices], ...]`, a job.
Out: `["ready"]` once; then for each job `["grades", [...]]` for its items in their order, in any number of lines; `["loading"]` before
the algebra is imported, which happens when first needed, and `["algebra"]` before an item goes to it, so that the parent knows which item
was at fault. The parent kills this process when it is late; nothing is saved here.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from typing import Any

from undo_hpc.grading import algebra
from undo_hpc.grading.decide import decide
from undo_hpc.grading.options import GradeItem
from undo_hpc.records import Grade

_FLUSH_SECONDS = 0.1


def confine(memory_mb: int) -> None:
    """Bounds memory, and takes away writing to files and core dumps."""
    size = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def follow_parent(parent: int) -> None:
    """Ends this process when its parent has gone, even in the middle of a computation."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def limit_cpu(seconds: float) -> None:
    """A last resort against code that never gives the interpreter back: the kernel ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime + seconds) + 1, hard))


class _Out:
    """Collects grades and sends them in batches."""

    def __init__(self, descriptor: int) -> None:
        self.stream = os.fdopen(descriptor, "wb")
        self.waiting: list[Any] = []
        self.since = time.monotonic()

    def send(self, message: list[Any]) -> None:
        self.stream.write(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")
        self.stream.flush()

    def add(self, grade: Grade) -> None:
        self.waiting.append([grade.verdict, grade.answer, grade.method, grade.extra, grade.boxed])
        if time.monotonic() - self.since > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.send(["grades", self.waiting])
            self.waiting = []
        self.since = time.monotonic()


_loaded = False


def load(out: _Out) -> None:
    """Imports the algebra, once; the parent allows time for that."""
    global _loaded
    if not _loaded:
        out.send(["loading"])
        algebra.warm_up()
        _loaded = True


def grade_one(item: GradeItem, out: _Out, cpu_seconds: float) -> Grade:
    """Grades an item; the parent is told before algebra begins."""
    announced = False

    def with_algebra(gold: str, pred: str) -> bool | None:
        nonlocal announced
        if not announced:
            announced = True
            out.flush()
            load(out)
            out.send(["algebra"])
            limit_cpu(cpu_seconds)
        return algebra.equal(gold, pred)

    found = decide(item, with_algebra)
    assert isinstance(found, Grade)
    return found


def main() -> int:
    """Serves jobs until its standard input ends."""
    memory_mb, cpu_seconds, parent = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    follow_parent(parent)
    out = _Out(os.dup(1))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    confine(memory_mb)
    sys.setrecursionlimit(3000)
    out.send(["ready"])
    for line in sys.stdin.buffer:
        for prediction, gold, kind, choices in json.loads(line):
            out.add(grade_one(GradeItem(prediction, gold, kind, tuple(choices)), out, cpu_seconds))
        out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
