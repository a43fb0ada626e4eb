"""Pushing by itself: at an interval (`hub.push_every_min`) and at the end (`hub.push_at_end`). Off means off: no import, no request.

The push runs in a process of its own with a time limit, so that neither a slow Hub nor a fault in a library can hold up or fail a run. What
did not arrive is sent by the next push, or by `undo-hpc push`.
"""

from __future__ import annotations

import logging
import os
import subprocess

from undo_hpc.hub.push import last_push
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import python_module

log = logging.getLogger(__name__)

LIMIT_S = 900.0


def due(run: Run, now: float, *, ended: bool) -> bool:
    """PURE but for the ledger: whether a push is due."""
    hub = run.config.hub
    if not hub.dataset_repo and not hub.model_repo:
        return False
    if ended and hub.push_at_end:
        return True
    return hub.push_every_min > 0 and now - last_push(run) >= 60 * hub.push_every_min


def maybe_push(run: Run, now: float, *, ended: bool = False, limit_s: float = LIMIT_S) -> bool:
    """Pushes where it is due; True where it was and all has arrived. Never raises for what happens at the Hub.

    Args:
        now: seconds since 1970.
        ended: whether the loop has ended.
        limit_s: seconds after which the push is abandoned for this time.
    """
    if not due(run, now, ended=ended):
        return False
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        why = "HF_HUB_OFFLINE is set on this node"
        run.events.append("push_failed", why=why)
        log.warning(
            "push to the Hub waits: %s; from a machine with a network: undo-hpc push %s", why, run.layout.root
        )
        return False
    command = python_module("undo_hpc.cli", "push", str(run.layout.root))
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = (
            f"not finished after {limit_s:.0f} s"
            if isinstance(error, subprocess.TimeoutExpired)
            else str(error)
        )
    else:
        if done.returncode == 0:
            log.info("pushed to the Hub")
            return True
        last = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        why = last[-1].removeprefix("error: ") if last else f"exit code {done.returncode}"
    run.events.append("push_failed", why=why)
    log.warning("push to the Hub failed, the run continues: %s", why)
    return False


def has_ended(run: Run, iteration: int) -> bool:
    """Whether the loop ended with that iteration."""
    done = run.layout.iteration(iteration).metrics.exists()
    return done and read_metrics(run, iteration)["decision"]["action"] != "continue"
