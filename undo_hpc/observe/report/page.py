"""PURE: the report as one HTML page, `page.html.jinja` filled. Whatever a model wrote is escaped; the page loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.config.describe import to_yaml
from undo_hpc.config.differences import differing_keys
from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.spent import energy
from undo_hpc.method.metrics import UNTRAINED, Flips, gain, rows_learned, share
from undo_hpc.observe.report import charts, prose
from undo_hpc.observe.report.browser import KIND_NAMES, browser
from undo_hpc.observe.report.collect import ReportData, Series
from undo_hpc.observe.report.figures import category_tables
from undo_hpc.observe.wording import evaluation_settings, learned, percent
from undo_hpc.records import SPLITS
from undo_hpc.system.templates import render
from undo_hpc.system.wording import percentage, points, three_digits

_HERE = Path(__file__).resolve().parent
SHORT = {"hours": "h", "minutes": "min", "seconds": "s"}


def page(data: ReportData, written: str, files: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        written: when it was written, in words.
        files: names of the figures beside it, in the folder `figures`.
    """
    config, most = data.run.config, effective_iterations(data.run.config)
    count = len(data.metrics)
    return render(
        _HERE / "page.html.jinja",
        data=data,
        config=config,
        prose=prose,
        percent=percent,
        percentage=percentage,
        student_name=charts.student_name,
        settings=[
            ("teacher", config.teacher.model),
            ("student", config.student.model),
            ("condition", config.method.condition.replace("_", " ")),
            ("seed", str(config.seed)),
            ("evaluation", evaluation_settings(config)),
            ("iterations", f"{count} of at most {most}" if count < most else str(most)),
        ],
        tiles=_tiles(data),
        accuracy=_accuracy(data),
        changes=_changes(data),
        loss=charts.loss_chart(data.losses, data.best),
        length=charts.length_chart(data.lengths, data.best),
        yields=_yields(data),
        evaluation=evaluation_settings(config),
        learned_facts=[
            (f"iteration {m['iteration']}", learned(m.get("train", {}), m["distilled"])) for m in data.metrics
        ],
        errors=_errors(data),
        cost=_cost(data),
        examples=browser(data.examples, data.asked),
        categories=category_tables(data),
        changed=_changed(config),
        files=files,
        about=_about(data),
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        script=(_HERE / "script.js").read_text(encoding="utf-8"),
        written=written,
        version=__version__,
    )


def _tiles(data: ReportData) -> list[tuple[str, str, str, str]]:
    """What, figure, unit and what stands below them."""
    if not data.metrics or data.best is None:
        return []
    tiles = []
    if series := data.one("validation"):
        chosen, first = series.at(data.best), series.points[0]
        assert chosen is not None, "the best iteration was evaluated"
        between = f"95 % interval {100 * chosen.low:.1f} to {100 * chosen.high:.1f}"
        figure = percent(chosen.correct, chosen.answers, 1).removesuffix(" %")
        tiles.append((f"Validation, iteration {data.best}", figure, "%", between))
        if first.iteration != data.best:
            name = "untrained" if first.iteration == UNTRAINED else "one-shot"
            more = gain(data.metrics)
            assert more is not None, "there is a validation split"
            before = f"{percent(first.correct, first.answers, 1)} before"
            tiles.append((f"Gain over {name}", points(more), "points", before))
    made = [m["generate"] for m in data.metrics]
    rows, right = sum(int(m.get("rows", 0)) for m in made), sum(int(m.get("correct", 0)) for m in made)
    if rows:
        tiles.append(
            (
                "Rationales right",
                percent(right, rows).removesuffix(" %"),
                "%",
                f"{right:,} of {rows:,} attempts",
            )
        )
    train, distilled = (data.metrics[data.best].get(name, {}) for name in ("train", "distilled"))
    used, given = rows_learned(train, distilled)
    of = f"of {given:,}, " if used < given else ""
    tiles.append(("Rows learned", f"{used:,}", "rows", f"{of}iteration {data.best}"))
    hours = data.cost.of()
    if hours.total:
        wasted = (
            f"{percentage(hours.lost / hours.total)} % lost, {percentage(hours.idle / hours.total)} % idle"
        )
        figure, unit = _hours(hours.total)
        tiles.append(("Cost so far", figure, f"{data.cost.device}-{unit}", wasted))
    return tiles


def _hours(value: float) -> tuple[str, str]:
    """Hours, or minutes and seconds where they are few, with the unit."""
    if value >= 1:
        return f"{value:,.1f}", "hours"
    return (f"{60 * value:.1f}", "minutes") if value * 60 >= 1 else (f"{3600 * value:.0f}", "seconds")


def _accuracy(data: ReportData) -> list[tuple[Series, str, str]]:
    """A set, what it is to the student, and its chart; all on one scale."""
    shown = [s for s in data.series if s.name != "train"] or data.series
    low = min((p.low for s in shown for p in s.points), default=0)
    high = max((p.high for s in shown for p in s.points), default=1)
    return [
        (s, _kind(s.name, data), charts.accuracy_chart(s.title, s.points, low=low, high=high, best=data.best, chooses=s.name == "validation"))
        for s in shown
    ]  # fmt: skip


def _kind(name: str, data: ReportData) -> str:
    """What a set is to the student, in two words."""
    if name not in SPLITS:
        return "test set"
    if name == "diagnosis" and len(data.metrics) > 1 and data.run.config.method.errors_from != "train":
        return "learned from, after iteration 0"  # its failed problems become training material
    return "held out"


