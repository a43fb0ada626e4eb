"""Ties the life of a process to its parent's (Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
# In the environment of processes that are of no use without their parent: the signal that ends them, TERM (they save first) or KILL.
DIE_WITH_PARENT = "UNDO_DIE_WITH_PARENT"


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


def die_with_parent_if_asked(*, pass_on: bool = True) -> None:
    """`die_with_parent` with the signal named in DIE_WITH_PARENT; nothing where that is not set.

    Args:
        pass_on: False removes the variable, so that children of this process are not bound to it.
    """
    name = os.environ.get(DIE_WITH_PARENT, "") if pass_on else os.environ.pop(DIE_WITH_PARENT, "")
    if name:
        die_with_parent(signal.SIGKILL if name == "KILL" else signal.SIGTERM)
