"""PURE: the report as a page of Markdown, for a chat, an issue or a notebook."""

from __future__ import annotations

from undo_hpc.control.spent import energy, rationale_cost
from undo_hpc.observe.report import words
from undo_hpc.observe.report.charts import student_name
from undo_hpc.observe.report.collect import KINDS, UNTRAINED, ReportData


def summary(data: ReportData) -> str:
    """report/summary.md."""
    config = data.run.config
    lines = [f"# {config.name}", "", words.verdict(data), ""]
    lines += [text + "\n" for text in (words.end(data), words.caution(data)) if text]
    lines += [f"> {text}\n" for part in words.notes(data) for text in part]
    lines.append(
        f"Teacher {config.teacher.model or '?'}, student {config.student.model or '?'}, condition {config.method.condition}, seed {config.seed}."
    )
    if not data.metrics:
        return "\n".join(lines) + "\n"
    lines += ["", "## Accuracy in % [95 % interval]", ""]
    lines.append(
        "| student | " + " | ".join(f"{_cell(s.title)} (n = {s.points[-1].n})" for s in data.series) + " |"
    )
    lines.append("|---|" + "---:|" * len(data.series))
    for student in sorted({p.iteration for s in data.series for p in s.points}):
        cells = []
        for series in data.series:
            point = next((p for p in series.points if p.iteration == student), None)
            cells.append(
                f"{100 * point.accuracy:.1f} [{100 * point.low:.1f}, {100 * point.high:.1f}]" if point else ""
            )
        name = (
            student_name(student)
            if student == UNTRAINED
            else f"iteration {student}{' (chosen)' if student == data.best else ''}"
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## What changed",
        "",
        "| students | problems | fixed | broken | still wrong | still right | p |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    titles = {s.name: s.title for s in data.series}
    for flips in data.flips:
        lines.append(
            f"| {student_name(flips.before)} → {flips.after} | {_cell(titles.get(flips.name, flips.name))} | {flips.fixed} | {flips.broken} | {flips.wrong} "
            f"| {flips.right} | {words.p_value(flips.p)} |"
        )
    lines += [
        "",
        "## Teaching",
        "",
        "| iteration | attempts | right | cut off | rows learned from | median tokens | "
        + " | ".join(KINDS)
        + " |",
    ]
    lines.append("|---|" + "---:|" * (5 + len(KINDS)))
    for item in data.metrics:
        made, number = item["generate"], int(item["iteration"])
        lengths = data.lengths.get(number) or [0.0] * 5
        kinds = [str(sum(split.get(kind, 0) for split in item["errors"].values())) for kind in KINDS]
        lines.append(
            f"| {number} | {made.get('rows', 0):g} | {made.get('correct', 0):g} | {made.get('truncated', 0):g} | {item['distilled'].get('rows', 0)} "
            f"| {lengths[2]:.0f} | {' | '.join(kinds)} |"
        )
    hours, cost = data.cost.of(), data.cost
    lines += ["", "## Cost", "", f"{hours.total:.3g} {cost.device}-hours: {hours.useful:.3g} useful, {hours.lost:.3g} lost, {hours.idle:.3g} idle. "
              f"{energy(cost.kwh)} ({'measured' if cost.kwh_measured else 'an estimate'})."]  # fmt: skip
    lines += ["", *(f"- {line}" for line in rationale_cost(cost)), ""]
    if cost.per_point_h is not None:
        lines.append(
            f"{cost.per_point_h:.3g} {cost.device}-hours for each point of validation accuracy gained."
        )
    lines += [f"\nNote: {note}" for note in data.notes]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
