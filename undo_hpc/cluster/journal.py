"""What was handed to a cluster: an intent before each sbatch, the job's id after it, both durable.

A launcher that dies between the two leaves an intent without an id; the job, if there is one, is found by its name,
which is unique. The journal never says that anything is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undo_hpc.cluster.names import ranges
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.storage.events import append_line
from undo_hpc.storage.reading import read_rows_tolerant

_TEXTS = {
    "intent": ("name", "stage"),
    "submitted": ("name", "job_id"),
    "found": ("name", "job_id"),
    "refused": ("name",),
}  # what a row of each event is not without
_MOST_TASKS = 10_000_000  # of a stage; a damaged number must not become as many indices


@dataclass(frozen=True)
class Entry:
    """One sbatch: `job_id` is empty where the intent is all there is."""

    name: str
    stage: str
    iteration: int
    attempt: int
    indices: tuple[int, ...] | None
    after: tuple[str, ...]
    time: float
    job_id: str = ""


class SubmissionJournal:
    """RUN_DIR/submissions.jsonl. Only the holder of the run's lease writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _append(self, row: dict[str, object]) -> None:
        append_line(self.path, row, durable=True)

    def intend(
        self,
        name: str,
        stage: str,
        iteration: int,
        attempt: int,
        indices: tuple[int, ...] | None,
        after: tuple[str, ...],
    ) -> None:
        """Before sbatch."""
        self._append(
            {
                "event": "intent",
                "name": name,
                "stage": stage,
                "iteration": iteration,
                "attempt": attempt,
                "indices": compress(indices),
                "after": after,
                "uid": os.getuid(),
                "time": round(time.time(), 3),
            }
        )

    def submitted(self, name: str, job_id: str, *, found: bool = False) -> None:
        """After sbatch; `found` where the id was looked up later."""
        self._append(
            {
                "event": "found" if found else "submitted",
                "name": name,
                "job_id": job_id,
                "time": round(time.time(), 3),
            }
        )

    def refused(self, name: str, why: str) -> None:
        """sbatch said no."""
        self._append({"event": "refused", "name": name, "why": why, "time": round(time.time(), 3)})

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Rows with what this program writes. A torn line: its sbatch was not called; one that was damaged later names no job any more,
        which squeue still names."""
        with translate_os_error(self.path):
            for row in read_rows_tolerant(self.path):
                texts = _TEXTS.get(str(row.get("event")))
                if texts and all(isinstance(row.get(key), str) for key in texts):
                    yield row

    def users(self) -> set[int]:
        """Numbers of the users who have submitted jobs of the run: a group may share one."""
        return {row["uid"] for row in self._rows() if type(row.get("uid")) is int}

    def entries(self) -> list[Entry]:
        """All submissions that were not refused, oldest first."""
        found: dict[str, Entry] = {}
        ids: dict[str, str] = {}
        for row in self._rows():
            name = row["name"]
            if row["event"] == "intent":
                if (entry := _entry(name, row)) is not None:
                    found[name] = entry
            elif row["event"] == "refused":
                found.pop(name, None)
            else:
                ids[name] = row["job_id"]
        return [replace(entry, job_id=ids.get(name, "")) for name, entry in found.items()]

    def attempts(self, iteration: int) -> dict[str, int]:
        """How often each stage of an iteration was submitted so far."""
        counts: dict[str, int] = {}
        for entry in self.entries():
            if entry.iteration == iteration:
                counts[entry.stage] = max(counts.get(entry.stage, 0), entry.attempt + 1)
        return counts


def _entry(name: str, row: Mapping[str, Any]) -> Entry | None:
    """What was meant to be submitted; None where the row is damaged."""
    iteration, attempt, after, at = (row.get(key) for key in ("iteration", "attempt", "after", "time"))
    if type(iteration) is not int or type(attempt) is not int or not isinstance(at, int | float):
        return None
    if not isinstance(after, list) or not all(isinstance(each, str) for each in after):
        return None
    try:
        indices = expand(row.get("indices"))
    except (TypeError, ValueError):
        return None
    return Entry(name, row["stage"], iteration, attempt, indices, tuple(after), float(at))


def compress(indices: tuple[int, ...] | None) -> list[list[int]] | None:
    """Indices as [first, last] ranges: ten thousand shards stay one short line."""
    if indices is None:
        return None
    return [[first, last] for first, last in ranges(indices)]


def expand(ranges: object) -> tuple[int, ...] | None:
    """Back from `compress`. Raises TypeError, ValueError for anything else."""
    if ranges is None:
        return None
    if not isinstance(ranges, list):
        raise TypeError("no ranges")
    if any(not 0 <= a <= b < _MOST_TASKS for a, b in ranges):
        raise ValueError("no ranges of tasks")
    return tuple(i for a, b in ranges for i in range(a, b + 1))
