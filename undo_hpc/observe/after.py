"""What happens when an iteration is complete: the report, and the shapes of others. Conveniences all: none of them can fail a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from undo_hpc.config.parts import ends_behind
from undo_hpc.errors import UndoError
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import cli_hint, display_path

log = logging.getLogger(__name__)


def after_iteration(run: Run, iteration: int) -> None:
    """Writes chat format (by option), lm-evaluation-harness results and the report (unless display.report is off).

    What goes wrong is logged and noted in the run's events; the iteration is complete all the same.
    """
    from undo_hpc.observe.exports import write_chat, write_lm_eval
    from undo_hpc.observe.reference_rows import write_rows

    display, cut = run.config.display, ends_behind(run.config, iteration)
    if display.chat_format and cut not in ("generate", "baseline"):
        _try(run, "the chat format", lambda: write_chat(run, iteration))
    if display.rows_file:
        _try(run, display.rows_file, lambda: write_rows(run, iteration, Path(display.rows_file)))
    if not cut or cut == "baseline":
        _try(run, "the lm-evaluation-harness results", lambda: write_lm_eval(run, iteration))
    if display.report and (iteration or not cut):  # of a part alone the terminal tells all
        _try(run, "the report", lambda: _report(run))


def report_is_old(run: Run) -> str:
    """What is said where the report is older than the figures of an iteration: it could not be written, or its writing was ended. Empty
    where it shows all."""
    page = run.layout.report_page
    with contextlib.suppress(OSError):
        written = page.stat().st_mtime
        for number in run.layout.iterations():
            metrics = run.layout.iteration(number).metrics
            if metrics.exists() and metrics.stat().st_mtime > written:
                again = cli_hint(f"report {display_path(run.layout.root)}")
                return f"the report is older than the figures of iteration {number}; write it again: {again}"
    return ""


def _report(run: Run) -> None:
    from undo_hpc.observe.report import write_report

    log.info("report: %s", write_report(run))


def _try(run: Run, what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except (UndoError, OSError) as error:
        why = str(error).splitlines()[0]
        log.warning("%s could not be written: %s; the run continues without it", what, why)
        run.events.append("not_written", what=what, why=why)
