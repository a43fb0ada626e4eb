"""Text on a terminal or in a pipe, broken where a reader can follow it: at the console's width, 80 columns in a pipe."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

from undo_hpc.system.wording import printable

_MOST = 4000  # characters of a quoted text


def say(console: Console, text: str, *, hang: int = 0, style: str = "") -> None:
    """A sentence, broken at spaces; paths and commands stay whole, so that they can be copied."""
    text = printable(text)
    indent = " " * (len(text) - len(text.lstrip()))
    lines = textwrap.wrap(
        text.strip(),
        max(40, console.width - 1),
        initial_indent=indent,
        subsequent_indent=indent + " " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text("\n".join(lines), style), soft_wrap=True)


def quote(console: Console, text: str, *, whole: bool = False) -> None:
    """A text as it is, behind bars; of a long one its two ends, unless `whole`. What a terminal would act on is shown as text."""
    if len(text) > _MOST and not whole:
        half = _MOST // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half:,} characters more ...\n{text[-half:]}"
    for line in text.split("\n") if text else []:
        shown = "".join(sign if sign.isprintable() else _escaped(sign) for sign in line)
        for part in textwrap.wrap(shown, max(40, console.width - 5), drop_whitespace=False) or [""]:
            console.print(Text(f"  | {part}"), soft_wrap=True)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
