"""A run in one sentence, and the exact command to type next. PURE but for the paths in the commands."""

from __future__ import annotations

import shlex

from undo_hpc.config.parts import ends_behind, refines
from undo_hpc.control.live import LiveTasks
from undo_hpc.control.position import RunState
from undo_hpc.observe.stage_view import Failure, StageView
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import cli_hint, display_path, resume_hint
from undo_hpc.system.wording import counted


def next_command(run: Run, state: RunState, failures: list[Failure], live: LiveTasks) -> tuple[str, str]:
    """The exact next command, and what it does."""
    root, resume = display_path(run.layout.root), resume_hint(run.layout.root)
    ended = state.ended.action if state.ended else ""
    if ended and (further := after_part(run, state.iteration)):
        return further
    if ended and (ended == "converged" or not refines(run.config)):
        why = "stop.patience" if ended == "converged" else f"method.condition: {run.config.method.condition}"
        return cli_hint(
            f"report {root}"
        ), f"writes the report again; no more iterations would be started ({why})"
    if ended:
        return (f"{resume} --iterations {run.config.iterations + 1}", "runs another iteration")
    if live.abandoned:
        return (
            resume,
            f"SLURM could not start {counted(live.abandoned, 'task')} and holds them; this releases them",
        )
    running = any(word == "running" for word, _ in live.tasks.values())
    if live.held and not running:
        which = "this job" if len(live.held) == 1 else "these jobs"
        return f"scontrol release {','.join(live.held)}", f"somebody holds {which}, and what is behind waits"
    if live.beyond and not running:
        return resume, f"{live.beyond}. Correct the profile first; this submits it again"
    if live.stuck and not running:
        return resume, "what waits for a failed job never starts; this submits it again"
    busy = live.jobs > 0 or bool(live.launcher) or running
    if busy and not failures:
        return cli_hint(f"status {root} --watch"), "nothing to do; shows the status every few seconds"
    if failures:
        first = failures[0]
        which = f" {first.index}" if first.label != first.stage else ""
        look_at = cli_hint(f"logs {root} {first.stage}{which}")
        return (
            (look_at, "shows the whole log of the failed task")
            if busy
            else (resume, "resumes, once the cause is fixed; what is finished stays")
        )
    if live.paused:
        return resume, "resumes the paused run"
    return resume, "nothing works on this run; resumes it"


def after_part(run: Run, iteration: int) -> tuple[str, str] | None:
    """What may follow an iteration that was cut (`until`), and what it does; None for a whole one."""
    root, stage = display_path(run.layout.root), ends_behind(run.config, iteration)
    if not stage:
        return None
    if stage == "generate":
        return (
            f"{resume_hint(run.layout.root)} --until merge",
            "joins the right rationales to a distilled set",
        )
    if stage == "merge":
        return cli_hint(f"train MODEL {root}"), "trains a student on these rationales"
    if stage == "baseline":
        model = shlex.quote(run.config.student.model)
        return cli_hint(f"evaluate {model} --run-dir {root} --benchmarks NAME"), "adds a benchmark"
    student = display_path(run.layout.iteration(iteration).student)
    return cli_hint(f"evaluate {student} --benchmarks gsm8k,math500"), "evaluates the student"


def headline(state: RunState, views: list[StageView], failures: list[Failure], live: LiveTasks) -> str:
    """The state of the whole in a sentence."""
    if state.ended:
        return f"ended: {state.ended.why}"
    if state.complete:
        return "this iteration is complete; the next is not planned yet"
    total = sum(v.total for v in views)
    done = sum(v.done for v in views)
    names = [v.name for v in views if v.states.get("running")]
    if names:
        text = f"{' and '.join(names)} running"
    elif any(v.states.get("waiting") for v in views):
        text = "waiting in the queue"
    elif live.launcher:
        text = "a launcher is working on it"
    elif live.note:
        text = "unknown what is running"
    else:
        text = "paused" if live.paused else "stopped"
    failed = sum(v.states.get("failed", 0) for v in views)
    word = (
        "failed or wait in the queue" if live.note else "failed"
    )  # a task that failed may have been queued again
    trouble = f", {failed} {word}" if failed and failures else ""
    return f"{text}; {done} of {total} tasks done{trouble}"
