"""Answers and scores on their way to the disk, in groups."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class WriteBuffer(Generic[T]):
    """Completions (or scores) on their way to the disk: handed on when there are `rows` of them, when the first has waited for
    `seconds`, and at the end, whatever ended it. So a kill costs one group at most, and an error nothing.

    Args:
        keep: makes a group durable.
    """

    def __init__(self, keep: Callable[[list[T]], None], *, rows: int, seconds: float) -> None:
        self._keep, self._rows, self._seconds = keep, rows, seconds
        self._waiting: list[T] = []
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._save()

    def add(self, completion: T) -> None:
        """Takes one in."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(completion)
        if len(self._waiting) >= self._rows:
            self._save()
        else:
            self.save_if_old()

    def save_if_old(self) -> None:
        """For those who come by often, such as an engine that asks whether to stop: one long answer does not keep the
        others from the disk.
        """
        if self._waiting and time.monotonic() - self._since >= self._seconds:
            self._save()

    def _save(self) -> None:
        group, self._waiting = self._waiting, []
        if group:
            self._keep(group)
