"""When to save and leave: a signal to any rank, or the end of the job's time coming near."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from undo_hpc.errors import ExitCode


class Reason(IntEnum):
    """Why training ends before its last step. The ranks agree on the largest."""

    NONE = 0
    TIME = 1
    INTERRUPT = 2
    SIGNAL = 3

    @property
    def exit_code(self) -> ExitCode:
        """What the process says: interrupted by hand, or start me again."""
        return ExitCode.INTERRUPTED if self is Reason.INTERRUPT else ExitCode.REQUEUE


_SIGNALS = {signal.SIGTERM: Reason.SIGNAL, signal.SIGUSR2: Reason.SIGNAL, signal.SIGUSR1: Reason.SIGNAL, signal.SIGINT: Reason.INTERRUPT}


class Stopper:
    """Remembers signals, and knows when the time left is only enough for one more checkpoint.

    Args:
        started: time.monotonic() at the start of the process.

    Attributes:
        limit_s: seconds from `started` after which the process will be killed; None for no limit.
    """

    def __init__(self, started: float) -> None:
        self.limit_s: float | None = None
        self._started, self._reason = started, Reason.NONE

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._reason = max(self._reason, _SIGNALS[signal.Signals(number)])

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals set a flag inside this block; the handlers before it come back at its end."""
        before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reason(self, save_s: float, step_s: float) -> Reason:
        """Why to stop now, if at all.

        Args:
            save_s: how long a checkpoint takes until it is on disk, as measured; doubled here against a slow day.
            step_s: the longest recent step.
        """
        if self._reason is Reason.NONE and self.limit_s is not None:
            needed = 2.0 * save_s + 2.0 * step_s + min(30.0, 0.05 * self.limit_s)
            if time.monotonic() - self._started + needed >= self.limit_s:
                return Reason.TIME
        return self._reason
