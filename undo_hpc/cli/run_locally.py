"""What the launcher does without a cluster: iteration after iteration in child processes of its own, until the loop ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from undo_hpc.cli.messages import show_workload
from undo_hpc.cluster.local import LocalCluster
from undo_hpc.control.accounting import require_budget
from undo_hpc.control.position import Position, discard_stale, locate
from undo_hpc.errors import Incomplete
from undo_hpc.observe.progress import choose_display
from undo_hpc.observe.summary import show_outcome, show_summary
from undo_hpc.pipeline.plan import refines
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint

if TYPE_CHECKING:
    from rich.console import Console


def run_locally(run: Run, console: Console) -> int:
    """Runs iteration after iteration on this machine, until the loop ends."""
    run.layout.paused.unlink(missing_ok=True)
    position = locate(run)
    if position.ended:
        console.print(
            f"nothing to do: this run has ended after iteration {position.iteration} ({position.ended.why})."
        )
    seen = set()
    while not position.ended:
        state = (position.iteration, tuple((s.stage, s.index, s.state) for s in position.missing))
        if state in seen:
            raise Incomplete(
                f"iteration {position.iteration} stands where it stood before: what was done is not taken for done",
                hint=f"did the code or the files change meanwhile? see: {cli_hint(f'status {display_path(run.layout.root)}')}",
            )
        seen.add(state)
        announce(run, position, console)
        require_budget(run, position.iteration, begun=len(position.missing) < len(position.statuses))
        discard_stale(run, position)
        with choose_display(run.config.display.progress, console) as display:
            LocalCluster(run, display).run_graph(position.stages, position.statuses)
        show_outcome(run, position.iteration, console)
        position = locate(run)
    show_summary(run, console)
    next_commands(run, console, may_go_on=position.ended.action == "finished")
    return 0


def announce(run: Run, position: Position, console: Console) -> None:
    """Says what is about to be done in an iteration."""
    done = len(position.statuses) - len(position.missing)
    kept = f", {done} of {len(position.statuses)} tasks are done already" if done else ""
    console.print(
        f"[bold]iteration {position.iteration}[/bold]: the teacher writes for {position.plan.problems} problems{kept}",
        highlight=False,
    )
    if not done:
        show_workload(run.config, position.plan, console)


def next_commands(run: Run, console: Console, *, may_go_on: bool) -> None:
    """What to try now, as it can be typed here.

    Args:
        may_go_on: the loop ended only because all its iterations are done.
    """
    root = display_path(run.layout.root)
    commands = [cli_hint(f"status {root}")]
    if may_go_on and refines(run.config):
        more = run.config.iterations + 1
        commands.append(
            f"{launcher_hint(f'--run-dir {root} --iterations {more}')}    go on for another iteration"
        )
    if run.config.data.train.tiny:
        own = launcher_hint("--config my.yaml --dry-run")
        commands.append(f"{own}    your own problems and models (the README has a my.yaml to begin with)")
    console.print("next:", highlight=False)
    for command in commands:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
