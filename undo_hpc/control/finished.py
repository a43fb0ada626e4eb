"""The figures of a run's finished iterations, as they hold now: every view, card and comparison takes them from here."""

from __future__ import annotations

from typing import Any

from undo_hpc.control.position import ADDED, RunState, read_state
from undo_hpc.control.results import finished_problem
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.pipeline.plan import decide_run
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events
from undo_hpc.system.invocation import resume_hint


def all_metrics(run: Run, state: RunState | None = None) -> list[dict[str, Any]]:
    """metrics.json of the finished iterations, oldest first, up to the first whose metrics do not hold (`left_out`): those of iteration k
    stand at place k. Each decision is the one under the present configuration, for `iterations` may have been raised since.

    Args:
        state: of the run, where it is known.
    """
    ends = left_out(run, state)
    held = [k for k in run.layout.iterations() if ends is None or k < ends[0]]
    found = [read_metrics(run, k) for k in held if run.layout.iteration(k).metrics.exists()]
    sets = [metrics["sets"] for metrics in found]
    decisions = (decide_run(run.config, sets[: k + 1]).to_dict() for k in range(len(sets)))
    return [metrics | {"decision": decision} for metrics, decision in zip(found, decisions, strict=True)]


def left_out(run: Run, state: RunState | None = None) -> tuple[int, str] | None:
    """The first iteration that has metrics which do not hold, and why, in words: they are missing before a later iteration's, or damaged; or
    what they rest on has other results now, as after `regrade`. None where all hold.

    Evaluations that were added since change nothing in them, and no more does a file that was deleted.
    """
    ended = [k for k in run.layout.iterations() if _has_ended(run, k)]
    if not ended:
        return None
    try:
        state = state or read_state(run)
    except StorageError:  # a damaged plan, of an iteration that is not finished
        state = None
    for number in range(ended[-1] + 1):
        at_work = state is not None and number == state.iteration
        why = _outdated(run, state) if at_work and state is not None else _damage(run, number)
        if why := why or _unreadable(run, number):
            return number, why
    return None


def require_current(run: Run, iteration: int) -> None:
    """The distilled set of an iteration is what its shards give now. Raises EvidenceError where it is about to be made again."""
    state = read_state(run)
    for status in state.statuses if state is not None and state.iteration == iteration else ():
        if status.stage == "merge" and status.state != "done":
            raise EvidenceError(
                f"the distilled set of iteration {iteration} does not hold ({status.why or 'it is made again'})",
                hint=f"run {resume_hint(run.layout.root)}, which makes it again, then the same command",
            )


def _has_ended(run: Run, number: int) -> bool:
    at = run.layout.iteration(number)
    return at.metrics.exists() or at.stage_manifest("advance").exists()


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


def _unreadable(run: Run, number: int) -> str:
    """Why metrics.json cannot be read; empty where it can: advance's manifest, which names its digest, is away while it counts again."""
    try:
        read_metrics(run, number)
    except StorageError as error:
        return error.message
    return ""


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
