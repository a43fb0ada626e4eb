"""PURE: the charts of a campaign as inline SVG, in the manner of `observe.report.charts`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from undo_hpc.campaign.comparison import Comparison
from undo_hpc.observe.report.charts import plain, student_name, ticks
from undo_hpc.system.wording import escaped, points

WIDTH, ROW, TOP, BOTTOM = 640, 34, 10, 34
NAMES = 200  # of the width, for the names of pairs
MOST_CHARS = 28  # of a name that fits there; pages name it whole in the tip and the tables


def shortened(name: str, most: int = MOST_CHARS) -> str:
    """A name without its middle where it is long: names of arms differ at their ends."""
    return name if len(name) <= most else f"{name[: most // 2]}\u2026{name[1 - most + most // 2 :]}"


def forest(comparisons: Sequence[Comparison]) -> str:
    """Differences in points with 95 % intervals, a row a pair, and a line at no difference."""
    if not comparisons:
        return ""
    low = min(0.0, *(c.difference.low for c in comparisons))
    high = max(0.0, *(c.difference.high for c in comparisons))
    marks = ticks(100 * low, 100 * high, 5)
    span = (marks[-1] - marks[0]) or 1
    height = TOP + ROW * len(comparisons) + BOTTOM

    def x(share: float) -> float:
        return NAMES + (100 * share - marks[0]) / span * (WIDTH - NAMES - 20)

    parts = []
    for value in marks:
        kind = "grid" if value else "whisker"
        parts.append(
            f'<line class="{kind}" x1="{x(value / 100):.1f}" x2="{x(value / 100):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x(value / 100):.1f}" y="{height - 12}" text-anchor="middle">{plain(value)}</text>'
        )
    for number, c in enumerate(comparisons):
        d, y = c.difference, TOP + ROW * (number + 0.5)
        shown = c.claimed
        name = f"{c.a} \u2212 {c.b}"
        lines = [name] if len(name) <= MOST_CHARS else [f"{shortened(c.a)} \u2212", shortened(c.b)]
        tip = f"{name}: {points(d.mean)} points, 95 % interval {points(d.low)} to {points(d.high)}, p = {c.p:.3g}"
        parts.append(f'<g class="mark"><title>{escaped(tip)}</title>')
        parts += [
            f'<text class="tick{" strong" if shown else ""}" x="{NAMES - 12}" y="{y + 4 + 14 * (k - (len(lines) - 1) / 2):.1f}" '
            f'text-anchor="end">{escaped(line)}</text>'
            for k, line in enumerate(lines)
        ]
        parts.append(
            f'<line class="whisker" x1="{x(d.low):.1f}" x2="{x(d.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<circle class="{"chosen" if shown else "dot"}" cx="{x(d.mean):.1f}" cy="{y:.1f}" r="5"/>'
        )
        parts.append(
            f'<text class="value{" strong" if shown else ""}" x="{x(d.mean):.1f}" y="{y - 9:.1f}" text-anchor="middle">{points(d.mean)}</text></g>'
        )
    description = "; ".join(f"{c.a} minus {c.b}: {points(c.difference.mean)} points" for c in comparisons)
    return _frame("Differences between arms in points", description, "".join(parts), height)


def curves(accuracies: Mapping[str, Sequence[Mapping[int, float]]]) -> str:
    """Mean accuracy of each arm by iteration, with the span of its seeds.

    Args:
        accuracies: arm -> for each seed, accuracy by iteration (-1 is the untrained student).
    """
    by_arm = {
        arm: {k: [run[k] for run in runs if k in run] for k in sorted({k for run in runs for k in run})}
        for arm, runs in accuracies.items()
        if runs
    }
    values = [v for curve in by_arm.values() for seeds in curve.values() for v in seeds]
    if not values:
        return ""
    iterations = sorted({k for curve in by_arm.values() for k in curve})
    marks = ticks(100 * min(values), 100 * max(values), 5)
    span, height = (marks[-1] - marks[0]) or 1, 320
    step = (WIDTH - 150 - 40) / max(1, len(iterations))

    def y(share: float) -> float:
        return height - 30 - (100 * share - marks[0]) / span * (height - 48)

    def x(iteration: int, place: float = 0.0) -> float:
        return 40 + step * (iterations.index(iteration) + 0.5) + place

    parts = [
        f'<line class="grid" x1="40" x2="{WIDTH - 150}" y1="{y(v / 100):.1f}" y2="{y(v / 100):.1f}"/>'
        f'<text class="tick" x="33" y="{y(v / 100) + 4:.1f}" text-anchor="end">{plain(v)}{" %" if v == marks[-1] else ""}</text>'
        for v in marks
    ]
    parts += [
        f'<text class="tick" x="{x(k):.1f}" y="{height - 10}" text-anchor="middle">{student_name(k)}</text>'
        for k in iterations
    ]
    ends: list[tuple[float, int, str]] = []
    for number, (arm, curve) in enumerate(by_arm.items()):
        place = (number - (len(by_arm) - 1) / 2) * min(8.0, step / (len(by_arm) + 1))
        means = {k: statistics.fmean(seeds) for k, seeds in curve.items()}
        line = " ".join(f"{x(k, place):.1f},{y(mean):.1f}" for k, mean in means.items())
        parts.append(f'<polyline class="curve c{number % 6}" points="{line}"/>')
        for k, seeds in curve.items():
            tip = f"{arm}, {student_name(k)}: mean {100 * means[k]:.1f} %, seeds {100 * min(seeds):.1f} to {100 * max(seeds):.1f}"
            parts.append(
                f'<g class="mark"><title>{escaped(tip)}</title><line class="whisker" x1="{x(k, place):.1f}" x2="{x(k, place):.1f}" '
                f'y1="{y(min(seeds)):.1f}" y2="{y(max(seeds)):.1f}"/><circle class="dot" cx="{x(k, place):.1f}" cy="{y(means[k]):.1f}" r="3"/></g>'
            )
        ends.append((y(means[max(means)]), number, arm))
    last = 0.0
    for height_at, number, arm in sorted(ends):
        last = max(height_at, last + 14)
        parts.append(
            f'<text class="end c{number % 6}" x="{WIDTH - 142}" y="{last + 4:.1f}">{escaped(shortened(arm, 20))}</text>'
        )
    return _frame("Accuracy of each arm by iteration", "means over seeds", "".join(parts), height)


def _frame(title: str, description: str, body: str, height: int) -> str:
    label = f"{escaped(title)}. {escaped(description)}"
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{body}</svg>'
