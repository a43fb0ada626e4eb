"""PURE: the report as a page of Markdown, for a chat, an issue or a notebook."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.control.spent import energy, rationale_cost
from undo_hpc.method.metrics import rows_learned
from undo_hpc.observe.report import prose
from undo_hpc.observe.report.charts import student_name
from undo_hpc.observe.report.collect import KINDS, ReportData
from undo_hpc.observe.wording import evaluation_settings, learned, percent
from undo_hpc.system.templates import render
from undo_hpc.system.wording import three_digits


def summary(data: ReportData) -> str:
    """report/summary.md."""
    return render(
        Path(__file__).with_name("summary.md.jinja"),
        data=data,
        config=data.run.config,
        prose=prose,
        percent=percent,
        evaluation=evaluation_settings(data.run.config),
        learned=learned,
        rows_learned=rows_learned,
        student_name=student_name,
        kinds=KINDS,
        hours=data.cost.of(),
        energy=energy(data.cost.kwh),
        rationale_cost=rationale_cost(data.cost),
        three_digits=three_digits,
    )
