"""What killed processes left in a run directory goes: temporary files of dead writers, rows in the making of finished iterations."""

from __future__ import annotations

import shutil

from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.storage.leftovers import remove_leftovers


def tidy(run: Run) -> None:
    """Called by the launcher, which holds the run, and at the end of an iteration. Removes nothing that anybody still reads."""
    remove_leftovers(run.layout.root)
    for number in run.layout.iterations():
        at = run.layout.iteration(number)
        if at.stage_manifest(LAST_STAGE).exists():
            for parts in at.root.rglob("*.parts"):
                shutil.rmtree(parts, ignore_errors=True)
