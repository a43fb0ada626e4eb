"""Numerals of another base: 204_5, 52 (base 8)."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare

_NAMES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "sixteen": 16,
}
_NUMERAL = re.compile(
    r"\(?([0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\)?\s*(?:_\s*\{?\s*\u27e6?\s*(?:base\s*)?(\d{1,2}|[a-z]+)\s*\u27e7?\s*\}?|\s\(?\u27e6?\s*\(?(?:in\s+)?base[\s-]*(\d{1,2}|[a-z]+)\)?\s*\u27e7?\)?)"
)


def read(text: str) -> tuple[str, int] | None:
    """(digits, base) or None."""
    match = _NUMERAL.fullmatch(text)
    if not match or not match[1][0].isalnum() or not any(c.isdigit() for c in match[1]):
        return None
    name = match[2] or match[3]
    base = int(name) if name.isdigit() else _NAMES.get(name, 0)
    digits = match[1].upper()
    if not 2 <= base <= 36 or any(c != "." and int(c, 36) >= base for c in digits):
        return None
    return digits.lstrip("0") or "0", base


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Same digits and same base; a prediction that leaves the base out counts by its digits."""
    if (
        "_" not in gold.clean
        and "_" not in pred.clean
        and "base" not in gold.clean
        and "base" not in pred.clean
    ):
        return None
    a, b = read(gold.clean), read(pred.clean)
    if a is None and b is None:
        return None
    if a is not None and b is not None:
        return a == b
    numeral, other = (a, pred) if a is not None else (b, gold)
    assert numeral is not None
    bare = re.sub(r"[\s,]", "", other.clean).upper()
    if not re.fullmatch(r"[0-9A-Z.]+", bare):
        return None
    return (bare.lstrip("0") or "0") == numeral[0]
