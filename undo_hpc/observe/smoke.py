"""What a smoke test (`--smoke N`) has measured, and what that means for the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.method.metrics import rows_encoded, share
from undo_hpc.method.stats import wilson
from undo_hpc.observe.outcome import warnings_of
from undo_hpc.observe.wording import learned, percent
from undo_hpc.observe.wrapped import say
from undo_hpc.pipeline.run import Run
from undo_hpc.system.wording import counted, format_duration


def show_smoke(run: Run, whole: RunConfig, console: Console) -> None:
    """Prints the figures of a smoke test that has ended, or that they are not there yet.

    Args:
        whole: the configuration that was tried.
    """
    history = all_metrics(run)
    if not history:
        say(console, "smoke test: the same command shows what was measured, when its jobs have ended")
        return
    say(console, "\nwhat the smoke test measured, and what it means for the whole run", style="bold")
    for line in measured(history, whole):
        say(console, f"  {line}", hang=2)
    found = list(dict.fromkeys(warning for metrics in history for warning in warnings_of(metrics)))
    say(console, "  nothing to doubt was found" if not found else "  look at these before the whole run:")
    for warning in found:
        say(console, f"    {warning}", hang=2)


def measured(history: list[dict[str, Any]], whole: RunConfig) -> Iterator[str]:
    """The lines: the teacher's yield and speed, what the student's encoding takes, answers of the student that were cut off.

    Args:
        history: metrics.json of each iteration of the smoke test.
    """
    made = history[0]["generate"]
    if made["rows"]:
        yield from _teacher(made, whole)
    taught = [(item.get("train") or {}, item["distilled"]) for item in history if item.get("train")]
    for train, kept in taught[:1]:
        number, given = rows_encoded(train, kept)
        text = f"student's encoding: takes {percent(number, given)} of the kept rationales: {learned(train, kept)}"
        if number < given:
            text += f"; train.max_length is {whole.train.max_length}"
        yield text
    answered = list((history[-1]["sets"] or history[-1].get("baseline") or {}).values())
    if total := sum(item["answers"] for item in answered):
        cut = sum(item["truncated"] for item in answered)
        limit = whole.evaluate.sampling.max_new_tokens
        yield f"student: {percent(cut, total)} of {total:,} answers cut off at evaluate.sampling.max_new_tokens ({limit:,})"


def _teacher(made: Mapping[str, Any], whole: RunConfig) -> Iterator[str]:
    rows, problems, solved = made["rows"], made["problems"], made["solved"]
    low, high = wilson(made["correct"], rows)
    yield (
        f"teacher: {percent(made['correct'], rows)} of {counted(rows, 'attempt')} right (95 % interval {100 * low:.0f} to {100 * high:.0f} %), "
        f"at least one for {solved:,} of {counted(problems, 'problem')}"
    )
    low, high = wilson(made["truncated"], rows)
    limit = whole.generate.sampling.max_new_tokens
    yield (
        f"teacher: {percent(made['truncated'], rows)} cut off at generate.sampling.max_new_tokens ({limit:,}; interval {100 * low:.0f} to "
        f"{100 * high:.0f} %); such attempts are paid in full"
    )
    size, known = _training_problems(whole)
    of = f"the run's {size:,} training problems" if known else f"each {size:,} training problems"
    yield f"of {of}, about {round(size * share(solved, problems)):,} would have a right rationale after iteration 0"
    if not made["seconds"] or not made["new_tokens"]:
        return
    speed = made["new_tokens"] / made["seconds"]
    seconds = size * share(made["completion_tokens"], problems) / speed
    yield (
        f"teacher: {speed:,.0f} tokens/s in a task of {counted(problems, 'problem')}; at that speed {of} take {format_duration(seconds)} of one "
        "task in iteration 0. Larger batches are faster; more attempts than the smoke test's take longer"
    )


def _training_problems(whole: RunConfig) -> tuple[int, bool]:
    """How many problems the teacher is asked in iteration 0, as far as the configuration tells; else 1,000 and False."""
    total = whole.data.train.sample
    if total is None:
        return 1000, False
    held = (whole.data.validation, whole.data.diagnosis)
    return max(1, total - sum(round(total * part) if part < 1 else int(part) for part in held)), True
