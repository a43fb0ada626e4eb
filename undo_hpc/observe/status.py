"""Where a run stands, as one view. Renders what `control.position` derived, with the reasons in words; reads only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from undo_hpc.config.parts import effective_iterations
from undo_hpc.control.finished import all_metrics, left_out
from undo_hpc.control.live import LiveTasks, query_live
from undo_hpc.control.position import RunState, latest_planned, read_state
from undo_hpc.control.prune import Usage, usage
from undo_hpc.method.metrics import beats_untrained, untrained_validation, validation_of
from undo_hpc.observe.after import report_is_old
from undo_hpc.observe.next_step import headline, next_command
from undo_hpc.observe.outcome import warnings_of
from undo_hpc.observe.stage_view import Failure, StageView, stage_views
from undo_hpc.observe.whole import look_at_whole
from undo_hpc.observe.wording import evaluation_settings, figures_left_out
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events
from undo_hpc.storage.opening import read_bytes
from undo_hpc.storage.reading import finite, read_fast
from undo_hpc.system.invocation import cli_hint, display_path, resume_hint
from undo_hpc.system.wording import format_bytes


@dataclass
class RunView:
    """A run at a glance.

    Attributes:
        headline: the state of the whole in a sentence.
        next_command: what to type now, and why.
        accuracy: validation accuracy of each finished iteration, with its interval.
        untrained: the same of the untrained student, None where it was not measured.
        beats_untrained: whether the best iteration is more accurate than it; None where either was not measured.
        evaluation: how the student answers: temperature, samples, limits.
        whole: the run in a line: iteration, stages at work, time so far, expected end; empty where it has ended.
        disk: what students and checkpoints take, in words.
        disk_bytes: the same as a number.
    """

    name: str
    root: str
    cluster: str
    iteration: int
    iterations: int
    condition: str
    headline: str
    stages: list[StageView]
    failures: list[Failure]
    notes: list[str]
    accuracy: list[dict[str, Any]]
    next_command: str
    next_why: str
    ended: bool
    best_iteration: int | None = None
    untrained: dict[str, Any] | None = None
    beats_untrained: bool | None = None
    evaluation: str = ""
    launcher: str = ""
    jobs: int = 0
    report: str = ""
    whole: str = ""
    disk: str = ""
    disk_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def collect_status(run: Run, *, live: LiveTasks | None = None, scheduler: bool = True) -> RunView:
    """The view of a run.

    Args:
        live: who works on it; None asks leases and (on SLURM) squeue.
        scheduler: False asks leases only.

    Raises:
        StorageError: the plan of the iteration at work is damaged.
    """
    if live is None:
        live = query_live(run, latest_planned(run), scheduler=scheduler)
    state = read_state(run, live.tasks)
    if state is None:
        return _not_planned(run, live)
    views, failures = stage_views(run, state)
    finished, ends = all_metrics(run, state), left_out(run, state)
    history = [{"iteration": k} | dict(validation_of(metrics) or {}) for k, metrics in enumerate(finished)]
    untrained = untrained_validation(finished)
    command, why = next_command(run, state, failures, live)
    decision, used = state.decision, usage(run)
    return RunView(
        name=run.config.name,
        root=str(run.layout.root),
        cluster=run.config.cluster.kind,
        iteration=state.iteration,
        iterations=effective_iterations(run.config),
        condition=run.config.method.condition,
        headline=headline(state, views, failures, live),
        stages=views,
        failures=failures,
        notes=_notes(run, state, live, finished, ends),
        accuracy=history,
        next_command=command,
        next_why=why,
        ended=state.ended is not None,
        best_iteration=decision.best_iteration if decision else None,
        untrained=dict(untrained) if untrained else None,
        beats_untrained=beats_untrained(finished),
        evaluation=evaluation_settings(run.config),
        launcher=live.launcher,
        jobs=live.jobs,
        report=str(page) if (page := run.layout.report_page).exists() else "",
        whole="" if state.ended else _whole(run, state, views, live),
        disk=describe_usage(used),
        disk_bytes=sum(item.student + item.checkpoints for item in used),
    )


def _whole(run: Run, state: RunState, views: list[StageView], live: LiveTasks) -> str:
    at_work = [view.name for view in views if view.states.get("running")]
    working = bool(at_work or live.launcher or live.jobs)
    return look_at_whole(run, state.iteration, at_work).in_words(working=working)


def describe_usage(used: list[Usage]) -> str:
    """Students and checkpoints on the disk: `students 1.0 GiB (2; pruned: iteration 0), checkpoints 3.1 GiB`; empty where there are none."""
    if not used:
        return ""
    there = [item for item in used if item.student and not item.pruned]
    pruned = ", ".join(str(item.iteration) for item in used if item.pruned)
    what = f"{len(there)}; pruned: iteration {pruned}" if pruned else f"{len(there)}"
    students, checkpoints = sum(item.student for item in used), sum(item.checkpoints for item in used)
    return f"students {format_bytes(students)} ({what}), checkpoints {format_bytes(checkpoints)}"


def _unused_rows(run: Run) -> list[str]:
    """How many rows of the training data the run does not use."""
    prepared = read_fast(run.layout.prepared) or {}
    counts, details = (prepared.get(key) for key in ("counts", "details"))
    source = details.get("train_source") if isinstance(details, dict) else None
    filtered = int(finite(source, "filtered")) if isinstance(source, dict) else 0
    rejected = int(finite(counts, "rejected")) if isinstance(counts, dict) else 0
    said = [f"{filtered:,} do not meet data.train.where"] if filtered else []
    said += [f"{rejected:,} are listed in {run.layout.relative(run.layout.rejected)}"] if rejected else []
    return [f"rows of the training data that are not used: {'; '.join(said)}"] if said else []


def _notes(
    run: Run, state: RunState, live: LiveTasks, finished: list[dict[str, Any]], ends: tuple[int, str] | None
) -> list[str]:
    """What a person should know besides: an unknown queue, a pause, a stop, warnings, lost files."""
    notes = [live.note] if live.note else []
    if live.paused:
        notes.append("the run is paused: running tasks save and stop, nothing new starts")
    notes += [*_unused_rows(run), *_stopped(run, state.iteration)]
    if finished:
        notes += _warnings(finished[-1])
    notes += figures_left_out(ends)
    notes += [old] if state.ended and (old := report_is_old(run)) else []
    notes += [f"{problem}, and later results depend on it" for _, problem in state.lost]
    notes += [f"of the results of an earlier iteration {problem}" for problem in state.damaged]
    return notes


def _warnings(metrics: dict[str, Any]) -> list[str]:
    """Warnings about the last finished iteration; none where its metrics are of another version."""
    whole = {"sets", "generate", "distilled"} <= metrics.keys()
    return (
        [f"iteration {metrics['iteration']}: {warning}" for warning in warnings_of(metrics)] if whole else []
    )


def _stopped(run: Run, iteration: int) -> list[str]:
    """Why a stage stopped submitting, or the budget stopped the run, by the run's own events; only what still holds."""
    notes: list[str] = []
    data = read_bytes(run.layout.events) or b""
    if b'"stopped"' not in data and b'"push_failed"' not in data:
        return notes
    last: dict[str, str] = {}
    for event in read_events(run.layout.events):
        kind = str(event.get("kind"))
        if kind in ("stopped", "push_failed") and event.get("iteration", iteration) == iteration:
            last[kind] = str(event.get("why", ""))
        elif kind in ("submitted", "launched"):
            last.pop("stopped", None)
        elif kind == "pushed":
            last.pop("push_failed", None)
    if "stopped" in last:
        notes.append(f"stopped: {last['stopped']}")
    if "push_failed" in last:
        notes.append(
            f"the last push to the Hub failed: {last['push_failed']} (try again: {cli_hint(f'push {display_path(run.layout.root)}')})"
        )
    return notes


def _not_planned(run: Run, live: LiveTasks) -> RunView:
    return RunView(
        name=run.config.name,
        root=str(run.layout.root),
        cluster=run.config.cluster.kind,
        iteration=0,
        iterations=effective_iterations(run.config),
        condition=run.config.method.condition,
        headline="created, not started yet",
        stages=[],
        failures=[],
        notes=[],
        accuracy=[],
        next_command=resume_hint(run.layout.root),
        next_why="plans iteration 0 and starts it",
        ended=False,
        launcher=live.launcher,
        evaluation=evaluation_settings(run.config),
    )
