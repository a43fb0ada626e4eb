"""The start of a launcher, a file that is run by itself: with the standard library alone, so that a missing package is a message."""

from __future__ import annotations

import importlib
import sys

from undo_hpc.system.data_files import project_root


def start(module: str, function: str = "main") -> int:
    """Runs a function of a module and returns its exit code. Ends the process where a package is not installed."""
    try:
        return int(getattr(importlib.import_module(module), function)())
    except KeyboardInterrupt:  # before the guard of the command stands: nothing has begun
        return 130
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
