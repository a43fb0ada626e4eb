"""Logs of tasks: where they lie on either cluster, their last lines, and following them as they grow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from undo_hpc.pipeline.layout import Layout

TAIL_BYTES = 64 * 1024


def logs_of(layout: Layout, iteration: int, stage: str, index: int) -> list[Path]:
    """The log files of a task, oldest first: one of the local cluster, and one for each SLURM job that ran it."""
    at = layout.iteration(iteration)
    found = [at.log(stage, index)]
    if layout.submissions.exists():
        from undo_hpc.cluster.journal import SubmissionJournal
        from undo_hpc.cluster.names import JobName

        for entry in SubmissionJournal(layout.submissions).entries():
            if entry.iteration != iteration or entry.stage != stage or not entry.job_id:
                continue
            if "/" in entry.job_id:  # in a run that was handed over: a way to a file of ours
                continue
            if entry.indices is None:
                found.append(at.job_log(stage, entry.job_id))
            elif (name := JobName.parse(entry.name)) and (not name.group or index in entry.indices):
                found.append(at.job_log(stage, f"{entry.job_id}_{name.element_of(index)}"))
    return [path for path in found if path.is_file()]


def tail(path: Path, lines: int = 12) -> list[str]:
    """The last lines of a log; reads at most its last 64 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def follow(path: Path, *, going_on: Callable[[], bool], every_s: float = 0.5) -> Iterator[str]:
    """The text of a log from its beginning, then what is added, until `going_on` says that nothing more will come."""
    with path.open("rb") as file:
        while True:
            last = not going_on()
            while chunk := file.read(1 << 16):
                yield chunk.decode("utf-8", "replace")
            if last:
                return
            time.sleep(every_s)
