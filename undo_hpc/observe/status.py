"""Where a run stands, as one view: evidence, events, progress files, and what the scheduler holds. Reads only.

The states are derived by state.derive from the evidence, as the launcher does it; here they get their reasons in words.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.control.live import Live, look_live
from undo_hpc.control.position import current_decision
from undo_hpc.observe.logs import logs_of, tail
from undo_hpc.observe.remarks import remarks
from undo_hpc.pipeline.evidence import gather, read_bytes, read_fast
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, effective_iterations, refines
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, Key, TaskStatus, derive, enough, unmet
from undo_hpc.storage.events import read_events
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint

STATES = ("done", "running", "waiting", "failed", "saved", "stale", "ready", "blocked")
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
    """A stage of the iteration at work. Speeds and times are None where they are not known."""

    name: str
    total: int
    states: dict[str, int]
    waits_for: str = ""
    starts: int = 0
    restarts: int = 0
    rows: int = 0
    right: int = 0
    truncated: int = 0
    rows_per_s: float | None = None
    tokens_per_s: float | None = None
    loss: float | None = None
    progress: str = ""
    left_s: float | None = None
    seconds: float | None = None

    @property
    def done(self) -> int:
        """Complete tasks."""
        return self.states.get("done", 0)


@dataclass
class RunView:
    """A run at a glance.

    Attributes:
        headline: the state of the whole in a sentence.
        next_command: what to type now, and why.
        accuracy: validation accuracy of each finished iteration, with its interval.
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
    launcher: str = ""
    jobs: int = 0
    report: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def look(run: Run, *, live: Live | None = None, scheduler: bool = True) -> RunView:
    """Looks at a run.

    Args:
        live: who works on it; None asks leases and (on SLURM) squeue.
        scheduler: False leaves squeue alone.
    """
    numbers = [k for k in run.layout.iterations() if run.layout.iteration(k).plan.exists()]
    history = _history(run, numbers)
    notes: list[str] = []
    most = effective_iterations(run.config)
    if not numbers:
        return _not_planned(run, live or Live(), most)
    iteration = numbers[-1]
    plan = run.plan(iteration)
    assert plan is not None, "its file was there a moment ago"
    live = live if live is not None else look_live(run, iteration) if scheduler else Live()
    stages = build_graph(run.config, run.layout, plan)
    evidence = gather(run.layout.root, stages)
    policies: dict[str, PolicyConfig] = {s.name: plan.policy_of(s.name) for s in stages}
    statuses = derive(stages, evidence, policies=policies, outside=_outside(run), live=live.tasks)
    views, failures = _stages(run, plan, stages, evidence, statuses, live)
    complete = not unmet(stages, policies, statuses)
    decision = current_decision(run, iteration) if complete and len(history) == iteration + 1 else None
    ended = decision is not None and decision.action != "continue"
    if live.note:
        notes.append(live.note)
    if live.paused:
        notes.append("the run is paused: running tasks save and stop, nothing new starts")
    notes += _stopped(run, iteration)
    if history:
        notes += _remarks(run, len(history) - 1)
    if len(history) < iteration:
        lost = run.layout.iteration(len(history)).metrics
        notes.append(f"{run.layout.relative(lost)} is missing or damaged, and what came later rests on it")
    command, why = _next(run, decision.action if decision is not None and ended else "", failures, live)
    return RunView(
        name=run.config.name,
        root=str(run.layout.root),
        cluster=run.config.cluster.kind,
        iteration=iteration,
        iterations=most,
        condition=run.config.method.condition,
        headline=_headline(ended, decision.why if decision else "", complete, views, failures, live),
        stages=views,
        failures=failures,
        notes=notes,
        accuracy=history,
        next_command=command,
        next_why=why,
        ended=ended,
        best_iteration=decision.best_iteration if decision else None,
        launcher=live.launcher,
        jobs=live.jobs,
        report=str(page) if (page := run.layout.report / "index.html").exists() else "",
    )


