"""Writes report/index.html (one page that works offline) and report/summary.md."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_run

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc report checkpoints/tiny
  undo-hpc report checkpoints/tiny && xdg-open checkpoints/tiny/report/index.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_run(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Writes the report and says where it lies."""
    from undo_hpc.cli.choose import choose_run
    from undo_hpc.observe.report import write_report
    from undo_hpc.pipeline.run import open_run

    path = write_report(open_run(choose_run(arguments.run_dir)))
    console.print(str(path), highlight=False, soft_wrap=True)
    return 0
