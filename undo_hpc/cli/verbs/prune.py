"""Frees room: removes the weights of students that are not kept, and the checkpoints of finished trainings. Answers, rationales,
figures and all small files stay; a student that is needed again can be trained again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc prune checkpoints/tiny --keep best,last --dry-run   what would be removed
  undo-hpc prune checkpoints/tiny --keep best,last
  undo-hpc prune checkpoints/tiny --keep 0,2                   the students of iterations 0 and 2 stay
  undo-hpc prune checkpoints/tiny --keep all                   checkpoints only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run directory")
    parser.add_argument(
        "--keep",
        required=True,
        metavar="WHICH",
        help="students that stay: best, last, all, numbers of iterations; several with commas",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed; remove nothing")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Removes, and says what is freed and how a student is made again."""
    from undo_hpc.control.prune import prune
    from undo_hpc.observe.wrapped import say
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.system.invocation import task_hint
    from undo_hpc.system.wording import counted, format_bytes

    opened = open_run(arguments.run_dir)
    words = [word.strip() for word in arguments.keep.split(",") if word.strip()] or [""]
    done = prune(opened, words, apply=not arguments.dry_run)
    would = "would be " if arguments.dry_run else ""
    kept = ", ".join(map(str, done.kept)) or "none"
    say(console, f"students of these finished iterations stay: {kept}", hang=2)
    if done.at_work:
        say(
            console,
            f"not finished, so nothing of it is removed: iteration {', '.join(map(str, done.at_work))}",
            hang=2,
        )
    gone = f"; the student of iteration {', '.join(map(str, done.removed))}" if done.removed else ""
    say(
        console,
        f"{counted(len(done.files), 'file')} {would}removed, {format_bytes(done.bytes)}{gone}",
        hang=2,
    )
    if done.removed:
        slurm = opened.config.cluster.kind == "slurm"
        again = task_hint(opened.layout.root, "train", done.removed[0], slurm=slurm)
        console.print(f"to train one again: {again}", highlight=False, markup=False, soft_wrap=True)
    return 0
