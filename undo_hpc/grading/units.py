"""Units of measurement: dimension and size from one table; words that are no unit only name what was counted."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from undo_hpc.grading import tables
from undo_hpc.grading.tables import word_set

_Size = tuple[Fraction, dict[str, int]]  # in base units, and their powers
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3, "cu": 3}
_PERCENT = word_set("percent percentage pct % percents")
_OPPOSITES = [(word_set(a), word_set(b)) for a, b in tables.rows("opposites")]
_OPPOSED = frozenset().union(*(a | b for a, b in _OPPOSITES))
_PARTS = tables.pairs("parts of one").keys() - {"quarter"}  # which is a coin, too
_PIECE = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|[$€£¥₹¢°%Ω]|\^\s*\(?\s*(-?\d{1,2})\s*\)?|[/*()]")


class Unit(NamedTuple):
    """A unit phrase: its dimension, its size in base units, and the words that are no unit."""

    dimension: tuple[tuple[str, int], ...]
    size: Fraction
    words: tuple[str, ...]


def _build() -> tuple[dict[str, _Size], dict[str, _Size]]:
    """(symbols, whose case counts; names in lower case)."""
    symbols: dict[str, _Size] = {}
    names: dict[str, _Size] = {}
    prefixes, long_prefixes = tables.pairs("prefixes"), tables.pairs("long prefixes")
    for section in ("metric units", "other units"):
        metric = section == "metric units"
        for symbol, others, written in tables.rows(section):
            size, *bases = written.split()
            parts = [re.fullmatch(r"(.*?)(-?\d+)?", base) for base in bases]
            powers = {part[1]: int(part[2] or 1) for part in parts if part}
            for prefix, exponent in {"": "0", **(prefixes if metric else {})}.items():
                symbols[prefix + symbol] = (Fraction(size) * Fraction(10) ** int(exponent), powers)
            for prefix, exponent in {"": "0", **(long_prefixes if metric else {})}.items():
                for name in others.split():
                    names[prefix + name] = (Fraction(size) * Fraction(10) ** int(exponent), powers)
                    names.setdefault(f"{prefix}{name}s", names[prefix + name])
    symbols["ml"], symbols["l"] = symbols["mL"], symbols["L"]
    for symbol in tables.words("any case"):
        found = symbols.get(symbol) or names[symbol]
        names.setdefault(symbol, found)
        names.setdefault(symbol + "s", found)
    return symbols, names


_SYMBOLS, _NAMES = _build()
SINGLE = frozenset(name for name in _SYMBOLS if len(name) == 1 and name.isalpha()) - {"F", "T", "H"}


def _find(piece: str) -> _Size | None:
    return _SYMBOLS.get(piece) or _NAMES.get(piece.lower())


def known(word: str) -> bool:
    """Whether this word alone names a unit, or percent."""
    return _find(word) is not None or word.lower() in _PERCENT or word.lower() in _POWERS


@lru_cache(maxsize=4096)
def read(text: str) -> Unit | None:
    """A unit phrase, or None where the words make it no quantity. `square feet` and `ft^2` are the same.

    Words that are no unit (`apples`) are kept in the singular, for they contradict other words.
    """
    text = re.sub(r"(?i:°|degrees?) ?[Cc](?i:elsius)?\b", "celsius", text.replace("above zero", ""))
    text = re.sub(r"(?i:°|degrees?) ?[Ff](?i:ahrenheit)?\b", "fahrenheit", text)
    powers: Counter[str] = Counter()
    size = Fraction(1)
    words: list[str] = []
    sign, pending, group = 1, 1, False  # of the next unit: 1 or -1, its power, whether a bracket is open
    last: tuple[_Size, int] | None = None  # the unit before, and its sign
    pieces = list(_PIECE.finditer(text))
    for i, match in enumerate(pieces):
        piece, low = match[0], match[0].lower()
        found, power = _find(piece), 0
        ends = i + 1 == len(pieces) or pieces[i + 1][0][0] in "^/*)"
        if low == "in" and sign == 1 and (last or words or not ends):
            found = None  # a word, not inches
        if low in ("/", "per"):
            sign, last = -1, None
        elif piece in "()":
            group = piece == "("
            sign = sign if group else 1
        elif low in _PERCENT:
            powers["percent"] = 1
        elif match[1] is not None or (low in ("squared", "cubed") and (last or ends)):
            if not last:
                return None
            found, power = last[0], last[1] * (int(match[1] or _POWERS[low]) - 1)
        elif low in _POWERS:
            pending = _POWERS[low]
        elif found:
            power, last, pending = sign * pending, (found, sign), 1
            sign = sign if group else 1
        elif low.rstrip("s") in _PARTS and (ends or low[-1] == "s"):
            return None  # 2 thirds, but not 7 sixth graders
        elif low in tables.SCALES and i and pieces[i - 1][0].lower() not in tables.SCALES:
            return None  # per thousand
        elif low in tables.NO_UNITS or low in tables.MONTHS:
            return None
        elif (low not in tables.FILLER or low in _OPPOSED) and piece != "*":
            words.append(low[:-1] if low.endswith("s") and not low.endswith("ss") and len(low) > 3 else low)
        if found and power:
            size *= found[0] ** power
            for name, exponent in found[1].items():
                powers[name] += exponent * power
    powers["unit"] *= powers["unit"] > 1  # `units` says nothing, `square units` that it is an area
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), size, tuple(words))


def conversion(a: Unit, b: Unit) -> Fraction | None:
    """The factor from `a` to `b`; None where they contradict each other. A phrase of mere words has no dimension and factor 1."""
    said = {*a.words, *b.words}
    if a.words != b.words and any(x & said and y & said for x, y in _OPPOSITES):
        return None
    dimensions = a.dimension + b.dimension
    if any(name == "unit" for name, _ in dimensions):  # square units, and square meters
        lengths = {name for name, _ in dimensions} <= {"unit", "m"}
        return Fraction(1) if lengths and len({power for _, power in dimensions}) == 1 else None
    x, y = ({*unit.words} - tables.FILLER for unit in (a, b))
    if bool(a.dimension) != bool(b.dimension):
        return None if x or y else Fraction(1)
    return a.size / b.size if a.dimension == b.dimension and (x <= y or y <= x or a.dimension) else None
