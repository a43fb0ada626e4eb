"""How an error reaches the user: what is wrong, where, what to do; never a traceback."""

from __future__ import annotations

import sys

from undo_hpc.errors import UndoError


def report_error(error: UndoError) -> int:
    """Prints the error and returns its exit code."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return int(error.exit_code)
