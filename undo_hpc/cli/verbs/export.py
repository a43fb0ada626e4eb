"""Writes the distilled set of an iteration, or preference pairs, in the shape that another trainer reads."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_run, path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc export checkpoints/tiny --format trl
  undo-hpc export checkpoints/tiny --format axolotl --iteration 0 --out data/iteration_0
  undo-hpc export checkpoints/tiny --format preference     right against wrong answers of the same problem, for DPO
"""
NAMES = ("chat", "trl", "axolotl", "llama-factory", "preference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_run(parser)
    parser.add_argument(
        "--format", required=True, choices=NAMES, help="chat (messages), or the trainer that will read it"
    )
    parser.add_argument(
        "--iteration", type=int, metavar="K", help="iteration (default: the latest with a distilled set)"
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="folder to write (default: RUN/exports/FORMAT-iter_K)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Writes, and says where, how many rows, and how they are read."""
    from undo_hpc.cli.choose import choose_run
    from undo_hpc.observe.training_sets import export
    from undo_hpc.observe.wrapped import say
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.system.wording import counted

    done = export(
        open_run(choose_run(arguments.run_dir)), arguments.format, arguments.iteration, arguments.out
    )
    console.print(str(done.folder), highlight=False, markup=False, soft_wrap=True)
    say(console, f"  {counted(done.rows, 'row')} of iteration {done.iteration}")
    for note in done.notes:
        say(console, f"  {note}", hang=2)
    return 0
