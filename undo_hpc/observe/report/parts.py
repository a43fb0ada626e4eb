"""PURE: pieces of HTML that the page's sections share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def section(name: str, title: str, intro: str, body: str, kind: str = "") -> str:
    """A section; `intro` is HTML."""
    long = f' class="{kind}"' if kind else ""
    return f'<section{long} aria-labelledby="{name}"><h2 id="{name}">{title}</h2><p class="intro">{intro}</p>{body}</section>'


def table(head: str, rows: Sequence[str], kind: str = "") -> str:
    """A table in a card that scrolls by itself where the screen is narrow."""
    opening = f'<table class="{kind}">' if kind else "<table>"
    return f'<div class="card wide"><div class="scroll">{opening}<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></div>'


def row(iteration: int, bar: str, text: str, best: int | None) -> str:
    """A bar with its iteration before it and its sum behind it."""
    chosen = " chosen" if iteration == best else ""
    return f'<div class="row"><span class="name{chosen}">iteration {iteration}</span>{bar}<span class="sum">{escape(text)}</span></div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What the colours mean: (class, words)."""
    return (
        '<div class="legend">'
        + "".join(f'<span><i class="{kind}"></i>{escape(text)}</span>' for kind, text in entries)
        + "</div>"
    )
