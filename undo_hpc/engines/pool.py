"""Which server a request goes to: the one that was named, or the least busy one alive of the teacher service."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from undo_hpc.engines.service import Server, discover
from undo_hpc.errors import EngineError

_DISCOVER_EVERY_S = (
    2.0  # seconds; the run directory lies on a shared file system: it is not read for each request
)
_AVOID_S = 10.0  # seconds for which a server that could not be reached is skipped


class Pool(Protocol):
    """Where requests go."""

    template_sha: str

    async def acquire(self) -> Server:
        """The server for the next request. Raises EngineError where none comes up in time."""
        ...

    def release(self, server: Server, *, reached: bool) -> bool:
        """The request is no longer under way there; `reached` says whether the server took it. True where there may be other servers."""
        ...


class SingleServer:
    """One server, at a given address."""

    template_sha = ""

    def __init__(self, base_url: str) -> None:
        self._server = Server(base_url.rstrip("/"), "", "", {})

    async def acquire(self) -> Server:
        """Always the same one."""
        return self._server

    def release(self, server: Server, *, reached: bool) -> bool:
        """There is no other one."""
        return False


class ServicePool:
    """The servers that a run publishes.

    Args:
        slack_s: seconds that a request waits while no server is alive.
    """

    def __init__(self, run_dir: Path, iteration: int | None, *, slack_s: float) -> None:
        self._run_dir, self._iteration, self._slack_s = run_dir, iteration, slack_s
        self._known: list[Server] = []
        self._discovered = float("-inf")
        self._avoid: dict[str, float] = {}
        self._busy: Counter[str] = Counter()
        self._silent_since: float | None = None  # since when no server could be reached
        self.template_sha = ""

    async def acquire(self) -> Server:
        """The least busy server alive; waits for one to come up, or back."""
        began = self._silent_since or time.monotonic()
        while True:
            now = time.monotonic()
            if now - self._discovered >= _DISCOVER_EVERY_S:
                self._known, self._discovered = discover(self._run_dir, self._iteration), now
            alive = [server for server in self._known if self._avoid.get(server.url, 0.0) <= now]
            if alive and now - began <= self._slack_s:
                server = min(alive, key=lambda s: self._busy[s.url])
                self._busy[server.url] += 1
                self.template_sha = server.template_sha
                return server
            if now - began > self._slack_s:
                raise EngineError(
                    f"no server of the teacher service answered for {self._slack_s:.0f} s (looked in {self._run_dir})",
                    hint="look at the serve tasks and their logs; requests answered so far are kept",
                )
            await asyncio.sleep(min(0.5, self._slack_s))

    def release(self, server: Server, *, reached: bool) -> bool:
        """A server that could not be reached is skipped for a while; `acquire` bounds how long that may last."""
        self._busy[server.url] -= 1
        if reached:
            self._silent_since = None
        else:
            now = time.monotonic()
            self._avoid[server.url], self._discovered = now + _AVOID_S, float("-inf")
            self._silent_since = self._silent_since or now
        return True
