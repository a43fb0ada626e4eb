"""Progress: how far a task is now. Overwritten, never fsynced, no evidence of anything."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.storage.atomic import temporary_name
from undo_hpc.storage.reading import read_fast


class ProgressFile:
    """A small file that says how far a task is; renamed into place, at most `every_s` seconds apart, never fsynced."""

    def __init__(self, path: Path, *, every_s: float = 0.5) -> None:
        self.path, self._every_s, self._last = path, every_s, 0.0

    def update(self, *, force: bool = False, **fields: Any) -> None:
        """Writes the fields (done, total, tokens_per_s, loss ...) with the time."""
        now = time.monotonic()
        if not force and now - self._last < self._every_s:
            return
        self._last = now
        temporary = temporary_name(self.path)
        data = orjson.dumps(
            {"time": time.time(), "pid": os.getpid(), **fields}, option=orjson.OPT_NON_STR_KEYS
        )
        with contextlib.suppress(OSError):  # a full disk is reported by those who write results
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the progress of an earlier start: its rate and its time left are not those of this one."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_progress(path: Path) -> dict[str, Any] | None:
    """The last progress of a task, or None."""
    with contextlib.suppress(OSError):  # replaced while we read it: NFS may say "stale file handle"
        return read_fast(path) or None
    return None