def _changes(data: ReportData) -> list[tuple[Flips, str, int, list[float]]]:
    """Flips, the set's title, rows of the same pair of students (0 but for the first of them), widths of both bars in per cent."""
    order = {s.name: k for k, s in enumerate(data.series)}

    def part(count: int, f: Flips) -> float:
        return share(count, f.n)

    most = max((part(max(f.fixed, f.broken), f) for f in data.flips), default=0) or 1.0
    rows: list[tuple[Flips, str, int, list[float]]] = []
    for f in sorted(data.flips, key=lambda f: (f.after, order.get(f.name, len(order)))):
        pair = f.before, f.after
        first = not rows or (rows[-1][0].before, rows[-1][0].after) != pair
        height = sum((other.before, other.after) == pair for other in data.flips) if first else 0
        rows.append(
            (f, data.title(f.name), height, [100 * part(count, f) / most for count in (f.broken, f.fixed)])
        )
    return rows


Part = tuple[str, float, str]  # class of a stretch of a bar, its value, what it is


def _yields(data: ReportData) -> list[tuple[int, list[Part], int, str]]:
    """Iteration, what became of the teacher's attempts, their number, the share that is right."""
    rows = []
    for item in data.metrics:
        total, right, cut = (int(item["generate"].get(name, 0)) for name in ("rows", "correct", "truncated"))
        cut = min(cut - int(item["generate"].get("truncated_right", 0)), total - right)
        wrong = total - right - cut
        parts: list[Part] = [
            ("kept", right, f"{right} right"),
            ("cut", cut, f"{cut} cut off and not right"),
            ("unkept", wrong, f"{wrong} wrong, or without an answer"),
        ]
        rows.append((int(item["iteration"]), parts, total, percent(right, total) if total else ""))
    return rows


def _errors(data: ReportData) -> dict[str, Any] | None:
    """Wrong answers by their first error, a row an iteration; None where there is none."""
    rows, most, used = [], 0, dict.fromkeys(KIND_NAMES, 0)
    for item in data.metrics:
        counts = data.errors(item)
        evaluated = sum(item["sets"].get(split, {}).get("n", 0) for split in SPLITS)
        wrong = sum(counts.values())
        most = max(most, wrong)
        used = {kind: n + counts[kind] for kind, n in used.items()}
        parts = [(kind, n, f"{KIND_NAMES[kind]}: {n}") for kind, n in counts.items()]
        rows.append((item["iteration"], parts, f"{wrong} of {evaluated}"))
    kinds = [(kind, KIND_NAMES[kind]) for kind, n in used.items() if n]
    return {"rows": rows, "most": most, "kinds": kinds} if most else None


def _cost(data: ReportData) -> dict[str, Any] | None:
    """Hours by stage, and facts about them; None where no work is recorded."""
    cost = data.cost
    if not cost.of().total:
        return None
    stages: dict[str, list[float]] = {}
    for item in cost.stages:
        hours = item.gpu if cost.device == "GPU" else item.cpu
        found = stages.setdefault(item.stage, [0.0, 0.0, 0.0])
        for k, value in enumerate((hours.useful, hours.lost, hours.idle)):
            found[k] += value
    rows = []
    for stage, values in stages.items():
        figure, unit = _hours(sum(values))
        parts = [(k, v, f"{k} {v:.3f} h") for k, v in zip(("useful", "lost", "idle"), values, strict=True)]
        rows.append((stage, parts, f"{figure} {SHORT[unit]}"))
    per = [f"iteration {k}: {three_digits(v)} s" for k, v in cost.per_rationale_s.items() if v is not None]
    facts = [("Each rationale kept", f"{'; '.join(per)} of {cost.device} time")] if per else []
    if cost.per_point_h is not None:
        figure, unit = _hours(cost.per_point_h)
        facts.append(("Each point of validation gained", f"{figure} {cost.device}-{unit}"))
    source = "measured" if cost.kwh_measured else "estimated from nominal power (no counter is readable)"
    facts.append(("Energy", f"{energy(cost.kwh)}, {source}"))
    starts, restarts = (sum(getattr(item, name) for item in cost.stages) for name in ("starts", "restarts"))
    facts.append(("Starts of tasks", f"{starts:,}, of which {restarts:,} again"))
    return {"rows": rows, "most": max(map(sum, stages.values())) or 1.0, "facts": facts}


def _changed(config: RunConfig) -> list[tuple[str, str, str]]:
    """Key, value and default of all keys that are not at their default."""
    usual, mine = RunConfig().model_dump(mode="json"), config.model_dump(mode="json")
    return [(key, to_yaml(value), to_yaml(default)) for key, default, value in differing_keys(usual, mine)]


def _about(data: ReportData) -> list[tuple[str, str]]:
    """Where the run comes from; what is not known is left out."""
    environment = data.run.environment
    generation = ""
    if data.metrics:
        seconds, tokens, written = (
            sum(float(m["generate"].get(name, 0)) for m in data.metrics)
            for name in ("seconds", "new_tokens", "completion_tokens")
        )  # the first two are of the last start of each task: a speed, no total
        generation = f"{written:,.0f} tokens" if written else ""
        generation += f", {tokens / seconds:,.0f} tokens/s a task" if written and seconds and tokens else ""
    licences = {
        f"{b.get('title', name)}: {b['licence']}" for name, b in data.benchmarks.items() if b.get("licence")
    }
    rows = [
        (
            "Run",
            f"{data.run.layout.root.name} ({environment.get('run_id', '')}), created {environment.get('created', '')}",
        ),
        ("Command", " ".join(environment.get("command", []))),
        ("Code", f"undo-hpc {environment.get('undo_hpc', '')} {environment.get('git', '')[:12]}"),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items()),
        ),
        ("Generation", generation),
        ("Licences", ", ".join(sorted(licences))),
    ]
    return [(name, value) for name, value in rows if value.strip()]
