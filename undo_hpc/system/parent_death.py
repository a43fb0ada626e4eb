"""Ties the life of a process to its parent's (Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
# In the environment of processes that are of no use without their parent: the signal that ends them, TERM (they save first) or KILL; behind a
# colon the parent's process id, where the one who sets it is the parent: one who died before the child could ask is noticed by it.
DIE_WITH_PARENT = "UNDO_DIE_WITH_PARENT"


def bound_to_this_process(name: str) -> dict[str, str]:
    """The variable for a child that this process starts: TERM or KILL."""
    return {DIE_WITH_PARENT: f"{name}:{os.getpid()}"}


def die_with_parent(signum: signal.Signals = signal.SIGTERM, parent: int = 0) -> None:
    """Asks Linux to send us a signal when our parent dies, so that a killed launcher leaves no worker behind.

    Does nothing elsewhere. See prctl(2), PR_SET_PDEATHSIG.

    Args:
        parent: its process id, as far as it is known; the signal comes at once where it has died already.
    """
    parent = parent or os.getppid()
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
    asked = os.environ.get(DIE_WITH_PARENT, "") if pass_on else os.environ.pop(DIE_WITH_PARENT, "")
    name, _, parent = asked.partition(":")
    if name:
        die_with_parent(signal.SIGKILL if name == "KILL" else signal.SIGTERM, int(parent or 0))
