"""Ties the life of a process to its parent's (Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
DIES_WITH_PARENT = (
    "UNDO_ENDS_WITH_PARENT"  # in the environment of processes that are of no use without their parent
)


def die_with_parent(signum: signal.Signals = signal.SIGTERM) -> None:
    """Asks Linux to send us a signal when our parent dies, so that a killed launcher leaves no worker behind.

    Does nothing elsewhere. See prctl(2), PR_SET_PDEATHSIG.
    """
    parent = os.getppid()
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signum))
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signum)


def die_with_parent_if_told() -> None:
    """`die_with_parent(SIGKILL)` in a process that was started to end with its parent (`DIES_WITH_PARENT` is set); else nothing."""
    if os.environ.get(DIES_WITH_PARENT):
        die_with_parent(signal.SIGKILL)
