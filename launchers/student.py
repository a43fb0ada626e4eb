#!/usr/bin/env python3
"""The reference implementation's student.py: its flags, our work (undo_hpc.cli.reference). `--help` lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from undo_hpc.system.launcher import start

if __name__ == "__main__":
    sys.exit(start("undo_hpc.cli.reference", "student"))
