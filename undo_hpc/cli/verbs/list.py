"""The runs of a folder: where each stands, its validation accuracy, when it last changed."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc list
  undo-hpc list /scratch/me/runs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "folder",
        type=path_argument,
        nargs="?",
        default=Path("checkpoints"),
        help="where to look (default: checkpoints)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints a line a run; one that cannot be read says why."""
    from rich.table import Table
    from rich.text import Text

    from undo_hpc.cli.choose import changed_at, run_dirs
    from undo_hpc.errors import UndoError
    from undo_hpc.observe.status import collect_status
    from undo_hpc.observe.wording import accuracy
    from undo_hpc.pipeline.run import open_run

    found = run_dirs(arguments.folder)
    if not found:
        console.print(
            f"no run in {arguments.folder.resolve()}; start one: undo-hpc run",
            highlight=False,
            soft_wrap=True,
        )
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    console.print(
        f"runs in {arguments.folder.resolve()}", style="dim", highlight=False, markup=False, soft_wrap=True
    )
    for heading in ("run", "changed", "iteration", "validation", "state"):
        table.add_column(heading, overflow="fold")
    for path in found:
        inside = path != arguments.folder and path.is_relative_to(arguments.folder)
        name = Text(str(path.relative_to(arguments.folder)) if inside else path.resolve().name)
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed_at(path)))
        try:
            view = collect_status(open_run(path), scheduler=False)
        except UndoError as error:
            table.add_row(name, changed, "", "", Text(f"cannot be read: {error.message}", "red"))
            continue
        except (
            OSError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:  # one damaged run hides no other
            what = f"cannot be read: a file of it is damaged ({type(error).__name__}: {error})"
            table.add_row(name, changed, "", "", Text(what, "red"))
            continue
        shown = [h for h in view.accuracy if "accuracy" in h]  # none without a validation split
        share = accuracy(max(shown, key=lambda h: h["accuracy"])) if shown else ""
        if view.beats_untrained is False and view.untrained:
            share += f", untrained {accuracy(view.untrained)}"
        of = (
            f"{view.iteration} of 0 to {view.iterations - 1}"
            if view.iterations > 1
            else f"{view.iteration}, the only one"
        )
        table.add_row(name, changed, of, share, Text(view.headline.replace("stopped; ", "")))
    console.print(table)
    return 0
