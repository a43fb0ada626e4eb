"""What was handed to a cluster: an intent before each sbatch, the job's id after it, both durable.

A launcher that dies between the two leaves an intent without an id; the job, if there is one, is found by its name,
which is unique. The journal never says that anything is complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.cluster.names import ranges
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.storage.events import append_line
from undo_hpc.storage.reading import read_rows_tolerant


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

    def _rows(self) -> Iterator[dict[str, object]]:
        with translate_os_error(self.path):
            yield from read_rows_tolerant(self.path)  # a torn line: its sbatch was not called

    def users(self) -> set[int]:
        """Numbers of the users who have submitted jobs of the run: a group may share one."""
        return {int(str(row["uid"])) for row in self._rows() if "uid" in row}

    def entries(self) -> list[Entry]:
        """All submissions that were not refused, oldest first."""
        intents: dict[str, dict[str, object]] = {}
        ids: dict[str, str] = {}
        for row in self._rows():
            name = str(row.get("name", ""))
            if row["event"] == "intent":
                intents[name] = row
            elif row["event"] == "refused":
                intents.pop(name, None)
            else:
                ids[name] = str(row["job_id"])
        return [
            Entry(
                name,
                str(r["stage"]),
                int(str(r["iteration"])),
                int(str(r["attempt"])),
                expand(r["indices"]),
                tuple(r["after"]),  # type: ignore[arg-type]
                float(str(r["time"])),
                ids.get(name, ""),
            )
            for name, r in intents.items()
        ]

    def attempts(self, iteration: int) -> dict[str, int]:
        """How often each stage of an iteration was submitted so far."""
        counts: dict[str, int] = {}
        for entry in self.entries():
            if entry.iteration == iteration:
                counts[entry.stage] = max(counts.get(entry.stage, 0), entry.attempt + 1)
        return counts


def compress(indices: tuple[int, ...] | None) -> list[list[int]] | None:
    """Indices as [first, last] ranges: ten thousand shards stay one short line."""
    if indices is None:
        return None
    return [[first, last] for first, last in ranges(indices)]


def expand(ranges: object) -> tuple[int, ...] | None:
    """Back from `compress`."""
    if not isinstance(ranges, list):
        return None
    return tuple(i for a, b in ranges for i in range(int(a), int(b) + 1))
