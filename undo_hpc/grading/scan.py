"""Reading nested brackets in one pass. Everything here is linear in the length of the text and never recurses."""

from __future__ import annotations

import re

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BRACKET = re.compile(r"[()\[\]{}]")


def closing_brace(text: str, start: int) -> int:
    """The index of the brace that closes the one at `start`, or -1. Escaped braces do not count."""
    depth = 0
    for match in _BRACE.finditer(text, start):
        piece = match.group()
        if piece == "{":
            depth += 1
        elif piece == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def depth_of(text: str) -> int:
    """The deepest nesting of brackets of any kind."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match.group() in "([{" else -1
        deepest = max(deepest, depth)
    return deepest
