"""Writes the report of a run as it stands: report/index.html, report/summary.md, and its figures as CSV and SVG."""

from __future__ import annotations

import time
from pathlib import Path

from undo_hpc.errors import ConfigError
from undo_hpc.observe.report.collect import collect
from undo_hpc.observe.report.figures import figures
from undo_hpc.observe.report.markdown import summary
from undo_hpc.observe.report.page import page
from undo_hpc.pipeline.run import Run, require_own_folders
from undo_hpc.storage.atomic import write_text


def write_report(run: Run) -> Path:
    """The report; returns the page's path. What is incomplete or damaged in the run is left out and named on the page.

    Raises:
        StorageError: the report's folder cannot be written.
        ConfigError: another user has put a link in its place, or a link there leads out of the run.
    """
    require_own_folders(run.layout)
    folder = run.layout.report
    for each in (folder, folder / "figures"):
        if not each.resolve().is_relative_to(
            run.layout.root
        ):  # a run that was unpacked brings its links along, as ours
            raise ConfigError(
                f"{each} leads out of the run, to {each.resolve()}: pages that lie there would be overwritten",
                hint="remove the link, then copy the report to where it is to be read",
            )
    data = collect(run)
    write_text(folder / "summary.md", summary(data))
    path = run.layout.report_page
    drawn = dict(figures(data)) if data.metrics else {}
    for name, text in drawn.items():
        write_text(folder / "figures" / name, text)
    write_text(path, page(data, time.strftime("%Y-%m-%d %H:%M %Z"), list(drawn)))
    return path
