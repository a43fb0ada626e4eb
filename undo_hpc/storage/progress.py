"""Progress: what a task says of itself just now. Overwritten, never fsynced, no evidence of anything."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import orjson


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
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        data = orjson.dumps(
            {"time": time.time(), "pid": os.getpid(), **fields}, option=orjson.OPT_NON_STR_KEYS
        )
        with contextlib.suppress(OSError):  # a full disk is for those to report who write what matters
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(self.path)

    def clear(self) -> None:
        """Forgets what an earlier start said: its rate and its time left are not those of this one."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_progress(path: Path) -> dict[str, Any] | None:
    """What a task last said of itself, or None."""
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):  # replaced while we read it: NFS may say "stale file handle"
        return None
    return data if isinstance(data, dict) else None
