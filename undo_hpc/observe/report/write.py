"""Writes the report of a run as it stands: report/index.html and report/summary.md."""

from __future__ import annotations

import time
from pathlib import Path

from undo_hpc.observe.report.collect import collect
from undo_hpc.observe.report.markdown import summary
from undo_hpc.observe.report.page import page
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import write_text


def write_report(run: Run) -> Path:
    """The report; returns the page's path. What is incomplete or damaged in the run is left out and named on the page.

    Raises:
        StorageError: the report's folder cannot be written.
    """
    data = collect(run)
    folder = run.layout.report
    write_text(folder / "summary.md", summary(data))
    path = run.layout.report_page
    write_text(path, page(data, time.strftime("%Y-%m-%d %H:%M %Z")))
    return path
