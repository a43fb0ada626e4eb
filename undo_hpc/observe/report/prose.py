"""PURE: what the report says in sentences; the page and the Markdown summary share it."""

from __future__ import annotations

from undo_hpc.observe.outcome import warnings_of
from undo_hpc.observe.report.collect import UNTRAINED, ReportData
from undo_hpc.system.invocation import cli_hint, display_path

NAMES = {UNTRAINED: "the untrained student", 0: "the one-shot iteration 0"}


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


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
    text = f"Iteration {best} did best on validation: {percent(chosen.accuracy)} [{100 * chosen.low:.1f}, {100 * chosen.high:.1f}]."
    parts = [
        f"{points(chosen.accuracy - at[other].accuracy)} points against {NAMES[other]} ({p_value(flips.p)})"
        for other, flips in sorted(data.against.items())
        if other in at and other in NAMES
    ]
    return f"{text} That is {' and '.join(parts)}." if parts else text


def caution(data: ReportData) -> str:
    """What the size of the validation split cannot show."""
    least, series = data.detectable(), data.one("validation")
    if least is None or series is None:
        return ""
    n = series.points[-1].n
    bias = (
        " What was chosen as the best there is a little worse than it looks there."
        if len(data.metrics) > 1
        else ""
    )
    return (
        f"Validation has {n} problems: a difference of {100 * least:.1f} points is the smallest that two such evaluations can tell from chance in four "
        f"cases of five. Validation alone chose the iteration; the test sets chose nothing.{bias}"
    )


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
    """Why the loop ended, or that it goes on."""
    if not data.metrics:
        return ""
    decision = data.metrics[-1]["decision"]
    return (
        f"The loop goes on: {decision['why']}."
        if decision["action"] == "continue"
        else f"The loop has ended: {decision['why']}."
    )
