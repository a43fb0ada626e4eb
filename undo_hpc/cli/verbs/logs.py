"""What a task has printed, on this machine or on a cluster: the whole log, or its end as it grows."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.pipeline.run import Run

EXAMPLE = """examples:
  undo-hpc logs checkpoints/tiny                        which logs there are
  undo-hpc logs checkpoints/tiny train
  undo-hpc logs checkpoints/tiny generate 3 --follow
  undo-hpc logs checkpoints/tiny evaluate 0 --iteration 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run directory")
    parser.add_argument(
        "stage",
        nargs="?",
        help="generate, baseline, merge, train, evaluate or advance (default: list the logs)",
    )
    parser.add_argument("task", type=int, nargs="?", default=0, help="number of the task (default 0)")
    parser.add_argument("--iteration", type=int, metavar="I", help="iteration (default: the last)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="wait for its first line, then keep printing what is added, until the task ends",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the task's logs, oldest first."""
    from undo_hpc.control.live import query_live
    from undo_hpc.errors import ConfigError
    from undo_hpc.observe.logs import follow, logs_of
    from undo_hpc.pipeline.plan import build_graph
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.system.wording import printable

    opened = open_run(arguments.run_dir)
    numbers = opened.layout.iterations()
    iteration = arguments.iteration if arguments.iteration is not None else (numbers[-1] if numbers else 0)
    plan = opened.plan(iteration)
    if plan is None:
        raise ConfigError(
            f"iteration {iteration} has not begun",
            hint=f"iterations so far: {', '.join(map(str, numbers)) or 'none'}",
        )
    stages = {s.name: s for s in build_graph(opened.config, opened.layout, plan)}
    if arguments.stage is None:
        there = [
            path
            for stage in stages.values()
            for task in stage.tasks
            for path in logs_of(opened.layout, iteration, stage.name, task.index)
        ]
        console.print(
            "\n".join(map(str, there)) or "nothing has been printed yet",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return 0
    if arguments.stage not in stages:
        raise ConfigError(
            f"there is no stage '{arguments.stage}' in iteration {iteration}",
            hint=f"stages: {', '.join(stages)}",
        )
    total = len(stages[arguments.stage].tasks)
    if not 0 <= arguments.task < total:
        raise ConfigError(
            f"{arguments.stage} has no task {arguments.task}", hint=f"its tasks are 0 to {total - 1}"
        )

    def find() -> list[Path]:
        return logs_of(opened.layout, iteration, arguments.stage, arguments.task)

    paths = find() or (_wait_for(opened, iteration, find) if arguments.follow else [])
    if not paths:
        raise ConfigError(
            f"{arguments.stage} {arguments.task} of iteration {iteration} has printed nothing yet",
            hint=f"see what it waits for: undo-hpc status {arguments.run_dir}",
        )

    def going_on() -> bool:
        return arguments.follow and (arguments.stage, arguments.task) in query_live(opened, iteration).tasks

    for path in paths:  # in pieces, however large somebody has made one
        for text in follow(path, going_on=going_on if path == paths[-1] else lambda: False):
            sys.stdout.write(printable(text))
            sys.stdout.flush()
    return 0


def _wait_for(opened: Run, iteration: int, find: Callable[[], list[Path]]) -> list[Path]:
    """The task's logs, once there are any; none where nobody works on the run."""
    from undo_hpc.control.live import query_live

    every_s = 1.0 if opened.config.cluster.kind == "local" else 10.0  # squeue is asked each time
    said = False
    while not (paths := find()):
        live = query_live(opened, iteration)
        if not (live.tasks or live.launcher or live.jobs):
            return []
        if not said:
            print(
                "it has not started yet; waiting for its first line (Ctrl-C ends this)",
                file=sys.stderr,
                flush=True,
            )
            said = True
        time.sleep(every_s)
    return paths
