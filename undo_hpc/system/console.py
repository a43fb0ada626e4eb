"""The console of all verbs: no text that is shown on it is acted on, by rich or by the terminal, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from undo_hpc.system.wording import printable


class SafeConsole(Console):
    """rich's console, which passes escape sequences in texts on; here they are shown as escapes (see `printable`).

    What rich itself tells the terminal (colours, the moves of a live view) is not text, and stays. Nor is a text a language of rich's own:
    a folder may be called `run[1]`, `[/old]` or `:100:`. What is to be bold is a `rich.text.Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            part if part.control else Segment(printable(part.text), part.style) for part in buffer
        )
