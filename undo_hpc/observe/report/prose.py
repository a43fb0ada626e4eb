"""PURE: what the report says in sentences; the page and the Markdown summary share it."""

from __future__ import annotations

from undo_hpc.method.metrics import UNTRAINED
from undo_hpc.observe.outcome import warnings_of
from undo_hpc.observe.report.collect import ReportData
from undo_hpc.observe.wording import NONE_BEATS_UNTRAINED, percent
from undo_hpc.system.invocation import cli_hint, display_path
from undo_hpc.system.wording import counted, points

NAMES = {UNTRAINED: "the untrained student", 0: "the one-shot iteration 0"}


def p_value(p: float) -> str:
    """A p-value as people write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def verdict(data: ReportData) -> str:
    """What the run found, in a sentence or two."""
    series = data.one("validation")
    best = data.best
    if series is None or best is None:
        return (
            f"No iteration is complete yet. What runs, waits or has failed: {cli_hint('status ' + display_path(data.run.layout.root))}"
            if not data.metrics
            else "There is no validation split, so no iteration was chosen."
        )
    at = {p.iteration: p for p in series.points}
    chosen = at[best]
    figure = f"{percent(chosen.correct, chosen.answers, 1)} [{100 * chosen.low:.1f}, {100 * chosen.high:.1f}]"
    text = f"Iteration {best} did best on validation: {figure}."
    if data.beats_untrained is False:
        none = NONE_BEATS_UNTRAINED.replace("no iteration", "No iteration")
        text = f"{none}: the most accurate, iteration {best}, has {figure}."
    parts = [
        f"{points(chosen.accuracy - at[other].accuracy)} points against {NAMES[other]} ({p_value(flips.p)})"
        for other, flips in sorted(data.against.items())
        if other in at and other in NAMES
    ]
    return f"{text} That is {' and '.join(parts)}." if parts else text


def caution(data: ReportData) -> str:
    """What the size of the validation split cannot show: for the paired test that gave the p-value, from the problems that differ."""
    series, flips = data.one("validation"), data.headline_flips
    if series is None or not series.points[-1].n:
        return ""
    text = f"Validation has {counted(series.points[-1].n, 'problem')}"
    if flips is not None:
        text += (
            f"; on {flips.fixed + flips.broken} of {flips.n} just one of iteration {flips.after} and {NAMES[flips.before]} is right. Where so many "
            "differ, "
        )
        text += (
            "no difference would be found in four cases of five"
            if flips.detectable >= 1
            else f"a difference of {100 * flips.detectable:.1f} points is the smallest that the paired test finds in four cases of five"
        )
    best_of = (
        " The best of several looks a little better there than it is, for it was chosen by these answers."
    )
    chose = "Validation alone chose the iteration; the test sets chose nothing."
    return f"{text}. {chose}{best_of if len(data.metrics) > 1 else ''}"


def right_means(data: ReportData) -> str:
    """When a problem counts as right, with a space before it; empty where each has one answer."""
    several = any(p.answers > p.n for s in data.series for p in s.points)
    return " A problem counts as right where more than half of its answers are." if several else ""


def notes(data: ReportData) -> tuple[list[str], list[str]]:
    """What a person should look at: in the chosen and the last iteration, and in the others."""
    last = len(data.metrics) - 1
    told = [
        (k in (data.best, last), f"Iteration {item['iteration']}: {remark}")
        for k, item in enumerate(data.metrics)
        for remark in warnings_of(item)
    ]
    return [text for now, text in told if now], [text for now, text in told if not now]


def end(data: ReportData) -> str:
    """Why the loop ended, or that it continues."""
    if not data.metrics:
        return ""
    decision = data.metrics[-1]["decision"]
    return (
        f"The loop continues: {decision['why']}."
        if decision["action"] == "continue"
        else f"The loop has ended: {decision['why']}."
    )
