"""Reading nested brackets in one pass. Everything here is linear in the length of the text and never recurses."""

from __future__ import annotations

import re

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = {")", "]", "}"}
_PIECE = re.compile(
    r"\\begin\s*\{[a-zA-Z*]+\}|\\end\s*\{[a-zA-Z*]+\}|\\[a-zA-Z]+|\\.|[()\[\]{},;:]", re.DOTALL
)


def closing_brace(text: str, start: int) -> int:
    """The index of the brace that closes the one at `start`, or -1. Escaped braces do not count."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        piece = match.group()
        if piece == "{":
            depth += 1
        elif piece == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def split_top(text: str, separators: str = ",") -> list[str]:
    r"""Splits at separators that stand outside of all brackets and environments; `\{` and `\}` count as brackets.

    A half-open interval such as `[0, 7)` closes with another kind of bracket, so kinds are not matched.
    """
    parts, depth, last = [], 0, 0
    for match in _PIECE.finditer(text):
        piece = match.group()
        if (
            piece in "([{"
            or piece in (r"\{", r"\lbrace", r"\langle", r"\lfloor", r"\lceil")
            or piece[1:6] == "begin"
        ):
            depth += 1
        elif (
            piece in ")]}"
            or piece in (r"\}", r"\rbrace", r"\rangle", r"\rfloor", r"\rceil")
            or piece[1:4] == "end"
        ):
            depth = max(0, depth - 1)
        elif depth == 0 and piece in separators:
            parts.append(text[last : match.start()])
            last = match.end()
    parts.append(text[last:])
    return parts


def depth_of(text: str) -> int:
    """The deepest nesting of brackets of any kind."""
    depth = deepest = 0
    for match in re.finditer(r"[()\[\]{}]", text):
        depth += 1 if match.group() in OPEN else -1
        deepest = max(deepest, depth)
    return deepest


def half_open(text: str) -> bool:
    """Whether one pair of brackets of unlike kinds, as in `[0, 7)`, holds the whole text."""
    if len(text) < 2 or text[0] + text[-1] not in ("[)", "(]"):
        return False
    depth = 0
    for match in re.finditer(r"\\.|[()\[\]{}]", text, re.DOTALL):
        piece = match.group()
        depth += (piece in OPEN) - (piece in CLOSE)
        if depth == 0:
            return match.end() == len(text)
    return False


def encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last character, so that both can be taken away together."""
    if len(text) < 2 or text[0] not in OPEN:
        return False
    depth = 0
    for match in re.finditer(r"\\.|[()\[\]{}]", text, re.DOTALL):
        piece = match.group()
        if piece in OPEN:
            depth += 1
        elif piece in CLOSE:
            depth -= 1
            if depth == 0:
                return match.end() == len(text)
    return False
