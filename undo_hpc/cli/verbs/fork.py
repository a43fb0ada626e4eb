"""A new run with other values, which takes over from an existing one each stage that they do not touch: as links, without doing it again.

With another learning rate it keeps all rationales, the untrained student's answers and the distilled set of iteration 0; with another stopping
rule, all iterations up to where that rule ends. It is made, not started: the command that starts it is shown.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_set, path_argument

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.pipeline.run import Run

EXAMPLE = """examples:
  undo-hpc fork checkpoints/mine checkpoints/mine-lr --set train.learning_rate=2e-5
  undo-hpc fork checkpoints/mine checkpoints/mine-blind --set method.preset=blind
  undo-hpc fork checkpoints/mine checkpoints/mine-more --set stop.patience=3 --set iterations=6
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("run_dir", type=path_argument, help="the run to take from; it is only read")
    parser.add_argument("new_dir", type=path_argument, help="the directory of the new run")
    add_set(parser, "what is to be different; repeatable")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Makes the new run, takes over what is the same, and says what is left."""
    from undo_hpc.cli.parts import key
    from undo_hpc.cli.run_iteration import command_line
    from undo_hpc.config.load import override
    from undo_hpc.control.checks import require
    from undo_hpc.control.planning import current_state
    from undo_hpc.control.taking_over import may_take_over, take_over
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import create_or_open, open_run, require_trusted_run
    from undo_hpc.stages.prepare import prepare
    from undo_hpc.storage.lease import Lease
    from undo_hpc.system.invocation import resume_hint

    require_trusted_run(arguments.run_dir)
    donor = open_run(arguments.run_dir)
    layout = Layout(arguments.new_dir.resolve())
    if layout.config.exists():
        require_trusted_run(layout.root)
    if layout.config.exists() and not may_take_over(open_run(layout.root)):  # a killed fork is completed
        raise ConfigError(
            f"{arguments.new_dir} is a run already",
            hint=f"take another directory; to resume that run: {resume_hint(layout.root)}",
        )
    require_at_rest(donor)
    # A chat template with a date prints that of the day on which the donor was made: the same texts.
    dates = [key(f"{role}.date", donor.model(role).date) for role in ("teacher", "student")]
    config = override(donor.config, [key("name", arguments.new_dir.resolve().name), *dates, *arguments.sets])
    inputs = require(config, arguments.new_dir)
    with Lease(layout.lease, f"the run directory {arguments.new_dir}"):
        new = create_or_open(config, arguments.new_dir, command=command_line())
        prepare(new, inputs)
        taken = {(k, stage): tasks for (_, k, stage), tasks in take_over(new, [donor]).items()}
        state = current_state(new)
    say_taken(taken, donor, console)
    left = list(dict.fromkeys(status.stage for status in state.missing))
    what = f"left of iteration {state.iteration}: {', '.join(left)}" if left else "nothing is left to be done"
    for line in (
        what,
        f"start it: {resume_hint(layout.root)}",
        f"differences: {', '.join(arguments.sets) or 'none'}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def say_taken(taken: dict[tuple[int, str], int], donor: Run, console: Console) -> None:
    """A line for each iteration that something was taken over of."""
    from undo_hpc.system.wording import counted

    if not taken:
        console.print(
            f"nothing of {donor.layout.root} is the same under these values (other problems, another teacher and another student)",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    for number in sorted({iteration for iteration, _ in taken}):
        stages = [f"{stage} ({counted(count, 'task')})" for (k, stage), count in taken.items() if k == number]
        console.print(
            f"iteration {number}: taken over {', '.join(stages)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def require_at_rest(donor: Run) -> None:
    """Raises ConfigError where somebody works on the run: what is half done would be taken, or changed under the links."""
    from undo_hpc.control.live import query_live
    from undo_hpc.control.position import latest_planned
    from undo_hpc.errors import ConfigError
    from undo_hpc.system.invocation import cli_hint, display_path

    live = query_live(donor, latest_planned(donor))
    if live.launcher or live.tasks or live.jobs:
        who = live.launcher or (
            f"{live.jobs} jobs of SLURM" if live.jobs else next(why for _, why in live.tasks.values())
        )
        raise ConfigError(
            f"{donor.layout.root} is at work ({who}); a fork takes over what is complete",
            hint=f"wait until it has ended, or stop it first (all work is kept): {cli_hint(f'pause {display_path(donor.layout.root)}')}",
        )
