"""Events: what happened, appended line by line and kept. How far a task is just now: progress.py."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.storage.atomic import fsync_dir, make_folder, translate_os_error
from undo_hpc.storage.opening import open_file
from undo_hpc.storage.reading import read_rows_tolerant
from undo_hpc.storage.shards import seal_line


class EventLog:
    """Appends one JSON line an event, with time, host, process and checksum (costs rest on them). One write call a line: lines of several
    writers do not mix."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, **fields: Any) -> None:
        """Adds an event; `kind` says what happened. Raises StorageError where the disk is full or read-only."""
        row = {
            "time": round(time.time(), 3),
            "kind": kind,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **fields,
        }
        append_line(self.path, row, sealed=True)


def append_line(path: Path, row: dict[str, Any], *, durable: bool = False, sealed: bool = False) -> None:
    """Appends one JSON line, on a line of its own even where a crash or a full disk has left half a line before it.

    Raises StorageError where the disk is full or read-only.
    """
    with translate_os_error(path):
        make_folder(path.parent)
        fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
            data = (b"\n" if torn else b"") + (seal_line(line) if sealed else line)
            while data:  # in one piece, unless the disk is full: then the second call says so
                data = data[os.write(fd, data) :]
            if durable:
                os.fsync(fd)
                if not size:  # a new file: its name is to last as well
                    fsync_dir(path.parent)
        finally:
            os.close(fd)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log; a torn line (a crash in the middle of a write), one that has changed and one that is no event are skipped."""
    for row in read_rows_tolerant(path):
        if isinstance(row.get("kind"), str) and isinstance(row.get("time"), int | float):
            yield row
