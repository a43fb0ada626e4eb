"""When to save and leave: a signal to any rank, or the end of the job's time coming near.

Before the first step there is nothing to save. There the ranks agree to leave as soon as they have loaded; one that cannot get
so far in time (it waits for others, or reads a large model) leaves by itself, with the same exit code.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from undo_hpc.errors import ExitCode

log = logging.getLogger(__name__)


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


_SIGNALS = {
    signal.SIGTERM: Reason.SIGNAL,
    signal.SIGUSR2: Reason.SIGNAL,
    signal.SIGUSR1: Reason.SIGNAL,
    signal.SIGINT: Reason.INTERRUPT,
}


_LOADING_PATIENCE_S = 10.0  # SLURM's KillWait is 30 s by default


class Stopper:
    """Remembers signals, and knows when the time left is only enough for one more checkpoint.

    Args:
        started: time.monotonic() at the start of the process.

    Attributes:
        limit_s: seconds from `started` after which the process will be killed; None for no limit.
        loading: whether there is nothing to save yet; the loop puts it to False.
    """

    def __init__(self, started: float) -> None:
        self.limit_s: float | None = None
        self.loading = True
        self._started, self._reason = started, Reason.NONE

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._reason = max(self._reason, _SIGNALS[signal.Signals(number)])

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals set a flag inside this block; the handlers before it come back at its end."""
        read_fd, write_fd = os.pipe()  # a self-pipe: the interpreter writes each signal's number into it
        os.set_blocking(write_fd, False)
        before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        fd = signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._leave_where_loading_takes_long, args=(read_fd,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write_fd)  # the watcher reads the end, and ends
            watcher.join()
            os.close(read_fd)

    def _leave_where_loading_takes_long(self, read_fd: int) -> None:
        """Python's handlers wait while the main thread is inside a library (meeting the others, reading weights); this does not."""
        deadline, reason = math.inf, Reason.NONE
        while True:
            if select.select([read_fd], [], [], None if deadline == math.inf else 0.2)[0]:
                heard = os.read(read_fd, 1)
                if not heard:  # nobody listens any more
                    return
                if deadline == math.inf and self.loading and heard[0] in _SIGNALS:
                    deadline, reason = (
                        time.monotonic() + _LOADING_PATIENCE_S,
                        _SIGNALS[signal.Signals(heard[0])],
                    )
            if self.loading and time.monotonic() >= deadline:
                log.info("stopped while loading (%s); there was nothing to save", reason.name.lower())
                os._exit(reason.exit_code)

    @property
    def asked_while_loading(self) -> Reason:
        """The signal that came before the first step, if any."""
        return self._reason if self.loading else Reason.NONE

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
