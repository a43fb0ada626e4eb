"""The static guard before any algebra: what it lets through is short, flat, small, and made of mathematical characters only."""

from __future__ import annotations

import re
from itertools import accumulate


class OutOfBounds(ValueError):
    """An expression that is not fit for a computer algebra system."""


MAX_LENGTH = 600
MAX_DEPTH = 12
MAX_DIGITS = 60
MAX_EXPONENT = 400
MAX_FACTORIAL = 200
MAX_TERMS = 1000

_ALLOWED = re.compile(r"[A-Za-z0-9\s\\{}()\[\]|+\-*/^_=<>!.,&%'°]*")
_CODE = re.compile(
    r"__|\bimport\b|\blambda\b|\beval\b|\bexec\b|\bopen\s*\(|\bgetattr\b|\bglobals\b|\.\s*[a-z_]{3,}\s*\("
)
_EXPONENT = re.compile(r"\^\s*\{?\s*[+-]?\s*(\d+)")
_FACTORIAL = re.compile(r"(\d+|[)}])\s*!")
_TOWER = re.compile(r"\^\s*\{?\s*\d+\s*\^\s*\{?\s*\d|\^\s*\{?[^{}^]{0,20}\^\s*\{?[^{}^]{0,20}\^")
_LARGE_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{[^{}]*(?:\^|\d{5})")
_LARGE_BOUND = re.compile(r"\\(?:sum|prod|bigcup|bigcap)\s*(?:_\s*(?:\{[^{}]*\}|\w)\s*)?\^\s*\{[^{}]*[\^!]")
_BOUND = re.compile(r"\\(?:sum|prod|bigcup|bigcap)[^A-Za-z]")


def check(text: str) -> None:
    """Raises OutOfBounds with the reason where an expression is not fit for a computer algebra system."""
    if len(text) > MAX_LENGTH:
        raise OutOfBounds(f"longer than {MAX_LENGTH} characters")
    if not _ALLOWED.fullmatch(text):
        raise OutOfBounds("characters that mathematics does not use")
    if text.replace("\\{", "").count("{") != text.replace("\\}", "").count("}"):
        raise OutOfBounds("braces that do not match")
    if _CODE.search(text):
        raise OutOfBounds("looks like program code")
    deepest = max(
        accumulate(1 if bracket in "([{" else -1 for bracket in re.findall(r"[()\[\]{}]", text)), default=0
    )
    if deepest > MAX_DEPTH:
        raise OutOfBounds(f"nested deeper than {MAX_DEPTH}")
    numbers = re.findall(r"\d+", text)
    if any(len(number) > MAX_DIGITS for number in numbers):
        raise OutOfBounds(f"a number of more than {MAX_DIGITS} digits")
    if any(len(exponent) > 4 or int(exponent) > MAX_EXPONENT for exponent in _EXPONENT.findall(text)):
        raise OutOfBounds(f"an exponent above {MAX_EXPONENT}")
    if _TOWER.search(text.replace("**", "^")):
        raise OutOfBounds("a tower of powers")
    if re.search(r"![\s)}\]]*!", text) or any(
        f.isdigit() and (len(f) > 4 or int(f) > MAX_FACTORIAL) for f in _FACTORIAL.findall(text)
    ):
        raise OutOfBounds("a large factorial")
    if _LARGE_BOUND.search(text) or _LARGE_BINOMIAL.search(text):
        raise OutOfBounds("a sum or product up to a power or a factorial, or a large binomial")
    if _BOUND.search(text + " ") and any(len(number) > 6 or int(number) > MAX_TERMS for number in numbers):
        raise OutOfBounds(f"a sum or product of more than {MAX_TERMS} terms")
