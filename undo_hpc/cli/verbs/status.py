"""Where a run stands: its stages, what waits and why, what failed and its last words, and what to do next."""

from __future__ import annotations

import argparse
import gc
import time
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_run, real_number

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc status                            the latest run under checkpoints/
  undo-hpc status checkpoints/tiny --watch
  undo-hpc status checkpoints/tiny --json | jq .headline
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_run(parser)
    parser.add_argument(
        "--watch", action="store_true", help="look again every few seconds until the run ends"
    )
    parser.add_argument(
        "--every", type=real_number, default=5.0, metavar="S", help="seconds between looks (default 5)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--no-scheduler", action="store_true", help="do not ask squeue")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the view once, or again and again."""
    gc.disable()  # a look makes a few hundred thousand objects and ends; searching them for cycles costs a tenth of it
    from undo_hpc.cli.choose import choose_run
    from undo_hpc.observe.status import RunView, collect_status
    from undo_hpc.observe.status_view import plain_console, render_status
    from undo_hpc.pipeline.run import open_run

    run_dir = choose_run(arguments.run_dir)

    def view() -> RunView:
        return collect_status(open_run(run_dir), scheduler=not arguments.no_scheduler)

    if arguments.json:
        import orjson

        from undo_hpc.system.wording import printable_json

        print(printable_json(orjson.dumps(view().to_dict(), option=orjson.OPT_INDENT_2).decode()))
        return 0
    if not arguments.watch:
        console.print(render_status(view(), console.width), crop=False)
        gc.freeze()  # nothing is searched for cycles at the end of the process either
        return 0
    every = max(1.0, arguments.every)
    if plain_console(console):
        return _lines(view, console, every)
    from rich.live import Live

    current = view()
    with Live(
        render_status(current, console.width, watching=True), console=console, auto_refresh=False
    ) as live:
        while not current.ended:
            gc.collect()
            time.sleep(every)
            current = view()
            live.update(render_status(current, console.width, watching=True), refresh=True)
        live.update("", refresh=True)
    console.print(render_status(current, console.width), crop=False)
    return 0


def _lines(view, console: Console, every: float) -> int:  # type: ignore[no-untyped-def]
    """Without a terminal: a line whenever something has changed."""
    said = ""
    while True:
        current = view()
        line = f"iteration {current.iteration}: {current.headline}"
        if line != said:
            console.print(
                f"{time.strftime('%H:%M:%S')} {line}", highlight=False, markup=False, soft_wrap=True
            )
            said = line
        if current.ended:
            return 0
        time.sleep(every)
