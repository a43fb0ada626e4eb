"""Lets the running tasks of a run save and stop, and cancels its waiting jobs. The launcher resumes it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument
from undo_hpc.cli.stopping import stop

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """example:
  undo-hpc pause checkpoints/mine
  python launchers/run_iteration.py --run-dir checkpoints/mine     resumes it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run directory")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Pauses."""
    return stop(arguments.run_dir, "pause", console)
