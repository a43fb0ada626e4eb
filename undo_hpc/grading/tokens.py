"""From the text of a mathematical expression, LaTeX and ASCII mixed, to tokens."""

from __future__ import annotations

import re

from undo_hpc.grading.names import CONSTANTS, FUNCTIONS, GREEK, MULTI_ARGUMENT

_TOKEN = re.compile(
    r"(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,4}(?![\d.]))?|\.\d+)"
    r"|(?P<word>\u27e6[^\u27e7]*\u27e7)|\\(?P<cmd>[a-zA-Z]+)|(?P<esc>\\.)|(?P<name>[A-Za-z]+)|(?P<op>[-+*/^_!|()\[\]{},'°%&])|(?P<space>\s+)",
    re.DOTALL,
)
_NUMBER_BEHIND = re.compile(r"\s+\d")
_NAMES = sorted(FUNCTIONS | MULTI_ARGUMENT | GREEK | CONSTANTS | {"mod", "inf"}, key=len, reverse=True)


class SyntaxProblem(ValueError):
    """The text is no expression that this parser knows."""


def _letters(run: str) -> list[tuple[str, str]]:
    """A run of ASCII letters as known names and single letters, longest names first."""
    out: list[tuple[str, str]] = []
    i = 0
    while i < len(run):
        for name in _NAMES:
            if run.startswith(name, i):
                out.append(("cmd", {"infinity": "infty", "oo": "infty", "inf": "infty"}.get(name, name)))
                i += len(name)
                break
        else:
            out.append(("sym", run[i]))
            i += 1
    return out


def tokenize(text: str) -> list[tuple[str, str]]:
    """Tokens as (kind, text). Raises SyntaxProblem at a character that has no place in an expression."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise SyntaxProblem(f"character {text[position]!r}")
        kind = match.lastgroup or ""
        value = match.group(kind)
        if kind == "name":
            tokens.extend(_letters(value))
            if len(value) > 1 and tokens[-1][0] == "sym" and _NUMBER_BEHIND.match(text, match.end()):
                raise SyntaxProblem("a number behind a word")  # `1 over 6` is no product of letters
        elif kind != "space":
            tokens.append((kind, value))
        elif tokens and tokens[-1][0] == "num" and position + 1 < len(text):
            tokens.append(("space", " "))
        position = match.end()
    return tokens
