"""The report's figures as files: numbers as CSV, charts as SVG that stand alone (a browser or inkscape makes a PNG or PDF of them)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from undo_hpc.observe.report import charts
from undo_hpc.observe.report.collect import ReportData
from undo_hpc.records import SPLITS
from undo_hpc.system.wording import printable

_FORMULA = re.compile(r"\s*(?:[=@]|[+-](?![\d.,]*$))")
_STYLE = Path(__file__).resolve().parent / "style.css"


def figures(data: ReportData) -> Iterator[tuple[str, str]]:
    """(name of the file, its text) of all figures that there are."""
    yield "accuracy.csv", _csv(
        ("set", "iteration", "n", "answers", "correct", "accuracy", "low", "high", "truncated", "unanswered", "mean_tokens"),
        ((s.name, p.iteration, p.n, p.answers, p.correct, p.accuracy, p.low, p.high, p.truncated, p.unanswered, p.mean_tokens)
         for s in data.series for p in s.points),
    )  # fmt: skip
    yield (
        "changes.csv",
        _csv(
            ("set", "before", "after", "fixed", "broken", "still_wrong", "still_right", "p"),
            ((f.name, f.before, f.after, f.fixed, f.broken, f.wrong, f.right, f.p) for f in data.flips),
        ),
    )
    yield (
        "loss.csv",
        _csv(
            ("iteration", "step", "loss"),
            ((k, *point) for k, points in data.losses.items() for point in points),
        ),
    )
    yield (
        "lengths.csv",
        _csv(
            ("iteration", "p10", "p25", "p50", "p75", "p90"), ((k, *v) for k, v in data.lengths.items() if v)
        ),
    )
    if rows := list(category_rows(data)):
        yield (
            "categories.csv",
            _csv(
                ("set", "column", "value", "iteration", "n", "answers", "correct", "accuracy", "low", "high"),
                rows,
            ),
        )
    low = min((p.low for s in data.series for p in s.points), default=0)
    high = max((p.high for s in data.series for p in s.points), default=1)
    for s in data.series:
        chart = charts.accuracy_chart(
            s.title, s.points, low=low, high=high, best=data.best, chooses=s.name == "validation"
        )
        # the name stands in the run's metrics, whoever wrote them: no path that leads elsewhere
        yield f"accuracy-{s.name.replace('/', '_')}.svg", _alone(chart)
    for name, chart in (
        ("loss", charts.loss_chart(data.losses, data.best)),
        ("lengths", charts.length_chart(data.lengths, data.best)),
    ):
        if chart:
            yield f"{name}.svg", _alone(chart)


def category_rows(data: ReportData) -> Iterator[tuple[Any, ...]]:
    """A row for each set, metadata column, value and iteration."""
    for item in data.metrics:
        for name, columns in item.get("categories", {}).items():
            for column, values in columns.items():
                for value, made in values.items():
                    yield (
                        name,
                        column,
                        value,
                        item["iteration"],
                        *(made[k] for k in ("n", "answers", "correct", "accuracy", "low", "high")),
                    )


def category_tables(data: ReportData) -> list[dict[str, Any]]:
    """A table for each set and metadata column: accuracies of each value by iteration. Training problems, which are learned, come last."""
    found: dict[tuple[str, str], dict[str, dict[int, dict[str, Any]]]] = {}
    for item in data.metrics:
        for name, columns in item.get("categories", {}).items():
            for column, values in columns.items():
                for value, made in values.items():
                    found.setdefault((name, column), {}).setdefault(value, {})[int(item["iteration"])] = made
    order = sorted(found, key=lambda key: (key[0] in SPLITS, key))
    iterations = [int(item["iteration"]) for item in data.metrics]
    return [
        {"set": data.title(name), "column": column, "iterations": iterations,
         "rows": [(value, max(m["n"] for m in by.values()), [by.get(k) for k in iterations]) for value, by in found[name, column].items()]}
        for name, column in order
    ]  # fmt: skip


def _csv(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue()


def _cell(text: str) -> str:
    """A text of the data, which is neither acted on by a terminal nor taken for a formula by a spreadsheet."""
    return f"'{printable(text)}" if _FORMULA.match(text) else printable(text)


def _alone(chart: str) -> str:
    """A chart of the page with the styles that it needs, in the light colours."""
    style = _STYLE.read_text(encoding="utf-8")
    root = style[style.index(":root") : style.index("@media")]
    rules = style[style.index(".grid {") : style.index(".rows {")]
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', chart)
    assert size is not None, "every chart has a size"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * int(size[1])}" height="{2 * int(size[2])}"'
    styles = f"<style>{root}{rules}svg {{ background: var(--card); }}</style>"
    return re.sub(r"^<svg([^>]*)>", lambda found: f"{head}{found[1]}>{styles}", chart, count=1) + "\n"
