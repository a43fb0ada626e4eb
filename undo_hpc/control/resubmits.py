"""How often a resubmitting stage may submit the same work again. A person may always; a preemption is no failure.

Where a site cancels what it preempts (PreemptMode=CANCEL), each preemption costs a submission. It counts against
`cluster.max_preemptions`, as a requeue by SLURM does, and not against `cluster.max_resubmits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undo_hpc.control.position import RunState
from undo_hpc.errors import ExitCode, Incomplete
from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import RESUBMITTING_STAGES
from undo_hpc.storage.events import read_events
from undo_hpc.storage.reading import finite
from undo_hpc.system.invocation import resume_hint


def limit_resubmits(
    run: Run, state: RunState, todo: Sequence[tuple[Stage, Sequence[int]]], resubmitter: str
) -> None:
    """Raises Incomplete where a task found its input wrong, failed too often, or was preempted too often."""
    limits = run.config.cluster
    at = run.layout.iteration(state.iteration)
    counts, since = count_submissions(read_events(run.events.path), state.iteration)
    preempted = {
        (stage.name, index): cancelled_by_preemption(read_events(at.events(stage.name, index)), since)
        for stage, indices in todo
        if counts[stage.name] > 1  # of ten thousand tasks that were never submitted nothing is read
        for index in indices
    }
    worst = {
        name: max((count for (stage, _), count in preempted.items() if stage == name), default=0)
        for name in counts
    }
    for stage, indices in todo:
        # A resubmitting stage is submitted again each time that one of the others is.
        allowed = limits.max_resubmits + 3 * limits.max_resubmits * (stage.name in RESUBMITTING_STAGES)
        # A stage behind a preempted one is submitted again with it.
        others = sum(count for name, count in worst.items() if name != stage.name)
        failures = {i: counts[stage.name] - others - preempted.get((stage.name, i), 0) for i in indices}
        why = ""
        hopeless = [
            i
            for i in indices
            if stage.name != resubmitter
            and _last_code(read_events(at.events(stage.name, i))) == ExitCode.WRONG_INPUT
        ]
        if hopeless:
            why = f"task {hopeless[0]} of {stage.name} found its input wrong (exit code {int(ExitCode.WRONG_INPUT)})"
        elif any(count > allowed for count in failures.values()):
            why = f"{len(indices)} tasks of {stage.name} failed in {max(failures.values())} submissions"
        elif worst.get(stage.name, 0) > limits.max_preemptions:
            why = f"{stage.name} was preempted {worst[stage.name]} times (cluster.max_preemptions)"
        if why:
            run.events.append(
                "stopped", iteration=state.iteration, stage=stage.name, by=resubmitter or "cron", why=why
            )
            raise Incomplete(
                f"{why}; nothing is submitted again",
                hint=f"see {at.logs}/{stage.name}-*.log, fix the cause, then: {resume_hint(run.layout.root)}",
            )


def count_submissions(events: Iterable[Mapping[str, Any]], iteration: int) -> tuple[Counter[str], float]:
    """PURE: how often each stage of an iteration was submitted since a person last did so, that time counted; and when that was, in
    seconds since 1970."""
    counts: Counter[str] = Counter()
    since = 0.0
    for event in events:
        if event.get("iteration") != iteration or event.get("ahead"):
            continue  # ahead: where the iteration before fails, such jobs end without having begun
        if event["kind"] == "superseded":  # by a regrade: what was submitted belonged to other tasks
            counts.clear()
        elif event["kind"] == "submitted":
            if event.get("by") == "launcher":
                counts.clear()
                since = finite(event, "time")
            stages = event.get("stages")
            counts.update(stages.keys() if isinstance(stages, dict) else ())
    return counts, since


def cancelled_by_preemption(events: Iterable[Mapping[str, Any]], since: float) -> int:
    """PURE: the number of jobs of a task, started since then, whose last word is that they were preempted and had saved."""
    last: dict[str, bool] = {}
    job = ""
    for event in events:
        if event.get("kind") == "start":
            job = str(event.get("job", ""))
            if finite(event, "time", since) >= since:
                last[job] = False  # until it has said something else
        elif event.get("kind") == "end" and job in last:
            last[job] = event.get("status") == "requeue" and event.get("reason") == "preempted"
    return sum(last.values())


def _last_code(events: Iterable[Mapping[str, Any]]) -> int | None:
    """Exit code of a task's last end, or None."""
    code = None
    for event in events:
        if event.get("kind") == "end":
            code = int(finite(event, "code", 1))
    return code
