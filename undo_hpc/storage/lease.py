"""Leases: who may publish. One owner at a time of a run or a task, and a zombie cannot write over its successor.

SLURM may start a job again on another node while its old processes live on, and may give a job id twice; so an owner is a
random token with (job id, restart count, host, process, heartbeat), never a job id alone. The owner asks `still_ours` before
it publishes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from undo_hpc.errors import LeaseError
from undo_hpc.storage.atomic import explained

HEARTBEAT_S = 5.0
STALE_S = 45.0  # NFS may show a heartbeat late; nine missed beats are death


def process_start(pid: int) -> str:
    """Start time of a process of this host in clock ticks (a pid alone may be given again), or empty where it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _me() -> dict[str, Any]:
    return {
        "token": secrets.token_hex(8),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0),
        "heartbeat": time.time(),
    }


def _dead(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether the old owner is gone, or has been declared gone by SLURM (same job, earlier start)."""
    if old.get("job") and old.get("job") == new["job"] and int(old.get("restart", 0)) < new["restart"]:
        return True
    if old.get("host") == new["host"] and process_start(int(old.get("pid", 0))) != old.get("start"):
        return True
    return time.time() - float(old.get("heartbeat", 0)) > STALE_S


class Lease:
    """Ownership of a path, kept alive by a heartbeat thread; a context manager.

    Args:
        path: the lease file.
        what: what is owned, in words, for messages.
        wait_s: how long to wait for another owner's heartbeat to cease, before LeaseError is raised.
    """

    def __init__(self, path: Path, what: str, *, wait_s: float = 0.0) -> None:
        self.path, self.what, self._wait_s = path, what, wait_s
        self._mine = _me()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._wait_s
        while not self._take():
            if time.monotonic() >= deadline:
                other = self._read() or {}
                where = f"process {other.get('pid')} on {other.get('host')}" + (
                    f", job {other['job']}" if other.get("job") else ""
                )
                raise LeaseError(
                    f"{self.what} is in use by {where}",
                    hint="wait for it to end, or stop it; then run the same command again",
                )
            time.sleep(0.5)
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self.still_ours():
            self.path.unlink(missing_ok=True)

    def still_ours(self) -> bool:
        """Whether nobody has taken over; ask before every publication."""
        current = self._read()
        return current is not None and current.get("token") == self._mine["token"]

    def check(self) -> None:
        """Raises LeaseError where a successor has taken over."""
        if not self.still_ours():
            raise LeaseError(
                f"{self.what} was taken over by a later start of this task; this one publishes nothing",
                hint="nothing to do: the later start goes on",
            )

    def _read(self) -> dict[str, Any] | None:
        try:
            data = orjson.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError:
            return {}
        return data if isinstance(data, dict) else {}

    def _take(self) -> bool:
        """One try: link our file to the name (fails where it exists, on NFS too); a dead owner's file is moved away first."""
        mine = self.path.with_name(f".{self.path.name}.{self._mine['token']}")
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._mine["heartbeat"] = time.time()
            mine.write_bytes(orjson.dumps(self._mine))
            try:
                old = self._read()
                if old is not None:
                    if not _dead(old, self._mine):
                        return False
                    grave = self.path.with_name(f".{self.path.name}.{self._mine['token']}.old")
                    try:
                        self.path.rename(grave)
                    except FileNotFoundError:
                        return False
                    buried = orjson.loads(grave.read_bytes() or b"{}")
                    if buried.get("token") != old.get("token"):  # somebody took it between our look and our move
                        grave.rename(self.path)
                        return False
                    grave.unlink()
                try:
                    os.link(mine, self.path)
                except FileExistsError:
                    return False
                return True
            finally:
                mine.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            temporary = self.path.with_name(f".{self.path.name}.{self._mine['token']}")
            try:
                if not self.still_ours():
                    return
                self._mine["heartbeat"] = time.time()
                temporary.write_bytes(orjson.dumps(self._mine))
                if self.still_ours():
                    temporary.replace(self.path)
            except OSError:  # a missed beat is no harm; the next one or the check before publishing tells
                continue
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
