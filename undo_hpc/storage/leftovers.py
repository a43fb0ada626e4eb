"""Temporary files and folders of writers that were killed: removed once their writer is known to be dead."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

from undo_hpc.storage.atomic import own_host
from undo_hpc.system.forking import process_start

_NAME = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
ELSEWHERE_S = 3600.0  # a writer on another host cannot be asked; no file takes an hour to write


def remove_leftovers(folder: Path) -> list[Path]:
    """Removes what dead writers left below a folder (see `temporary_name`); returns what was removed.

    A writer of this host is dead when its process is gone, one of another host when its file has not changed for an hour.
    """
    removed = []
    for parent, folders, names in os.walk(folder):
        if "code" in folders and parent == str(folder):
            folders.remove("code")  # a snapshot of thousands of files, published whole
        for name in [*names, *folders]:
            found = _NAME.fullmatch(name)
            if found is None:
                continue
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                if not _is_dead(path, found["host"], int(found["pid"])):
                    continue
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed.append(path)
    return removed


def _is_dead(path: Path, host: str, pid: int) -> bool:
    if host == own_host():
        return not process_start(pid)
    return time.time() - path.stat().st_mtime > ELSEWHERE_S