def _history(run: Run, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Validation of the finished iterations, up to the first that is not (or whose metrics are damaged)."""
    found: list[dict[str, Any]] = []
    for number in range(numbers[-1] + 1 if numbers else 0):
        metrics = read_fast(str(run.layout.iteration(number).metrics))
        if not metrics or "sets" not in metrics:
            break
        found.append({"iteration": number} | metrics["sets"].get("validation", {}))
    return found


def _remarks(run: Run, iteration: int) -> list[str]:
    """What to look at in the last finished iteration; nothing where its metrics are of another version."""
    metrics = read_fast(str(run.layout.iteration(iteration).metrics)) or {}
    whole = {"sets", "generate", "distilled"} <= metrics.keys()
    return [f"iteration {iteration}: {remark}" for remark in remarks(metrics)] if whole else []


def _outside(run: Run) -> dict[str, str]:
    """As position.outside_digests, but a file that is missing does not end the look."""
    prepared = read_fast(str(run.layout.prepared)) or {}
    digests = {"config": run.config_digest}
    if "digest" in prepared:
        digests["splits"] = str(prepared["digest"])
    return digests


def _stages(
    run: Run,
    plan: IterationPlan,
    stages: Sequence[Stage],
    evidence: dict[Key, Evidence],
    statuses: list[TaskStatus],
    live: Live,
) -> tuple[list[StageView], list[Failure]]:
    views: list[StageView] = []
    failures: list[Failure] = []
    by_stage: dict[str, list[TaskStatus]] = {}
    for status in statuses:
        by_stage.setdefault(status.stage, []).append(status)
    for stage in stages:
        mine = by_stage.get(stage.name, [])  # none where nobody is asked anything
        view = StageView(stage.name, len(stage.tasks), {})
        counts: Counter[str] = Counter()
        waits: Counter[str] = Counter()
        for status, task in zip(mine, stage.tasks, strict=True):
            state = status.state
            if state == "done":
                counts["done"] += 1
                continue
            ended = _last_start(run, stage, status.index, view)
            shown: str = state
            if state in ("ready", "blocked", "stale") and ended in ("failed", "killed"):
                shown = "failed"
                if sum(f.stage == stage.name for f in failures) < MAX_FAILURES:
                    failures.append(_failure(run, stage, status.index, task.label, ended))
            elif state in ("ready", "blocked") and ended == "requeue":
                shown = "saved"
            counts[shown] += 1
            if state in ("waiting", "blocked", "stale") and status.why:
                waits[status.why.partition(": ")[2] or status.why] += 1
        view.states = {name: counts[name] for name in STATES if counts[name]}
        view.waits_for = waits.most_common(1)[0][0] if waits else ""
        if view.done < view.total and enough(plan.policy_of(stage.name), view.done, view.total):
            view.waits_for = "enough for the next stage, by the policy"
        _measure(run, stage, view, [evidence[stage.name, s.index] for s in mine if s.state == "done"],
                 [s.index for s in mine if s.state == "running"])  # fmt: skip
        views.append(view)
    return views, failures


def _last_start(run: Run, stage: Stage, index: int, view: StageView) -> str:
    """Counts the starts of an unfinished task; returns how the last one ended: complete, requeue, failed, killed, or nothing."""
    starts, ended = 0, ""
    for event in read_events(run.layout.iteration(stage.iteration).events(stage.name, index)):
        if event.get("kind") == "start":
            starts, ended = starts + 1, "killed"
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
        else "ended without a word (killed, out of memory, or its node went down)"
    )
    return Failure(
        stage.name, index, label, why, str(logs[-1]) if logs else "", tail(logs[-1]) if logs else []
    )


def _measure(run: Run, stage: Stage, view: StageView, done: list[Evidence], running: list[int]) -> None:
    """Sums of the finished tasks, and what the running ones say of themselves."""
    manifests = [e.manifest for e in done if e.manifest is not None]
    counts = [m.counts for m in manifests]
    view.rows = rows = sum(int(c.get("rows", 0)) for c in counts)
    view.right = sum(int(c.get("correct", 0)) for c in counts)
    view.truncated = sum(int(c.get("truncated", 0)) for c in counts)
    tokens = sum(float(c.get("new_tokens", 0)) for c in counts)
    seconds = sum(float(c.get("seconds", 0)) for c in counts)
    if spans := [(m.started, m.finished) for m in manifests if m.finished]:
        view.seconds = max(finished for _, finished in spans) - min(started for started, _ in spans)
    if stage.name == "train" and counts:
        view.loss = counts[0].get("loss")
    if running:
        _measure_running(
            run,
            stage,
            view,
            running,
            tokens_per_row=tokens / rows if rows else 0.0,
            rows_per_task=rows / max(1, len(done)),
        )
    elif seconds:
        view.tokens_per_s = tokens / seconds if tokens else None
        view.rows_per_s = rows / seconds if rows else None


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
    left: list[float] = []
    for index in running:
        progress = read_fast(str(run.layout.iteration(stage.iteration).progress(stage.name, index)))
        if not progress or time.time() - float(progress.get("time", 0)) > FRESH_PROGRESS_S:
            continue
        tokens_per_s += float(progress.get("tokens_per_s") or 0)
        done, total = float(progress.get("done") or 0), float(progress.get("total") or 0)
        view.loss = progress.get("loss", view.loss)
        if progress.get("unit") == "rows":
            view.rows += int(done)
            view.right += int(progress.get("correct") or 0)
            open_rows += max(0.0, total - done)
        elif total:
            view.progress = f"{done:.0f} of {total:.0f} {progress.get('unit', '')}".strip()
        if progress.get("left_s") is not None:
            left.append(float(progress["left_s"]))
    if tokens_per_s:
        view.tokens_per_s = tokens_per_s
        if tokens_per_row:
            view.rows_per_s = tokens_per_s / tokens_per_row
            waiting = view.total - view.done - len(running)
            left.append((open_rows + waiting * rows_per_task) / view.rows_per_s)
    if left:
        view.left_s = max(left)


def _stopped(run: Run, iteration: int) -> list[str]:
    """Why a stage gave up submitting, or the budget stopped the run, as the run's own events tell; only what still holds."""
    notes: list[str] = []
    data = read_bytes(str(run.layout.events)) or b""
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
            f"the last push to the Hub failed: {last['push_failed']} (again with: {cli_hint(f'push {display_path(run.layout.root)}')})"
        )
    return notes


