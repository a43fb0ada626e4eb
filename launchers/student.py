#!/usr/bin/env python3
"""The reference implementation's student.py: its flags, our work (undo_hpc.cli.reference). `--help` lists them."""

import signal
import sys

# Ctrl-C while it loads leaves no traceback; see undo_hpc/system/launcher.py.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from undo_hpc.system.launcher import start

if __name__ == "__main__":
    sys.exit(start("undo_hpc.cli.reference", "student"))
