"""What is written when an iteration is complete."""

from __future__ import annotations

import os
from pathlib import Path

from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.atomic import write_text


def test_a_report_that_is_older_than_the_figures_is_told(copied: Path) -> None:
    """It could not be written: it would say that the loop continues."""
    run = open_run(copied)
    assert not any("report is older" in note for note in collect_status(run).notes)
    write_text(run.layout.report_page, "")
    assert not any("report is older" in note for note in collect_status(run).notes)
    os.utime(run.layout.report_page, (1e9, 1e9))
    (note,) = [
        note
        for note in collect_status(run).notes
        if "report is older than the figures of iteration 0" in note
    ]
    assert " report " in note.partition("again: ")[2]
