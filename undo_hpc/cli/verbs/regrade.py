"""Grades the stored answers of a run again with the present checker; nothing is generated. Tells what changes; --apply writes it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument, whole_number

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc regrade checkpoints/tiny                         what would change; writes nothing
  undo-hpc regrade checkpoints/tiny --changes changes.jsonl  every changed verdict, one a line
  undo-hpc regrade checkpoints/tiny --apply                 write it; the next launch makes again what rests on it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run directory")
    parser.add_argument(
        "--apply", action="store_true", help="write the new verdicts into shards and manifests"
    )
    parser.add_argument(
        "--changes", type=path_argument, metavar="FILE", help="write every change to this JSONL file"
    )
    parser.add_argument(
        "--workers",
        type=whole_number(0, 1024),
        default=0,
        metavar="N",
        help="processes of the checker (default: one a core)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the changes by kind, a few examples, and what follows."""
    from rich.table import Table

    from undo_hpc.control.regrade import regrade
    from undo_hpc.pipeline.run import open_run, require_trusted_run
    from undo_hpc.system.invocation import resume_hint
    from undo_hpc.system.wording import counted

    require_trusted_run(arguments.run_dir)
    opened = open_run(arguments.run_dir)
    workers = arguments.workers or len(os.sched_getaffinity(0))
    done = regrade(opened, apply=arguments.apply, workers=workers)
    if arguments.changes:
        from dataclasses import asdict

        from undo_hpc.storage.atomic import write_bytes
        from undo_hpc.storage.shards import dump_rows

        write_bytes(arguments.changes, dump_rows([asdict(change) for change in done.changes]))
    notes = f"; {counted(done.skipped, 'task')} without results" if done.skipped else ""
    notes += (
        f"; {done.late} were not decided now (no time, or no answer of the judge) and keep their verdict"
        if done.late
        else ""
    )
    differ = "differs" if len(done.changes) == 1 else "differ"
    console.print(
        f"{counted(done.graded, 'answer')} graded again, {counted(len(done.changes), 'verdict')} {differ}{notes}",
        highlight=False,
    )
    if not done.changes:
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("iteration", "stage", "was", "is", "answers"):
        table.add_column(heading, justify="right" if heading == "answers" else "left")
    for (iteration, stage, before, after), count in sorted(done.kinds().items()):
        table.add_row(str(iteration), stage, before, after, str(count))
    console.print(table)
    for change in done.changes[:5]:
        console.print(
            f"  {change.stage} {change.idx}: {change.before} -> {change.after}, answer {change.answer_after!r}, ground truth {change.gt!r}",
            highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    rests = ", ".join(f"{stage} of iteration {k}" for k, stage in done.again)
    if done.applied:
        console.print(
            f"written. What rests on these verdicts is stale now: {rests}", highlight=False, soft_wrap=True
        )
        console.print(f"make it again: {resume_hint(opened.layout.root)}", highlight=False, soft_wrap=True)
    else:
        console.print(
            f"nothing is written. With --apply, the next launch would make again: {rests}",
            highlight=False,
            soft_wrap=True,
        )
    return 0
