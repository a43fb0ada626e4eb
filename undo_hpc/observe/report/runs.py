"""The index page over the runs of a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from undo_hpc.pipeline.layout import Layout, runs_page
from undo_hpc.storage.atomic import write_text
from undo_hpc.system.templates import render

_HERE = Path(__file__).resolve().parent


def write_index(folder: Path, runs: Sequence[tuple[Path, str, Sequence[str]]]) -> Path:
    """Writes index.html into the folder; returns its path.

    Args:
        runs: directory, name, and the cells of its row.

    Raises:
        StorageError: it cannot be written.
    """
    rows = []
    for path, name, cells in runs:
        page = Layout(path.resolve()).report_page
        link = quote(os.path.relpath(page, folder.resolve())) if page.exists() else ""
        rows.append((name, link, cells))
    text = render(
        _HERE / "runs.html.jinja",
        folder=folder.resolve().name,
        runs=rows,
        style=(_HERE / "style.css").read_text(encoding="utf-8"),
        written=time.strftime("%Y-%m-%d %H:%M %Z"),
    )
    target = runs_page(folder)
    write_text(target, text)
    return target
