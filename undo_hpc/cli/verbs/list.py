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
  undo-hpc list checkpoints --html          a page over all runs
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
    parser.add_argument(
        "--html", action="store_true", help="also write FOLDER/index.html with links to the reports"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints a line a run (two on a narrow terminal); one that cannot be read says why."""
    from rich.table import Table
    from rich.text import Text

    from undo_hpc.cli.choose import run_dirs
    from undo_hpc.errors import ConfigError
    from undo_hpc.observe.status_view import WIDE
    from undo_hpc.observe.wrapped import say

    if not arguments.folder.is_dir() and arguments.folder != Path("checkpoints"):
        raise ConfigError(
            f"there is no folder {arguments.folder}",
            hint="check the path; runs lie below checkpoints/ where nothing else is said",
        )
    found = run_dirs(arguments.folder)
    folder = arguments.folder.resolve()
    if not found:
        console.print(f"no run in {folder}; start one: undo-hpc run", highlight=False, soft_wrap=True)
        return 0
    console.print(f"runs in {folder}", style="dim", highlight=False, markup=False, soft_wrap=True)
    rows = [_cells(path, arguments.folder) for path in found]
    if arguments.html:
        from undo_hpc.observe.report.runs import write_index

        cells = [(path, row[0], row[1:]) for path, row in zip(found, rows, strict=True)]
        console.print(
            str(write_index(arguments.folder, cells)), highlight=False, markup=False, soft_wrap=True
        )
    if console.width < WIDE:
        for name, *facts, state in rows:
            say(console, f"{name}: {state}", hang=2)
            say(console, f"  {', '.join(fact for fact in facts if fact)}", hang=2)
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("run", "changed", "iteration", "validation", "disk", "state"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("changed", "disk"))
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    return 0


def _cells(path: Path, folder: Path) -> list[str]:
    """Name, day of the last change, iteration, validation, room on the disk, and state; what cannot be read says why, and hides no other."""
    from undo_hpc.cli.choose import changed_at
    from undo_hpc.errors import UndoError

    inside = path != folder and path.is_relative_to(folder)
    name = str(path.relative_to(folder)) if inside else path.resolve().name
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed_at(path)))
    try:
        return [name, changed, *_facts(path)]
    except UndoError as error:
        return [name, changed, "", "", "", f"cannot be read: {error.message.splitlines()[0]}"]
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"cannot be read: a file of it is damaged ({type(error).__name__}: {error})"
        return [name, changed, "", "", "", what]


def _facts(path: Path) -> list[str]:
    """Iteration, validation, room on the disk, and state."""
    from undo_hpc.observe.status import collect_status
    from undo_hpc.observe.wording import accuracy
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.system.wording import format_bytes

    view = collect_status(open_run(path), scheduler=False)
    shown = [h for h in view.accuracy if "accuracy" in h]  # none without a validation split
    share = accuracy(max(shown, key=lambda h: h["accuracy"])) if shown else ""
    if view.beats_untrained is False and view.untrained:
        share += f", untrained {accuracy(view.untrained)}"
    of = (
        f"iteration {view.iteration} of 0 to {view.iterations - 1}"
        if view.iterations > 1
        else "the only iteration"
    )
    room = format_bytes(view.disk_bytes) if view.disk_bytes else ""
    return [of, share, room, view.headline.replace("stopped; ", "")]
