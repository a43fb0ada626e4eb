"""What the launcher does without a cluster: iteration after iteration in child processes of its own, until the loop ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from undo_hpc.cli.messages import show_workload
from undo_hpc.cluster.local import LocalCluster, warm_server
from undo_hpc.config.parts import effective_iterations, ends_behind, has_rationales, refines
from undo_hpc.control.budget import require_budget
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import RunState, discard_stale, latest_planned
from undo_hpc.control.results import require_results
from undo_hpc.errors import Incomplete
from undo_hpc.models.resolve import public_name
from undo_hpc.observe.next_step import after_part
from undo_hpc.observe.progress import choose_display
from undo_hpc.observe.summary import show_outcome, show_summary
from undo_hpc.observe.whole import look_at_whole
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint
from undo_hpc.system.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.system.warm import WarmServer


def run_locally(run: Run, console: Console) -> int:
    """Runs iteration after iteration on this machine, until the loop ends."""
    run.layout.paused.unlink(missing_ok=True)
    state = current_state(run)
    if state.ended:
        require_results(run, state.iteration, state.ended.best_iteration)
        console.print(f"nothing to do: this run ended after iteration {state.iteration} ({state.ended.why}).")
    stages = {status.stage for status in state.missing}
    if state.iteration + 1 < effective_iterations(run.config):
        stages |= {"generate", "evaluate"}
    warm = None if state.ended else warm_server(run, stages)
    try:
        state = _run_to_the_end(run, state, warm, console)
    finally:
        if warm is not None:
            warm.close()
    show_summary(run, console)
    assert state.ended is not None, "the loop above ends with it"
    next_commands(run, console, may_continue=state.ended.action == "finished")
    return 0


def _run_to_the_end(run: Run, state: RunState, warm: WarmServer | None, console: Console) -> RunState:
    seen = set()
    while not state.ended:
        key = (state.iteration, tuple((s.stage, s.index, s.state) for s in state.missing))
        if key in seen:
            raise Incomplete(
                f"no progress in iteration {state.iteration}: its tasks finished, but their manifests do not match the plan",
                hint=f"did the code or the files change while it ran? see: {cli_hint(f'status {display_path(run.layout.root)}')}",
            )
        seen.add(key)
        announce(run, state, console)
        require_budget(run, state.iteration, begun=len(state.missing) < len(state.statuses))
        discard_stale(run, state)
        iteration = state.iteration

        def overview(stages: Iterable[str], iteration: int = iteration) -> str:
            return look_at_whole(run, iteration, stages).in_words()

        with choose_display(run.config.display.progress, console, overview) as display:
            closed = LocalCluster(run, display, warm).run_graph(state.stages, state.statuses, state.given_up)
        if closed:
            show_outcome(run, state.iteration, console)
        state = current_state(run)
    return state


def announce(run: Run, state: RunState, console: Console) -> None:
    """Says what is about to be done in an iteration."""
    done = sum(status.state == "done" for status in state.statuses)
    kept = f", {done} of {len(state.statuses)} tasks are done already" if done else ""
    what = f"the teacher writes for {counted(state.plan.problems, 'problem')}"
    if ends_behind(run.config, state.iteration) == "baseline":
        asked = sum(part.stop - part.start for part in state.plan.slices("baseline"))
        what = f"{public_name(run.config.student.model)} answers {counted(asked, 'problem')}"
    elif not state.iteration and has_rationales(run.config):
        what = f"{counted(state.plan.problems, 'problem')} with rationales that exist already"
    if state.plan.canary_problems:
        what = f"canary: {state.plan.canary_problems} of {counted(state.plan.problems, 'problem')} first"
    console.print(Text.assemble((f"iteration {state.iteration}", "bold"), f": {what}{kept}"))
    if not done and what.startswith("the teacher"):
        show_workload(run.config, state.plan, console)


def next_commands(run: Run, console: Console, *, may_continue: bool) -> None:
    """What to try now, as it can be typed here.

    Args:
        may_continue: the loop ended only because all its iterations are done.
    """
    root = display_path(run.layout.root)
    commands = [cli_hint(f"status {root}")]
    if part := after_part(run, latest_planned(run)):
        commands.append(f"{part[0]}    {part[1]}")
    elif may_continue and refines(run.config):
        more = run.config.iterations + 1
        commands.append(f"{launcher_hint(f'--run-dir {root} --iterations {more}')}    runs another iteration")
    if run.config.data.train.tiny and not part:
        own = launcher_hint("--config my.yaml --dry-run")
        commands.append(f"{own}    your own problems and models (the README has a my.yaml to begin with)")
    console.print("next:", highlight=False)
    for command in commands:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
