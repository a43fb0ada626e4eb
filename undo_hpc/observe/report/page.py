"""PURE: the report as one HTML page. Whatever a model wrote is escaped; the page loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.control.spent import energy
from undo_hpc.observe.report import charts, words
from undo_hpc.observe.report.browser import KIND_NAMES, browser
from undo_hpc.observe.report.collect import KINDS, UNTRAINED, Flips, ReportData, Series
from undo_hpc.observe.report.examples import choose
from undo_hpc.observe.report.parts import legend, row, section, table
from undo_hpc.pipeline.plan import effective_iterations
from undo_hpc.records import SPLITS
from undo_hpc.system.wording import format_duration

_HERE = Path(__file__).resolve().parent
SHORT = {"hours": "h", "minutes": "min", "seconds": "s"}


def page(data: ReportData, written: str) -> str:
    """The whole page.

    Args:
        written: when it was written, in words.
    """
    config = data.run.config
    examples = choose(data.feedback, config.display.report_examples)
    sections = [_head(data)]
    if data.metrics:
        sections += [
            _accuracy(data),
            _changes(data),
            _learning(data),
            _errors(data),
            _cost(data),
            browser(examples),
        ]
        sections.append(_figures(data))
    sections.append(_about(data))
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in data.notes)
    style, script = (_HERE / "style.css").read_text(), (_HERE / "script.js").read_text()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
        f'<title>{escape(config.name)} · UNDO report</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n'
        + "\n".join(part for part in (sections[0], notes, *sections[1:]) if part)
        + f"\n<footer>Written {escape(written)} by undo-hpc {__version__}. This page needs no network.</footer>\n"
        + f"</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(data: ReportData) -> str:
    config = data.run.config
    most = effective_iterations(config)
    facts = [
        ("teacher", config.teacher.model),
        ("student", config.student.model),
        ("condition", config.method.condition.replace("_", " ")),
        ("seed", str(config.seed)),
        ("iterations", f"{len(data.metrics)} of at most {most}" if len(data.metrics) < most else str(most)),
    ]
    facts_shown = "".join(
        f"<span>{escape(name)} <b>{escape(value)}</b></span>" for name, value in facts if value
    )
    extra = "".join(
        f'<p class="caution">{escape(text)}</p>' for text in (words.end(data), words.caution(data)) if text
    )
    extra += _notes(*words.notes(data))
    return (
        f'<header>\n<p class="over">UNDO iterative distillation</p>\n<h1>{escape(config.name)}</h1>\n'
        f'<p class="lead-in">{escape(words.verdict(data)).replace("p = ", "p&nbsp;=&nbsp;")}</p>\n{extra}\n'
        f'<div class="facts">{facts_shown}</div>\n{_tiles(data)}</header>'
    )


def _notes(shown: list[str], others: list[str]) -> str:
    """One box, however many there are; those of iterations that matter less are folded away."""
    folded = "".join(f"<p>{escape(text)}</p>" for text in others)
    folded = (
        f"<details><summary>{len(others)} more of other iterations</summary>{folded}</details>"
        if others
        else ""
    )
    body = "".join(f"<p>{escape(text)}</p>" for text in shown) + folded
    return f'<div class="note">{body}</div>' if body else ""


def _tile(what: str, figure: str, unit: str, side: str) -> str:
    small = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="figure">{escape(figure)}{small}</div>'
        f'<div class="side">{escape(side)}</div></div>'
    )


def _tiles(data: ReportData) -> str:
    if not data.metrics or data.best is None:
        return ""
    tiles = []
    series = data.one("validation")
    if series:
        chosen = next(p for p in series.points if p.iteration == data.best)
        between = f"95 % interval {100 * chosen.low:.1f} to {100 * chosen.high:.1f}"
        tiles.append(
            _tile(f"Validation, iteration {data.best}", f"{100 * chosen.accuracy:.1f}", "%", between)
        )
        first = series.points[0]
        if first.iteration != data.best:
            name = "untrained" if first.iteration == UNTRAINED else "one-shot"
            tiles.append(
                _tile(
                    f"Gain over {name}",
                    words.points(chosen.accuracy - first.accuracy),
                    "points",
                    f"{100 * first.accuracy:.1f} % before",
                )
            )
    made = [m["generate"] for m in data.metrics]
    rows, right = sum(int(m.get("rows", 0)) for m in made), sum(int(m.get("correct", 0)) for m in made)
    if rows:
        tiles.append(
            _tile("Rationales right", f"{100 * right / rows:.0f}", "%", f"{right:,} of {rows:,} attempts")
        )
    tiles.append(
        _tile(
            "Distilled set",
            f"{int(data.metrics[data.best]['distilled'].get('rows', 0)):,}",
            "rows",
            f"of iteration {data.best}",
        )
    )
    hours = data.cost.of()
    if hours.total:
        wasted = f"{100 * hours.lost / hours.total:.0f} % lost, {100 * hours.idle / hours.total:.0f} % idle"
        figure, unit = _hours(hours.total)
        tiles.append(_tile("Cost so far", figure, f"{data.cost.device}-{unit}", wasted))
    return f'<div class="tiles">{"".join(tiles)}</div>\n'


def _hours(value: float) -> tuple[str, str]:
    """Hours, or minutes and seconds where they are few, with the unit."""
    if value >= 1:
        return f"{value:,.1f}", "hours"
    return (f"{60 * value:.1f}", "minutes") if value * 60 >= 1 else (f"{3600 * value:.0f}", "seconds")


def _accuracy(data: ReportData) -> str:
    shown = [s for s in data.series if s.name != "train"] or data.series
    if not shown:  # nobody was asked anything
        return ""
    low = min(p.low for s in shown for p in s.points)
    high = max(p.high for s in shown for p in s.points)
    cards = []
    for series in shown:
        n = series.points[-1].n
        tag = '<span class="tag">chooses the iteration</span>' if series.name == "validation" else ""
        kind = _kind(series.name, data)
        chart = charts.accuracy_chart(
            series.title, series.points, low=low, high=high, best=data.best, chooses=bool(tag)
        )
        cards.append(
            f'<div class="card"><h3>{escape(series.title)} <span>{kind}, n = {n:,}</span>{tag}</h3>{chart}</div>'
        )
    chosen = "the iteration that validation chose" if data.one("validation") else "the last iteration"
    intro = (
        f"Share of problems that the student answers rightly, in per cent, with 95 % Wilson intervals. The shaded column is {chosen}; "
        "the hollow dot is the untrained student."
    )
    kind = "cards even" if len(cards) in (2, 4) else "cards"
    return section("accuracy", "Accuracy", intro, f'<div class="{kind}">{"".join(cards)}</div>')


def _kind(name: str, data: ReportData) -> str:
    """What a set is to the student, in two words."""
    if name not in SPLITS:
        return "test set"
    if name == "diagnosis" and len(data.metrics) > 1 and data.run.config.method.errors_from != "train":
        return "learned from, after iteration 0"  # its failed problems become training material
    return "held out"


def _changes(data: ReportData) -> str:
    if not data.flips:
        return ""
    titles = {s.name: s.title for s in data.series}
    order = list(titles)

    def share(count: int, flips: Flips) -> float:
        return count / max(1, flips.fixed + flips.broken + flips.wrong + flips.right)

    most = max(max(share(f.fixed, f), share(f.broken, f)) for f in data.flips) or 1.0
    rows, last = [], None
    for flips in sorted(
        data.flips, key=lambda f: (f.after, order.index(f.name) if f.name in order else len(order))
    ):
        pair = flips.before, flips.after
        first = pair != last
        last = pair
        height = sum((f.before, f.after) == pair for f in data.flips)
        move = (
            f'<td rowspan="{height}" class="who">{charts.student_name(flips.before)} → {flips.after}</td>'
            if first
            else ""
        )
        net = flips.fixed - flips.broken
        sign = "plus" if net > 0 else "minus" if net < 0 else ""
        widths = [100 * share(count, flips) / most for count in (flips.broken, flips.fixed)]
        swing = f'<div class="swing" aria-hidden="true"><b class="b" style="width:{widths[0]:.1f}%"></b><b class="f" style="width:{widths[1]:.1f}%"></b></div>'
        rows.append(
            f"<tr{' class=first' if first else ''}>{move}<td>{escape(titles.get(flips.name, flips.name))}</td>"
            f'<td class="num">{flips.broken}</td><td class="swings">{swing}</td><td class="num left">{flips.fixed}</td>'
            f'<td class="num {sign}">{f"+{net}" if net > 0 else str(net).replace("-", "−")}</td>'
            f'<td class="num">{flips.wrong}</td><td class="num">{flips.right}</td>'
            f'<td class="num">{words.p_value(flips.p).removeprefix("p = ").removeprefix("p ")}</td></tr>'
        )
    intro = (
        "The same problems, before and after: fixed (wrong, then right), broken (right, then wrong), still wrong, still right. The p-value is "
        "McNemar’s exact test of fixed against broken, not corrected for the number of rows; bars are shares of the problems."
    )
    head = '<th>students</th><th>problems</th><th class="num">broken</th><th></th><th class="num left">fixed</th><th class="num">net</th>'
    head += '<th class="num">still wrong</th><th class="num">still right</th><th class="num">p</th>'
    return section("changes", "What each student gained and lost", intro, table(head, rows, "grouped"))


def _learning(data: ReportData) -> str:
    cards = []
    loss = charts.loss_chart(data.losses, data.best)
    if loss:
        cards.append(
            f'<div class="card"><h3>Training loss <span>nats a token of the answers, by step, a line an iteration</span></h3>{loss}</div>'
        )
    length = charts.length_chart(data.lengths, data.best)
    if length:
        cards.append(
            f'<div class="card"><h3>Length of rationales <span>teacher’s tokens: median, middle 50 % and 80 %</span></h3>{length}</div>'
        )
    rows = []
    for item in data.metrics:
        made = item["generate"]
        total, right, cut = (
            int(made.get("rows", 0)),
            int(made.get("correct", 0)),
            int(made.get("truncated", 0)),
        )
        cut = min(cut, total - right)
        parts = [
            ("kept", right, f"{right} right"),
            ("cut", cut, f"{cut} cut off"),
            ("unkept", total - right - cut, f"{total - right - cut} wrong"),
        ]
        share = f"{100 * right / total:.0f} %" if total else ""
        rows.append(
            row(
                item["iteration"],
                charts.bar([(k, v, w) for k, v, w in parts], total, label_from=20),
                share,
                data.best,
            )
        )
    colours = legend(
        [("kept", "right"), ("cut", "cut off by the token limit"), ("unkept", "wrong, or no answer")]
    )
    head = "<h3>Yield of the teacher <span>attempts by iteration; share that is right</span></h3>"
    cards.append(f'<div class="card">{head}<div class="rows">{"".join(rows)}</div>{colours}</div>')
    intro = "What the teacher wrote, and how the student took it. Longer rationales alone can raise accuracy, so look at both."
    return section("learning", "Teaching and learning", intro, f'<div class="cards">{"".join(cards)}</div>')


def _errors(data: ReportData) -> str:
    totals: list[tuple[dict[str, Any], dict[str, int], int]] = []
    for item in data.metrics:
        counts = {kind: sum(split.get(kind, 0) for split in item["errors"].values()) for kind in KINDS}
        examined = sum(item["sets"].get(split, {}).get("n", 0) for split in SPLITS)
        totals.append((item, counts, examined))
    most = max((sum(counts.values()) for _, counts, _ in totals), default=0)
    if not most:
        return ""
    rows = []
    for item, counts, examined in totals:
        parts = [(kind, float(counts[kind]), f"{KIND_NAMES[kind]}: {counts[kind]}") for kind in KINDS]
        wrong = sum(counts.values())
        rows.append(row(item["iteration"], charts.bar(parts, most), f"{wrong} of {examined}", data.best))
    used = [kind for kind in KINDS if any(counts[kind] for _, counts, _ in totals)]
    intro = (
        "Wrong answers on the training, diagnosis and validation problems by the first thing that is wrong in them; this is what the teacher "
        "answers to in the next iteration."
    )
    body = f'<div class="card wide"><div class="rows">{"".join(rows)}</div>{legend([(k, KIND_NAMES[k]) for k in used])}</div>'
    return section("errors", "How the student fails", intro, body)


def _cost(data: ReportData) -> str:
    cost = data.cost
    if not cost.of().total:
        return ""
    stages: dict[str, list[float]] = {}
    for item in cost.stages:
        hours = item.gpu if cost.device == "GPU" else item.cpu
        found = stages.setdefault(item.stage, [0.0, 0.0, 0.0])
        for k, value in enumerate((hours.useful, hours.lost, hours.idle)):
            found[k] += value
    most = max(sum(v) for v in stages.values()) or 1.0
    rows = []
    for stage, (useful, lost, idle) in stages.items():
        parts = [
            ("useful", useful, f"useful {useful:.3f} h"),
            ("lost", lost, f"lost {lost:.3f} h"),
            ("idle", idle, f"idle {idle:.3f} h"),
        ]
        figure, unit = _hours(useful + lost + idle)
        bar = charts.bar(parts, most, label_from=101)
        rows.append(
            f'<div class="row"><span class="name">{stage}</span>{bar}<span class="sum">{figure} {SHORT[unit]}</span></div>'
        )
    per = [f"iteration {k}: {v:.3g} s" for k, v in cost.per_rationale_s.items() if v is not None]
    entries = [("Each rationale kept", f"{'; '.join(per)} of {cost.device} time")] if per else []
    if cost.per_point_h is not None:
        figure, unit = _hours(cost.per_point_h)
        entries.append(("Each point of validation gained", f"{figure} {cost.device}-{unit}"))
    entries.append(
        (
            "Energy",
            f"{energy(cost.kwh)}, {'measured' if cost.kwh_measured else 'estimated from nominal power (no counter is readable)'}",
        )
    )
    restarts = sum(item.restarts for item in cost.stages)
    entries.append(
        (
            "Starts of tasks",
            f"{sum(item.starts for item in cost.stages):,}, of which {restarts:,} again after a stop",
        )
    )
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries)
    colours = legend(
        [
            ("useful", "useful"),
            ("lost", "lost to preemption or failure"),
            ("idle", "idle: loading and warm-up"),
        ]
    )
    body = (
        f'<div class="cards even"><div class="card wide"><div class="rows">{"".join(rows)}</div>{colours}</div>'
        f'<div class="card wide"><dl>{facts}</dl></div></div>'
    )
    return section(
        "cost",
        "What it cost",
        f"{cost.device}-hours by stage over all iterations, from the run’s own events.",
        body,
    )


def _figures(data: ReportData) -> str:
    if not data.series:
        return ""
    head = "".join(f'<th class="num">{escape(s.title)}<br>n = {s.points[-1].n:,}</th>' for s in data.series)
    students = list(dict.fromkeys(p.iteration for s in data.series for p in s.points))
    rows = []
    for student in sorted(students):
        cells = "".join(_cell(series, student) for series in data.series)
        name = charts.student_name(student) if student == UNTRAINED else f"iteration {student}"
        rows.append(f"<tr{' class=pick' if student == data.best else ''}><td>{name}</td>{cells}</tr>")
    intro = (
        "Accuracy in per cent with its 95 % interval; below it the share of answers cut off by the token limit, and without any answer, and the mean "
        "length in tokens."
    )
    return section("figures", "All figures", intro, table(f"<th>student</th>{head}", rows))


def _cell(series: Series, student: int) -> str:
    point = next((p for p in series.points if p.iteration == student), None)
    if point is None:
        return '<td class="num"></td>'
    return (
        f'<td class="num">{100 * point.accuracy:.1f} <small>[{100 * point.low:.1f}, {100 * point.high:.1f}]</small><br>'
        f"<small>{100 * point.truncated:.0f} % cut, {100 * point.unanswered:.0f} % none, {point.mean_tokens:.0f} tok</small></td>"
    )


def _about(data: ReportData) -> str:
    environment = data.run.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    rows = [
        (
            "Run",
            f"{data.run.layout.root.name} ({environment.get('run_id', '')}), created {environment.get('created', '')}",
        ),
        ("Command", " ".join(environment.get("command", []))),
        ("Code", f"undo-hpc {environment.get('undo_hpc', '')} {environment.get('git', '')[:12]}"),
        ("Versions", versions),
    ]
    if data.metrics:
        seconds = sum(float(m["generate"].get("seconds", 0)) for m in data.metrics)
        tokens = sum(float(m["generate"].get("new_tokens", 0)) for m in data.metrics)
        rows.append(("Generation", f"{tokens:,.0f} tokens in {format_duration(seconds)} of task time"))
    licences = ", ".join(
        sorted(
            {
                f"{b.get('title', name)}: {b.get('licence')}"
                for name, b in data.benchmarks.items()
                if b.get("licence")
            }
        )
    )
    rows += [("Licences", licences)] if licences else []
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value.strip()
    )
    return f'<section aria-labelledby="about"><h2 id="about">About this run</h2><div class="card wide" style="margin-top:14px"><dl>{facts}</dl></div></section>'
