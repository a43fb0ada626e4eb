"""Trying again what a cluster could not do just now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from undo_hpc.cluster.commands import Unclear, Unreachable
from undo_hpc.errors import UndoError

log = logging.getLogger(__name__)

PATIENCE_S = (
    1800.0  # of a job: a controller under maintenance, or moving to its backup host; a queue that is full
)
MOST_UNCLEAR = (
    8  # a refusal in words that we do not know passes within five minutes, or it is taken for final
)
LOGIN_TRIES = 3  # of a person's command: within seconds

T = TypeVar("T")


def keep_trying(
    action: Callable[[], T], passing: tuple[type[UndoError], ...], *, tries: int = 10**6, pause_s: float = 5.0
) -> T:
    """Calls an action until it succeeds, with growing pauses of at most a minute; the action may be called again at any point.

    Args:
        passing: errors that may pass.
        tries: how often it is called at most.
        pause_s: before the second call, in seconds.

    Raises:
        UndoError: any other error; the last one after PATIENCE_S, after `tries`, or after MOST_UNCLEAR unclear refusals.
    """
    deadline = time.monotonic() + PATIENCE_S
    unclear = 0
    while True:
        try:
            return action()
        except passing as error:
            tries -= 1
            unclear += isinstance(error, Unclear)
            if time.monotonic() > deadline or tries <= 0 or unclear >= MOST_UNCLEAR:
                raise
            log.warning("%s; trying again in %.0f s", error.message, pause_s)
            time.sleep(pause_s)
            pause_s = min(60.0, 2 * pause_s)


def on_login_node(action: Callable[[], T]) -> T:
    """A command that a person waits for: two more tries within seconds where the controller does not answer, or refuses in words that
    we do not know."""
    return keep_trying(action, (Unreachable, Unclear), tries=LOGIN_TRIES, pause_s=1.0)
