"""What happens when an iteration is complete: the report, and the shapes of others. Conveniences all: none of them can fail a run."""

from __future__ import annotations

from collections.abc import Callable

from undo_hpc.errors import UndoError
from undo_hpc.pipeline.run import Run


def after_iteration(run: Run, iteration: int, say: Callable[[str], None]) -> None:
    """Writes chat format (by option), lm-evaluation-harness results and the report (unless display.report is off).

    What goes wrong is told in the log and in the run's events; the iteration stands all the same.
    """
    from undo_hpc.observe.exports import write_chat, write_lm_eval

    display = run.config.display
    if display.chat_format:
        _try(run, say, "the chat format", lambda: write_chat(run, iteration))
    _try(run, say, "the lm-evaluation-harness results", lambda: write_lm_eval(run, iteration))
    if display.report:
        _try(run, say, "the report", lambda: _report(run, say))


def _report(run: Run, say: Callable[[str], None]) -> None:
    from undo_hpc.observe.report import write_report

    say(f"report: {write_report(run)}")


def _try(run: Run, say: Callable[[str], None], what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except (UndoError, OSError) as error:
        why = str(error).splitlines()[0]
        say(f"{what} could not be written, the run goes on: {why}")
        run.events.append("not_written", what=what, why=why)
