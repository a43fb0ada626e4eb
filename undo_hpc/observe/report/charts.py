"""PURE: charts as inline SVG. Colours come from the page's style sheet, so the same picture serves light, dark and print.

Every chart is drawn 400 units wide for a card of about that many pixels; it carries a title and a description for those who
cannot see it, and each mark tells its figure on hover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from undo_hpc.method.metrics import UNTRAINED
from undo_hpc.observe.report.collect import Point
from undo_hpc.system.wording import escaped, percentage

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 18, 30


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values that cover a range."""
    span = high - low or 1.0
    raw = span / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(step * k, 10) for k in range(first, last + 1)]


def student_name(iteration: int) -> str:
    """A student on an axis."""
    return "untrained" if iteration == UNTRAINED else str(iteration)


def plain(value: float) -> str:
    """A number on an axis."""
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _frame(title: str, description: str, body: str, height: int = HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(title)}. {escaped(description)}">'
        f"{body}</svg>"
    )


def _y_axis(values: Sequence[float], y_of: dict[float, float], unit: str = "") -> str:
    parts = []
    for value in values:
        y = y_of[value]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{plain(value)}{unit if value == values[-1] else ''}"
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return "".join(parts)


def _x_label(x: float, text: str, *, strong: bool = False) -> str:
    return f'<text class="tick{" strong" if strong else ""}" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>'


def accuracy_chart(
    title: str, points: Sequence[Point], *, low: float, high: float, best: int | None, chooses: bool
) -> str:
    """Accuracy in per cent over students, with 95 % intervals; the chosen iteration stands on a band.

    Args:
        low, high: range of the axis as shares, the same for all sets that stand side by side.
        chooses: whether this set chose the iteration.
    """
    marks = ticks(100 * low, 100 * high)
    span = (marks[-1] - marks[0]) or 1
    bottom = HEIGHT - BOTTOM

    def y(share: float) -> float:
        return bottom - (100 * share - marks[0]) / span * (bottom - TOP)

    step = (WIDTH - LEFT - RIGHT) / max(1, len(points))
    xs = {p.iteration: LEFT + step * (k + 0.5) for k, p in enumerate(points)}
    parts = []
    if best in xs:
        half = min(step / 2, 34)
        parts.append(
            f'<rect class="band" x="{xs[best] - half:.1f}" y="{TOP - 8}" width="{2 * half:.1f}" height="{bottom - TOP + 8}" rx="6"/>'
        )
    parts.append(_y_axis(marks, {v: y(v / 100) for v in marks}, " %"))
    trained = [p for p in points if p.iteration != UNTRAINED]
    line = " ".join(f"{xs[p.iteration]:.1f},{y(p.accuracy):.1f}" for p in trained)
    if len(points) > len(trained) and trained:
        a, b = points[0], trained[0]
        parts.append(
            f'<line class="lead" x1="{xs[a.iteration]:.1f}" y1="{y(a.accuracy):.1f}" x2="{xs[b.iteration]:.1f}" y2="{y(b.accuracy):.1f}"/>'
        )
    parts.append(f'<polyline class="line" points="{line}"/>')
    for p in points:
        x = xs[p.iteration]
        tip = f"{student_name(p.iteration)}: {percentage(p.accuracy, 1)} % [{100 * p.low:.1f}, {100 * p.high:.1f}], n = {p.n}"
        kind = "hollow" if p.iteration == UNTRAINED else "chosen" if p.iteration == best else "dot"
        parts.append(f'<g class="mark"><title>{escaped(tip)}</title>')
        parts.append(
            f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}"/>'
        )
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y(p.accuracy):.1f}" r="{5 if kind == "chosen" else 4}"/></g>'
        )
        right = x + 9 + 30 < WIDTH and p.iteration != UNTRAINED  # the dashed line leaves to the right
        if p.iteration in (best, points[0].iteration, points[-1].iteration):
            anchor, at = ("start", x + 8) if right else ("end", x - 8)
            weight = " strong" if p.iteration == best else ""
            parts.append(
                f'<text class="value{weight}" x="{at:.1f}" y="{y(p.accuracy) - 6:.1f}" text-anchor="{anchor}">{escaped(percentage(p.accuracy, 1))}</text>'
            )
        parts.append(_x_label(x, student_name(p.iteration), strong=p.iteration == best))
    description = "; ".join(
        f"{student_name(p.iteration)} {percentage(p.accuracy, 1)} per cent" for p in points
    )
    return _frame(
        f"{title}: accuracy by iteration",
        description + ("; this set chose the iteration" if chooses else ""),
        "".join(parts),
    )


