"""The start of a launcher, a file that is run by itself: with the standard library alone, so that a missing package is a message."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from undo_hpc.system.data_files import project_root


@contextmanager
def ending_silently() -> Iterator[None]:
    """While a command loads, Ctrl-C ends the process without a traceback: nothing has begun. The guard of the command ends that."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def start(module: str, function: str = "main") -> int:
    """Runs a function of a module and returns its exit code. Ends the process where a package is not installed."""
    try:
        with ending_silently():
            return int(getattr(importlib.import_module(module), function)())
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "undo_hpc":
            raise
        root = project_root()
        ours = root / ".venv" / "bin" / "python"
        hint = (
            f"source {ours.parent}/activate, or use {ours}"
            if ours.exists()
            else f"run `make` once in {root}, then use .venv/bin/python there"
        )
        sys.exit(f"error: the package '{error.name}' is missing from {sys.executable}\n  -> {hint}")
