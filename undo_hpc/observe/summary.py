"""The table at the end of a run: accuracy by iteration and set, the decisions, where things lie, what to try next."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from undo_hpc.control.finished import all_metrics
from undo_hpc.control.prune import usage
from undo_hpc.control.spent import measure
from undo_hpc.method.metrics import rows_learned
from undo_hpc.models.resolve import public_name
from undo_hpc.observe.after import report_is_old
from undo_hpc.observe.outcome import outcome, warnings_of
from undo_hpc.observe.whole import look_at_whole
from undo_hpc.observe.wording import NONE_BEATS_UNTRAINED, accuracy, chosen_word, evaluation_settings
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.records import SPLITS
from undo_hpc.system.invocation import cli_hint, display_path
from undo_hpc.system.wording import counted, format_duration, percentage, three_digits


def cell(summary: dict[str, Any] | None) -> str:
    """An accuracy with its interval: in whole per cent, for the table is wide, unless these leave the accuracy outside."""
    if not summary:
        return ""
    value, low, high = (100 * summary[key] for key in ("accuracy", "low", "high"))
    digits = 0 if round(low) <= value <= round(high) else 1
    return f"{percentage(summary['accuracy'], 1)}\n{low:.{digits}f}-{high:.{digits}f}"


def accuracy_table(metrics: list[dict[str, Any]]) -> Table:
    """Rows: the untrained student, then the iterations. Columns: validation and benchmarks, each with n."""
    last = metrics[-1]["sets"]
    benchmarks = [name for name in last if name not in SPLITS]
    columns = [*(n for n in ("validation", "diagnosis") if n in last), *benchmarks]
    chosen = (
        "no validation has chosen any" if chosen_word(metrics) == "last" else "best: chosen on validation"
    )
    table = Table(
        title=f"Accuracy in % and its 95 % interval; {chosen}", title_justify="left", show_lines=True
    )
    table.add_column("iteration")
    everyone = [metrics[0].get("baseline") or {}, *(item["sets"] for item in metrics)]
    for name in columns:
        sizes = sorted({sets[name]["n"] for sets in everyone if name in sets})
        table.add_column(
            f"{name}\nn = {' to '.join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))}", justify="right"
        )
    table.add_column("attempts\nright", justify="right")
    table.add_column("rows\nlearned", justify="right")
    table.add_column("cut off\nanswers", justify="right")
    best, mark = metrics[-1]["decision"]["best_iteration"], chosen_word(metrics)
    if mark == "chosen":
        table.caption, table.caption_justify = NONE_BEATS_UNTRAINED, "left"
    if metrics[0].get("baseline"):
        sets = metrics[0]["baseline"]
        table.add_row("untrained", *(cell(sets.get(n)) for n in columns), "", "", _truncated(sets, columns))
    for item in metrics:
        number, made = item["iteration"], item["generate"]
        label = f"{number}\n{mark}" if number == best else f"{number}"
        yielded, rows = (
            f"{made['correct']}/{made['rows']}",
            rows_learned(item.get("train", {}), item["distilled"]),
        )
        table.add_row(
            label,
            *(cell(item["sets"].get(n)) for n in columns),
            yielded,
            f"{rows[0]}" if rows[0] == rows[1] else f"{rows[0]}/{rows[1]}",
            _truncated(item["sets"], columns),
        )
    return table


def _truncated(sets: dict[str, Any], columns: list[str]) -> str:
    return str(sum(sets[name]["truncated"] for name in columns if name in sets))


def show_outcome(run: Run, iteration: int, console: Console) -> None:
    """Prints what an iteration that has just ended has brought, and what a person should look at."""
    if not run.layout.iteration(iteration).metrics.exists():
        return
    metrics = read_metrics(run, iteration)
    for line in [outcome(metrics), *(f"  warning: {warning}" for warning in warnings_of(metrics))]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_part(run: Run, metrics: dict[str, Any], console: Console) -> None:
    """Prints what an iteration that was cut (`until`) has made: a model's accuracies, or rationales."""
    if metrics["baseline"]:
        model = public_name(run.config.student.model)
        table = Table(title=f"{model}: accuracy in % and its 95 % interval", title_justify="left")
        table.add_column("set")
        for heading in ("n", "accuracy", "cut off", "no answer"):
            table.add_column(heading, justify="right")
        for name, item in metrics["baseline"].items():
            figure = accuracy(item).replace(" %", "")
            table.add_row(name, f"{item['n']:,}", figure, f"{item['truncated']:,}", f"{item['no_answer']:,}")
        console.print(table)
    kept = metrics["distilled"]
    if kept["rows"]:
        left = ", ".join(
            f"{number:,} {reason.replace('_', ' ')}" for reason, number in kept["dropped"].items()
        )
        text = f"{counted(kept['rows'], 'rationale')} kept, of {kept['attempts']:,} for {counted(kept['problems'], 'problem')}"
        text += f" (left out: {left})" if left else ""
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def show_summary(run: Run, console: Console) -> None:
    """Prints what a finished (or stopped) run has achieved."""
    metrics = all_metrics(run)
    if not metrics:
        return
    root = run.layout.root
    whole = [item for item in metrics if not item.get("until")]
    if whole:
        console.print(accuracy_table(whole))
    if len(whole) < len(metrics):
        show_part(run, metrics[-1], console)
    for item in whole:
        decision = item["decision"]
        text = f"iteration {item['iteration']}: {'continues' if decision['action'] == 'continue' else decision['action']}: {decision['why']}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if whole or metrics[-1]["baseline"]:
        console.print(
            f"evaluation: {evaluation_settings(run.config)}", highlight=False, markup=False, soft_wrap=True
        )
    cost = measure(run)
    spent = format_duration(look_at_whole(run, metrics[-1]["iteration"]).spent_s)
    used = f"{three_digits(cost.of().total)} {cost.device}-hours (details: {cli_hint(f'cost {display_path(root)}')})"
    console.print(f"{spent} since the start, {used}", highlight=False, markup=False, soft_wrap=True)
    best = metrics[-1]["decision"]["best_iteration"]
    at = run.layout.iteration(best)
    places = [
        (f"{chosen_word(metrics)} student" if whole else "student", at.student),
        ("its distilled set" if at.student.exists() else "distilled set", at.distilled),
        ("its errors", at.feedback),
        ("report", run.layout.report_page),
        ("all of the run", root),
    ]
    if old := report_is_old(run):
        console.print(f"note: {old}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if any(item.pruned and item.iteration == best for item in usage(run)):
        places[0] = ("student (pruned)", at.student)
    for what, path in places:
        if path.exists():  # never wrapped: it is there to be copied
            console.print(f"{what:<19}{path}", highlight=False, markup=False, soft_wrap=True)
