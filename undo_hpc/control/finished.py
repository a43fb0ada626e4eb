"""The figures of a run's finished iterations, as they hold now: every view, card and comparison takes them from here."""

from __future__ import annotations

from typing import Any

from undo_hpc.control.position import ADDED, RunState, read_state
from undo_hpc.control.results import finished_problem
from undo_hpc.errors import StorageError
from undo_hpc.pipeline.plan import decide_run
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import read_json
from undo_hpc.storage.events import read_events


def all_metrics(run: Run, state: RunState | None = None) -> list[dict[str, Any]]:
    """metrics.json of the finished iterations, oldest first, up to the first whose metrics do not hold (`left_out`): those of iteration k
    stand at place k. Each decision is the one under the present configuration, for `iterations` may have been raised since.

    Args:
        state: of the run, where it is known.
    """
    numbers, ends = run.layout.iterations(), left_out(run, state)
    paths = [run.layout.iteration(k).metrics for k in numbers if ends is None or k < ends[0]]
    found = [read_json(path) for path in paths if path.exists()]
    sets = [metrics["sets"] for metrics in found]
    decisions = (decide_run(run.config, sets[: k + 1]).to_dict() for k in range(len(sets)))
    return [metrics | {"decision": decision} for metrics, decision in zip(found, decisions, strict=True)]


def left_out(run: Run, state: RunState | None = None) -> tuple[int, str] | None:
    """The first iteration that has metrics which do not hold, and why, in words: they are missing before a later iteration's, or damaged; or
    what they rest on has other results now, as after `regrade`. None where all hold.

    Evaluations that were added since change nothing in them, and no more does a file that was deleted.
    """
    with_metrics = [k for k in run.layout.iterations() if run.layout.iteration(k).metrics.exists()]
    if not with_metrics:
        return None
    try:
        state = state or read_state(run)
    except StorageError:  # a damaged plan, of an iteration that is not finished
        state = None
    for number in range(with_metrics[-1] + 1):
        why = (
            _outdated(run, state) if state is not None and number == state.iteration else _damage(run, number)
        )
        if why:
            return number, why
    return None


def _outdated(run: Run, state: RunState) -> str:
    """Why the metrics of the iteration at work do not hold; empty where they do."""
    for status in state.statuses:
        found = state.evidence.get((status.stage, status.index))
        if found is None or found.manifest is None:
            if status.stage == "advance" and not _only_added(run, state.iteration):
                return "they are made again"
        elif found.problem:
            if status.stage == "advance" and (why := _damage(run, state.iteration)):
                return why
        elif status.state != "done" and status.why:
            return f"{status.stage}: {status.why}"
    return ""


def _damage(run: Run, number: int) -> str:
    """What is wrong with the metrics of an iteration or their evidence; empty where nothing is."""
    return finished_problem(run, number, "advance", run.layout.iteration(number).metrics)


def _only_added(run: Run, iteration: int) -> bool:
    """Whether `advance` is done again for added evaluations alone."""
    last = ""
    for event in read_events(run.layout.events):
        if (event.get("kind"), event.get("iteration"), event.get("stage")) == (
            "discarded",
            iteration,
            "advance",
        ):
            last = str(event.get("why", ""))
    return last == ADDED