def _not_planned(run: Run, live: Live, most: int) -> RunView:
    command = resume_command(run)
    return RunView(run.config.name, str(run.layout.root), run.config.cluster.kind, 0, most, run.config.method.condition,
                   "created, not started yet", [], [], [], [], command, "plans iteration 0 and starts it", False,
                   launcher=live.launcher)  # fmt: skip


def resume_command(run: Run) -> str:
    """The command that goes on with a run."""
    return launcher_hint(f"--run-dir {display_path(run.layout.root)}")


def _next(run: Run, ended: str, failures: list[Failure], live: Live) -> tuple[str, str]:
    """The exact next command, and what it does."""
    root = display_path(run.layout.root)
    if ended and (ended == "converged" or not refines(run.config)):
        why = "stop.patience" if ended == "converged" else f"method.condition: {run.config.method.condition}"
        return cli_hint(
            f"report {root}"
        ), f"writes the report again; more iterations would not be begun ({why})"
    if ended:
        return (
            f"{resume_command(run)} --iterations {run.config.iterations + 1}",
            "goes on for another iteration",
        )
    if live.given_up:
        return (
            resume_command(run),
            f"SLURM could not start {live.given_up} task{'s'[: live.given_up != 1]} and gave up; this lets them wait for a node again",
        )
    busy = live.jobs > 0 or bool(live.launcher) or any(state == "running" for state, _ in live.tasks.values())
    if busy and not failures:
        return cli_hint(f"status {root} --watch"), "nothing to do; looks again every few seconds"
    if failures:
        first = failures[0]
        which = f" {first.index}" if first.label != first.stage else ""
        look_at = cli_hint(f"logs {root} {first.stage}{which}")
        return (
            (look_at, "shows the whole log of the failed task")
            if busy
            else (resume_command(run), f"after mending the cause ({look_at})")
        )
    if live.paused:
        return resume_command(run), "goes on from where the run was paused"
    return resume_command(run), "nobody works on this run; goes on from where it stands"


def _headline(
    ended: bool, why: str, complete: bool, views: list[StageView], failures: list[Failure], live: Live
) -> str:
    if ended:
        return f"ended: {why}"
    if complete:
        return "this iteration is complete; the next is not planned yet"
    total = sum(v.total for v in views)
    done = sum(v.done for v in views)
    names = [v.name for v in views if v.states.get("running")]
    if names:
        text = f"{' and '.join(names)} running"
    elif any(v.states.get("waiting") for v in views):
        text = "waiting in the queue"
    elif live.launcher:
        text = "a launcher is at work"
    elif live.note:
        text = "not known what runs"
    else:
        text = "paused" if live.paused else "stopped"
    failed = sum(v.states.get("failed", 0) for v in views)
    trouble = f", {failed} failed" if failed and failures else ""
    return f"{text}; {done} of {total} tasks done{trouble}"