def loss_chart(losses: dict[int, list[tuple[float, float]]], best: int | None) -> str:
    """Training loss over steps, a line an iteration, named at its end."""
    curves = {k: v for k, v in losses.items() if v}
    if not curves:
        return ""
    steps = max(p[0] for v in curves.values() for p in v)
    values = sorted(p[1] for v in curves.values() for p in v)
    marks = ticks(
        min(values[0], 0.0) if values[0] < 0.5 * values[-1] else values[0],
        values[max(0, math.ceil(0.995 * len(values)) - 1)],
    )
    bottom, span = HEIGHT - BOTTOM, (marks[-1] - marks[0]) or 1
    right = WIDTH - RIGHT - 16

    def x(step: float) -> float:
        return LEFT + step / (steps or 1) * (right - LEFT)

    def y(loss: float) -> float:
        return max(TOP - 8.0, bottom - (loss - marks[0]) / span * (bottom - TOP))

    parts = [_y_axis(marks, {v: y(v) for v in marks})]
    axis = [s for s in ticks(0, steps, 4) if s <= steps]
    parts += [_x_label(x(s), plain(s)) for s in axis]
    ends: list[tuple[float, int]] = []
    for rank, (number, points) in enumerate(curves.items()):
        line = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in points)
        tip = f"<title>iteration {number}: last loss {points[-1][1]:.3f}</title>"
        parts.append(
            f'<polyline class="curve c{rank % 6}{" strong" if number == best else ""}" points="{line}">{tip}</polyline>'
        )
        if len(points) == 1:  # a line of one point cannot be seen
            parts.append(
                f'<circle class="curve c{rank % 6}" cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="2.5">{tip}</circle>'
            )
        ends.append((y(points[-1][1]), number))
    parts += _end_labels(sorted(ends), list(curves), lambda n: x(curves[n][-1][0]))
    description = "; ".join(
        f"iteration {k} ends at {v[-1][1]:.3f} after {v[-1][0]:.0f} steps" for k, v in curves.items()
    )
    return _frame("Training loss by step", description, "".join(parts))


def _end_labels(ends: list[tuple[float, int]], order: list[int], x_of) -> list[str]:  # type: ignore[no-untyped-def]
    """Names at the ends of curves, pushed apart where they would touch."""
    placed: list[tuple[float, int]] = []
    for y, number in ends:
        placed.append((max(y, placed[-1][0] + 13 if placed else y), number))
    over = placed[-1][0] - (HEIGHT - BOTTOM) if placed else 0
    shift = max(0.0, over)
    return [
        f'<text class="end c{order.index(n) % 6}" x="{x_of(n) + 6:.1f}" y="{y - shift + 4:.1f}">{n}</text>'
        for y, n in placed
    ]


def length_chart(lengths: dict[int, list[float]], best: int | None) -> str:
    """Lengths of rationales: median, middle half, and the middle 80 % of them, by iteration."""
    shown = {k: v for k, v in lengths.items() if v}
    if not shown:
        return ""
    marks = ticks(0, max(v[-1] for v in shown.values()))
    bottom, span = HEIGHT - BOTTOM, marks[-1] or 1

    def y(tokens: float) -> float:
        return bottom - tokens / span * (bottom - TOP)

    step = (WIDTH - LEFT - RIGHT) / len(shown)
    half = min(26.0, step * 0.3)
    parts = [_y_axis(marks, {v: y(v) for v in marks})]
    for k, (number, q) in enumerate(shown.items()):
        x = LEFT + step * (k + 0.5)
        tip = f"iteration {number}: median {q[2]:.0f} tokens, half lie in {q[1]:.0f} to {q[3]:.0f}, 80 % in {q[0]:.0f} to {q[4]:.0f}"
        parts.append(
            f'<g class="mark"><title>{tip}</title><line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{y(q[0]):.1f}" y2="{y(q[4]):.1f}"/>'
        )
        kind, height = "box chosen" if number == best else "box", max(1.0, y(q[1]) - y(q[3]))
        parts.append(
            f'<rect class="{kind}" x="{x - half:.1f}" y="{y(q[3]):.1f}" width="{2 * half:.1f}" height="{height:.1f}" rx="3"/>'
        )
        parts.append(
            f'<line class="median" x1="{x - half:.1f}" x2="{x + half:.1f}" y1="{y(q[2]):.1f}" y2="{y(q[2]):.1f}"/></g>'
        )
        parts.append(f'<text class="value" x="{x + half + 6:.1f}" y="{y(q[2]) + 4:.1f}">{q[2]:.0f}</text>')
        parts.append(_x_label(x, str(number), strong=number == best))
    description = "; ".join(f"iteration {k}: median {q[2]:.0f} tokens" for k, q in shown.items())
    return _frame("Length of rationales by iteration", description, "".join(parts))
