"""The process that grades: `python -m undo_hpc.grading.worker MEMORY_MB CPU_SECONDS PARENT`, JSON lines in and out.

In:  `[[prediction, gold, kind, choices], ...]`, a job.
Out: `"ready"` once; then one grade (a list of its fields) for each item in order, so that the parent always knows which item is at work;
`"loading"` before the algebra is imported, which happens when first needed. The parent kills this process when it is late.
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


def main() -> int:
    """Serves jobs until its standard input ends."""
    memory_mb, cpu_seconds, parent = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    follow_parent(parent)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    confine(memory_mb)
    sys.setrecursionlimit(3000)
    loaded = False

    def send(message: Any) -> None:
        out.write(json.dumps(message).encode("ascii") + b"\n")
        out.flush()

    def with_algebra(gold: str, pred: str) -> bool | None:
        nonlocal loaded
        if not loaded:
            send("loading")
            algebra.warm_up()
            loaded = True
            send("ready")
        limit_cpu(cpu_seconds)
        return algebra.equal(gold, pred)

    send("ready")
    for line in sys.stdin.buffer:
        for prediction, gold, kind, choices in json.loads(line):
            found = decide(GradeItem(prediction, gold, kind, tuple(choices)), with_algebra)
            assert isinstance(found, Grade)
            send([found.verdict, found.answer, found.method, found.extra, found.boxed])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
