"""Child processes that do not hear the signals that are meant for the task."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

# SLURM sends what asks a task to save or to end to every process of its step; such children end with their parent, and never on their own.
_NOT_THEIR_OWN = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """A process started meanwhile hears none of them: it inherits the mask of this thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_THEIR_OWN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
