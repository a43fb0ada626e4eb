"""The launcher's live view of local tasks: a rich display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from undo_hpc.observe.wording import in_flight, percent
from undo_hpc.pipeline.plan import Stage, Task
from undo_hpc.storage.reading import finite
from undo_hpc.system.wording import format_duration

Snapshot = Sequence[tuple[Stage, Task, dict[str, Any] | None, float]]
PLAIN_EVERY_S = 15.0
WHOLE_EVERY_S = 60.0


def describe(progress: dict[str, Any] | None, seconds: float) -> str:
    """A task's progress in one line; the most important first, since a narrow terminal cuts the end."""
    if not progress:
        return "starting"
    if progress.get("doing"):
        return str(progress["doing"])
    parts = []
    done, total = progress.get("done"), progress.get("total")
    if done is not None:
        parts.append(f"{done}/{total} {progress.get('unit', '')}".strip() if total else f"{done}")
    left = progress.get("left_s")
    if "left_s" not in progress and done and total and 0 < done < total:
        left = seconds / done * (total - done)
    if left:
        parts.append(f"{format_duration(left)} left")
    if under_way := in_flight(progress):
        parts.append(under_way)
    if progress.get("correct") is not None and done:
        parts.append(f"{percent(progress['correct'], done)} right")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4f}")
    if progress.get("tokens_per_s"):
        parts.append(f"{progress['tokens_per_s']:,.0f} tok/s")
    if progress.get("lr") is not None:
        parts.append(f"lr {progress['lr']:.2e}")
    return ", ".join(parts) or "working"


def outcome(code: int) -> str:
    """An exit code in a word."""
    return {0: "done", 75: "saved its progress, starts again"}.get(
        code, f"failed (exit code {code})" if code > 0 else f"killed (signal {-code})"
    )


def _nothing(stages: Iterable[str]) -> str:
    return ""


Overview = Callable[[Iterable[str]], str]  # a line for the whole run, from the names of the stages at work


class PlainDisplay:
    """A line at each start and end, and now and then one in between."""

    def __init__(self, console: Console, overview: Overview = _nothing) -> None:
        self._console, self._last = console, time.monotonic()
        self._overview, self._whole, self._looked = overview, "", float("-inf")

    def _look(self, running: Snapshot, every_s: float) -> bool:
        """Looks at the whole run again, not more often than that; True where it has."""
        if time.monotonic() - self._looked < every_s:
            return False
        self._looked = time.monotonic()
        self._whole = self._overview(dict.fromkeys(stage.name for stage, *_ in running))
        return bool(self._whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _line(self, text: str) -> None:
        self._console.print(
            f"{time.strftime('%H:%M:%S')} {text}", highlight=False, markup=False, soft_wrap=True
        )

    def started(self, stage: Stage, task: Task) -> None:
        """Tells that a task begins."""
        self._line(f"iteration {stage.iteration} {name(stage, task)}: started")

    def ended(self, stage: Stage, task: Task, code: int, seconds: float) -> None:
        """Tells that a task has ended."""
        self._line(
            f"iteration {stage.iteration} {name(stage, task)}: {outcome(code)} after {format_duration(seconds)}"
        )

    def tick(self, running: Snapshot) -> None:
        """Tells how far things are, every fifteen seconds."""
        if time.monotonic() - self._last < PLAIN_EVERY_S:
            return
        self._last = time.monotonic()
        if running and self._look(running, WHOLE_EVERY_S):
            self._line(self._whole)
        for stage, task, progress, seconds in running:
            self._line(f"iteration {stage.iteration} {name(stage, task)}: {describe(progress, seconds)}")


class RichDisplay(PlainDisplay):
    """A live table of the running tasks below the lines."""

    def __init__(self, console: Console, overview: Overview = _nothing) -> None:
        super().__init__(console, overview)
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def started(self, stage: Stage, task: Task) -> None:
        """The live table shows it."""

    def tick(self, running: Snapshot) -> None:
        """Draws the running tasks."""
        self._look(running, 2.0)
        parts: list[RenderableType] = [task_table(running, self._console.width)]
        if self._whole:
            parts.insert(0, Text(self._whole, "bold"))
        self._live.update(Group(*parts))


def task_table(running: Snapshot, width: int) -> Table:
    """A line a task in a terminal of so many columns: what does not fit is cut, not wrapped."""
    wide = width >= 120
    table = Table.grid(padding=(0, 2), expand=True)
    for most in (28 if wide else 18, None, None):
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=most)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for stage, task, progress, seconds in running:
        reported = progress or {}
        done, total = finite(reported, "done"), finite(reported, "total")
        bar: ProgressBar | Text = ProgressBar(total, done, width=24) if total and wide else Text("")
        table.add_row(name(stage, task), bar, format_duration(seconds), describe(progress, seconds))
    return table


class NoDisplay(PlainDisplay):
    """Says nothing."""

    def _line(self, text: str) -> None:
        return None


def name(stage: Stage, task: Task) -> str:
    """A task as shown: its stage, and its label where there are several."""
    return f"{stage.name} {task.label}" if stage.is_array else stage.name


def choose_display(kind: str, console: Console, overview: Overview = _nothing) -> PlainDisplay:
    """The display of the configuration: auto looks at the terminal."""
    if kind == "none":
        return NoDisplay(console)
    if kind == "rich" or (kind == "auto" and console.is_terminal):
        return RichDisplay(console, overview)
    return PlainDisplay(console, overview)
