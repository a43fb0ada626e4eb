"""The guard of the launcher and the verbs: `system.guard`, with what is known of the run that a command is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from undo_hpc.pipeline.damage import explain_in_run
from undo_hpc.system import guard as system_guard


def guard(command: Callable[[], int], *, run_dir: Path | None = None, interrupted: str = "") -> int:
    """Runs a command and turns whatever it raises into a message and an exit code.

    Args:
        run_dir: the run that the command is about: the traceback of an unexpected error goes into its logs.
        interrupted: what to say after Ctrl-C or SIGTERM; only for a command that has work left then.
    """
    return system_guard.guard(
        command, interrupted=interrupted, explain=lambda error: explain_in_run(error, run_dir)
    )
