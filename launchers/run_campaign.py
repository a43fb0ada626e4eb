#!/usr/bin/env python3
"""Starts or resumes a campaign of runs. `--help` lists the arguments; the work is done by undo_hpc.cli.run_campaign."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from undo_hpc.system.launcher import start

if __name__ == "__main__":
    sys.exit(start("undo_hpc.cli.run_campaign"))
