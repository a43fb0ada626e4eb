"""Leases: who may publish. One owner at a time of a run or a task, and a zombie cannot write over its successor.

SLURM may start a job again on another node while its old processes live on, and may give a job id twice; so an owner is a
random token with (job id, restart count, host, process, heartbeat), never a job id alone. The owner asks `still_ours` before
it publishes. A heartbeat is written into the owner's own file, in place: one that was held up for long (a node that hung)
lands in a file that no name leads to any more, never on a successor's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from undo_hpc.errors import LeaseError
from undo_hpc.storage.atomic import make_folder, temporary_name, translate_os_error
from undo_hpc.storage.heartbeat import HEARTBEAT_S, STALE_S, alive_here, is_record, own_process
from undo_hpc.storage.opening import open_file, read_bytes

OWNER = "UNDO_LEASE_OWNER"  # TOKEN:PATH, in the environment of processes that publish for the owner
WATCH_S = 12.0  # clocks of nodes differ: an owner that looks silent by ours is watched for two beats before it counts as dead


def _own_identity() -> dict[str, Any]:
    return {
        "token": secrets.token_hex(8),
        **own_process(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0),
    }


def read_lease(path: Path) -> dict[str, Any] | None:
    """A lease as it is now, or None where there is none."""
    data = read_bytes(path)
    return None if data is None else _parsed(data)


def is_owner(path: Path, token: str) -> bool:
    """Whether the lease is still that owner's."""
    current = read_lease(path)
    if current is None:  # one who found it dead a moment ago may be putting it back
        time.sleep(0.5)
        current = read_lease(path)
    return current is not None and current.get("token") == token


def taken_over_error(what: str) -> LeaseError:
    """The error of one who owns it no more."""
    return LeaseError(
        f"{what} was taken over by a later start of this task; this one publishes nothing",
        hint="nothing to do: the later start continues the work",
    )


def check_inherited(what: str) -> None:
    """For a process that works for an owner and publishes by itself (see Lease.handed_down). Raises LeaseError where a later start
    has taken over; does nothing where no lease was handed down."""
    token, _, path = os.environ.get(OWNER, "").partition(":")
    if path and not is_owner(Path(path), token):
        raise taken_over_error(what)


def _parsed(data: bytes) -> dict[str, Any]:
    """A lease; empty where the file is damaged (a crash of its node may leave it full of zeros) or holds what no lease does."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) and is_record(found) else {}


class Lease:
    """Ownership of a path, kept alive by a heartbeat thread; a context manager.

    Args:
        path: the lease file.
        what: what is owned, in words, for messages.
        wait_s: how long to wait for another owner's heartbeat to stop, before LeaseError is raised.
    """

    def __init__(self, path: Path, what: str, *, wait_s: float = 0.0) -> None:
        self.path, self.what, self._wait_s = path, what, wait_s
        self._mine = _own_identity()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[Any, float] = (None, 0.0)  # another owner's last beat, and when we first saw it
        self._looks_silent = False

    @property
    def token(self) -> str:
        """What tells this owner from all others."""
        return str(self._mine["token"])

    @property
    def handed_down(self) -> dict[str, str]:
        """For the environment of a process that publishes for this owner: it asks `check_inherited` before."""
        return {OWNER: f"{self.token}:{self.path}"}

    def __enter__(self) -> Self:
        began = time.monotonic()
        while not self._try_acquire():
            patience = max(self._wait_s, WATCH_S + 1) if self._looks_silent else self._wait_s
            if time.monotonic() - began >= patience:
                other = read_lease(self.path) or {}
                where = f"process {other.get('pid')} on {other.get('host')}" + (
                    f", job {other['job']}" if other.get("job") else ""
                )
                raise LeaseError(
                    f"{self.what} is in use by {where}",
                    hint="wait for it to end, or stop it; then run the same command again",
                )
            time.sleep(min(0.5, WATCH_S / 4))
        self._thread = threading.Thread(target=self._heartbeat_loop, daemon=True, name="lease")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        with contextlib.suppress(
            OSError
        ):  # what ends the work counts; a lease that stays behind counts as dead soon
            if self.still_ours():
                self._remove(self.token)

    def still_ours(self) -> bool:
        """Whether nobody has taken over; ask before every publication."""
        return is_owner(self.path, self.token)

    def check(self) -> None:
        """Raises LeaseError where a successor has taken over."""
        if not self.still_ours():
            raise taken_over_error(self.what)

    def _content(self) -> bytes:
        """The file as it is now. Always of the same length, for it is written over in place."""
        return orjson.dumps(self._mine | {"heartbeat": f"{time.time():.3f}"})

    def _is_dead(self, old: dict[str, Any]) -> bool:
        """Whether the old owner is gone: SLURM has started its job again, its process has ended, or its heartbeat has ceased.

        That it has ceased is seen, by our own clock: the owner's may be wrong.
        """
        if (
            old.get("job")
            and old.get("job") == self._mine["job"]
            and int(old.get("restart", 0)) < self._mine["restart"]
        ):
            return True
        if (
            old.get("host") == self._mine["host"]
            and alive_here(int(old.get("pid", 0)), str(old.get("start"))) is False
        ):
            return True
        beat, now = (old.get("token"), old.get("heartbeat")), time.monotonic()
        if self._seen[0] != beat:
            self._seen = beat, now
        self._looks_silent = abs(time.time() - float(old.get("heartbeat", 0))) > STALE_S
        return now - self._seen[1] >= (WATCH_S if self._looks_silent else STALE_S)

    def _try_acquire(self) -> bool:
        """One try: link our file to the name (fails where it exists, on NFS too); a dead owner's file is moved away first."""
        mine = temporary_name(self.path)
        with translate_os_error(self.path):
            make_folder(self.path.parent)
            try:
                old = read_lease(self.path)
                if old is not None and not (self._is_dead(old) and self._remove(old.get("token"))):
                    return False
                with mine.open("xb") as file:
                    file.write(self._content())
                try:
                    os.link(mine, self.path)
                except FileExistsError:  # over NFS also where it was done, and only the answer was lost
                    return (read_lease(self.path) or {}).get("token") == self.token
                return True
            finally:
                mine.unlink(missing_ok=True)

    def _remove(self, token: str | None) -> bool:
        """Takes the file of that owner away. False where it was another's: somebody took over just now, and keeps it."""
        moved = temporary_name(self.path)
        try:
            self.path.rename(moved)
        except FileNotFoundError:
            return False
        theirs = _parsed(read_bytes(moved) or b"").get("token") != token
        if theirs:
            with contextlib.suppress(FileExistsError):
                os.link(moved, self.path)
        moved.unlink()
        return not theirs

    def _heartbeat_loop(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(
                OSError
            ):  # a missed beat is no harm; the next one or the check before publishing tells
                if not _beat(self.path, self.token, self._content()):
                    return


def _beat(path: Path, token: str, content: bytes) -> bool:
    """Writes a heartbeat in place; False where the lease is another owner's by now."""
    with os.fdopen(open_file(path, os.O_RDWR | os.O_NOFOLLOW), "r+b", buffering=0) as file:
        if _parsed(file.read()).get("token") != token:
            return False
        os.pwrite(file.fileno(), content, 0)
        os.fsync(file.fileno())
    return True
