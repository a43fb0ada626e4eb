"""Signs of life in a file: who holds a lease, and which teacher server answers. One rule for when an owner counts as dead.

A record holds host, pid, start (of the process, see `process_start`) and heartbeat (seconds since the epoch).
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from undo_hpc.system.forking import process_start

HEARTBEAT_S = 5.0
STALE_S = 45.0  # NFS may show a heartbeat late, and clocks of nodes differ; nine missed beats are death


def own_process() -> dict[str, Any]:
    """The record of this process, without its heartbeat."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "start": process_start(os.getpid())}


def is_record(record: Mapping[str, Any]) -> bool:
    """Whether what a record holds has the types that this program writes; what it lacks is no matter."""
    try:
        beats = math.isfinite(float(record.get("heartbeat", 0)))
    except (TypeError, ValueError, OverflowError):
        return False
    words = all(isinstance(record.get(key, ""), str) for key in ("token", "host", "start", "job"))
    return beats and words and all(type(record.get(key, 0)) is int for key in ("pid", "restart"))


def alive_here(pid: int, start: str) -> bool | None:
    """Whether a process of this host lives; None where that is hidden from us (another user's, and /proc with hidepid)."""
    found = process_start(pid)
    if found:
        return found == start
    try:
        os.kill(pid, 0)
    except PermissionError:
        return None
    except (ProcessLookupError, OverflowError):
        return False
    return False  # ours, and ended: its parent has not collected its status yet


def is_alive(record: Mapping[str, Any], *, stale_s: float = STALE_S) -> bool:
    """Whether a record's owner is alive: on this host its process is asked, elsewhere its heartbeat.

    Raises:
        ValueError, TypeError: the record is none.
    """
    if record.get("start") and record.get("host") == socket.gethostname():
        alive = alive_here(int(record.get("pid", 0)), str(record["start"]))
        if alive is not None:
            return alive
    return time.time() - float(record.get("heartbeat", 0)) <= stale_s
