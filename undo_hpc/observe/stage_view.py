"""The stages of the iteration at work, as people see them: states, speeds, time left, and the tasks that failed. Reads only."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile

from undo_hpc.control.position import RunState
from undo_hpc.control.spent import starts_of
from undo_hpc.observe.logs import logs_of, tail
from undo_hpc.observe.wording import in_flight, learned
from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, TaskStatus, enough
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import Manifest
from undo_hpc.storage.progress import read_progress
from undo_hpc.storage.reading import finite, read_fast

STATES = ("done", "pruned", "running", "waiting", "failed", "saved", "stale", "ready", "blocked")
MAX_FAILURES = 3
FRESH_PROGRESS_S = 600.0


@dataclass(frozen=True)
class Failure:
    """A task that ended without being complete, and the last lines that it printed."""

    stage: str
    index: int
    label: str
    why: str
    log: str
    lines: list[str]


@dataclass
class StageView:
    """A stage of the iteration at work. Speeds and times are None where they are not known, `right` where nothing is graded."""

    name: str
    total: int
    states: dict[str, int]
    waits_for: str = ""
    starts: int = 0
    restarts: int = 0
    rows: int = 0
    right: int | None = None
    truncated: int = 0
    rows_per_s: float | None = None
    tokens_per_s: float | None = None
    loss: float | None = None
    learned: str = ""
    progress: str = ""
    left_s: float | None = None
    seconds: float | None = None

    @property
    def done(self) -> int:
        """Complete tasks, those included whose outputs were pruned since."""
        return self.states.get("done", 0) + self.states.get("pruned", 0)


def stage_views(run: Run, state: RunState) -> tuple[list[StageView], list[Failure]]:
    """All stages of the iteration in order, and the first failures of each."""
    views: list[StageView] = []
    failures: list[Failure] = []
    cancelled = max(
        (event["time"] for event in read_events(run.layout.events) if event["kind"] == "cancelled"),
        default=0.0,
    )
    by_stage: dict[str, list[TaskStatus]] = {}
    for status in state.statuses:
        by_stage.setdefault(status.stage, []).append(status)
    for stage in state.stages:
        mine = by_stage.get(stage.name, [])  # none where it has no tasks
        view = StageView(stage.name, len(stage.tasks), {})
        counts: Counter[str] = Counter()
        waits: Counter[str] = Counter()
        for status, task in zip(mine, stage.tasks, strict=True):
            now = status.state
            if now == "done":
                counts["pruned" if _is_pruned(run, state.evidence[stage.name, status.index]) else "done"] += 1
                continue
            ended = _last_start(run, stage, status.index, view, cancelled)
            shown: str = now
            if now in ("ready", "blocked", "stale") and ended in ("failed", "killed"):
                shown = "failed"
                if sum(f.stage == stage.name for f in failures) < MAX_FAILURES:
                    failures.append(_failure(run, stage, status.index, task.label, ended))
            elif now in ("ready", "blocked") and ended == "requeue":
                shown = "saved"
            counts[shown] += 1
            if now in ("waiting", "blocked", "stale") and status.why:
                waits[status.why.partition(": ")[2] or status.why] += 1
        view.states = {name: counts[name] for name in STATES if counts[name]}
        view.waits_for = waits.most_common(1)[0][0] if waits else ""
        if view.done < view.total and enough(state.plan.policy_of(stage.name), view.done, view.total):
            view.waits_for = "enough for the next stage, by the policy"
        _measure(run, stage, view, [state.evidence[stage.name, s.index] for s in mine if s.state == "done"],
                 [s.index for s in mine if s.state == "running"])  # fmt: skip
        views.append(view)
    return views, failures


def _is_pruned(run: Run, found: Evidence) -> bool:
    """Whether outputs were removed to save room, and are still gone."""
    if found.manifest is None or "pruned" not in found.manifest.details:
        return False
    return any(not (run.layout.root / name).exists() for name in found.manifest.pruned)


def _last_start(run: Run, stage: Stage, index: int, view: StageView, cancelled: float) -> str:
    """Counts the starts of an unfinished task; returns how the last one ended: complete, requeue, failed, killed, or nothing.

    Args:
        cancelled: when the run was last cancelled: what that ended was asked to stop, and did not fail.
    """
    starts, ended = 0, ""
    for event in read_events(run.layout.iteration(stage.iteration).events(stage.name, index)):
        if event.get("kind") == "start":
            starts, ended = starts + 1, "requeue" if event["time"] <= cancelled else "killed"
        elif event.get("kind") == "end":
            ended = str(event.get("status", ""))
    view.starts += starts
    view.restarts += max(0, starts - 1)
    return ended


def _failure(run: Run, stage: Stage, index: int, label: str, ended: str) -> Failure:
    logs = logs_of(run.layout, stage.iteration, stage.name, index)
    why = (
        "failed"
        if ended == "failed"
        else "died without an exit status (killed, out of memory, or its node went down)"
    )
    return Failure(
        stage.name, index, label, why, str(logs[-1]) if logs else "", tail(logs[-1]) if logs else []
    )


def _measure(run: Run, stage: Stage, view: StageView, done: list[Evidence], running: list[int]) -> None:
    """Sums of the finished tasks, and the progress of the running ones."""
    manifests = [e.manifest for e in done if e.manifest is not None]
    counts = [m.counts for m in manifests]
    rows = right = truncated = written = 0
    tokens = seconds = (
        0.0  # of the last start of each task, as its manifest has them; rows are all of its rows
    )
    for c in counts:  # one way through them: there may be ten thousand
        rows += int(c.get("rows", 0))
        right += int(c.get("correct", 0))
        truncated += int(c.get("truncated", 0))
        written += int(c.get("completion_tokens", 0))
        tokens += float(c.get("new_tokens", 0))
        seconds += float(c.get("seconds", 0))
    view.rows, view.truncated = rows, truncated
    view.right = right if any("correct" in c for c in counts) else None
    tokens_per_row = (written or tokens) / rows if rows else 0.0
    spans = [(m.started, m.finished) for m in manifests if m.finished]
    if len(spans) == 1:  # of arrays the last starts alone: there may be ten thousand logs
        spans += _earlier_starts(run, stage, manifests[0])
    if spans:
        view.seconds = _together(spans)
    if stage.name == "train" and counts:
        view.loss = counts[0].get("loss")
        view.learned = learned(counts[0], {}) if "rows_given" in counts[0] else ""
        last = read_progress(run.layout.iteration(stage.iteration).progress("train", 0)) or {}
        view.tokens_per_s = finite(last, "tokens_per_s") or None  # of its last steps
    if running:
        _measure_running(
            run, stage, view, running, tokens_per_row=tokens_per_row, rows_per_task=rows / max(1, len(done))
        )
    elif seconds:
        view.tokens_per_s = tokens / seconds if tokens else None
        view.rows_per_s = tokens / seconds / tokens_per_row if tokens and tokens_per_row else None


def _earlier_starts(run: Run, stage: Stage, manifest: Manifest) -> list[tuple[float, float]]:
    """When a task was at work before the start that completed it: a training that was stopped and resumed took all of it."""
    log = run.layout.iteration(stage.iteration).events(stage.name, manifest.index)
    before = [start for start in starts_of(read_events(log)) if start.began < manifest.started]
    stopped = takewhile(lambda start: start.ended != "complete", reversed(before))
    return [(start.began, start.began + start.seconds) for start in stopped]


def _together(spans: list[tuple[float, float]]) -> float:
    """Seconds in which any of the tasks was at work: what lies between them, as before evaluations were added, is no work."""
    seconds, until = 0.0, float("-inf")
    for started, finished in sorted(spans):
        seconds += max(0.0, finished - max(started, until))
        until = max(until, finished)
    return seconds


def _measure_running(
    run: Run,
    stage: Stage,
    view: StageView,
    running: list[int],
    *,
    tokens_per_row: float,
    rows_per_task: float,
) -> None:
    """Adds what running tasks report, and the time left; the sizes of finished tasks tell of those that still wait."""
    tokens_per_s = open_rows = 0.0
    under_way = writing = 0
    left: list[float] = []
    for index in running:
        progress = read_fast(run.layout.iteration(stage.iteration).progress(stage.name, index))
        if not progress or time.time() - finite(progress, "time") > FRESH_PROGRESS_S:
            continue
        tokens_per_s += finite(progress, "tokens_per_s")
        under_way, writing = (
            under_way + int(finite(progress, "under_way")),
            writing + int(finite(progress, "writing")),
        )
        view.progress = str(progress.get("doing") or view.progress)
        done, total = finite(progress, "done"), finite(progress, "total")
        view.loss = progress.get("loss", view.loss)
        if progress.get("unit") == "rows":
            view.rows += int(done)
            if "correct" in progress:
                view.right = (view.right or 0) + int(finite(progress, "correct"))
            open_rows += max(0.0, total - done)
        elif total:
            view.progress = f"{done:.0f} of {total:.0f} {progress.get('unit', '')}".strip()
        if progress.get("left_s") is not None:
            left.append(finite(progress, "left_s"))
    if under_way:
        view.progress = in_flight({"under_way": under_way, "writing": writing})
    if tokens_per_s:
        view.tokens_per_s = tokens_per_s
        if tokens_per_row:
            view.rows_per_s = tokens_per_s / tokens_per_row
            waiting = view.total - view.done - len(running)
            left.append((open_rows + waiting * rows_per_task) / view.rows_per_s)
    if left:
        view.left_s = max(left)
