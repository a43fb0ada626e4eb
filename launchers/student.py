#!/usr/bin/env python3
"""The reference implementation's student.py: its flags, our work (undo_hpc.cli.reference). `--help` lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    try:
        from undo_hpc.cli.reference import student

        code = student()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "undo_hpc":
            raise
        root = Path(__file__).resolve().parent.parent
        ours = root / ".venv" / "bin" / "python"
        hint = (
            f"source {ours.parent}/activate, or use {ours}"
            if ours.exists()
            else f"run `make` once in {root}, then use .venv/bin/python there"
        )
        sys.exit(f"error: the package '{error.name}' is missing from {sys.executable}\n  -> {hint}")
    sys.exit(code)
