r"""Reading one plain quantity exactly: digits, fractions, mixed and repeating decimals, powers of ten, currency, units, percent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from undo_hpc.grading import units
from undo_hpc.grading.names import NAMES

MAX_DIGITS = 4000
_GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?:\.\d+)?"
_DECIMAL = rf"(?:{_GROUPED}|\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<money>[$€£¥₹]?)\s*(?P<sign2>[+-]?)\s*"
    rf"(?:(?P<whole>\d+)\s*(?:\\frac\s*(?:\{{\s*(?P<mn>\d+)\s*\}}\s*|(?P<mn1>\d))\s*(?:\{{\s*(?P<md>\d+)\s*\}}|(?P<md1>\d))| (?P<an>\d+)\s*/\s*(?P<ad>\d+))"
    rf"|\\frac\s*(?:\{{\s*(?P<fn>-?{_DECIMAL})\s*\}}|(?P<fn1>\d))\s*(?:\{{\s*(?P<fd>-?{_DECIMAL})\s*\}}|(?P<fd1>\d))"
    rf"|(?P<rep>\d*\.\d*)\s*(?:\\overline|\\bar|\\dot)\s*\{{?\s*(?P<cycle>\d+)\s*\}}?"
    rf"|(?P<num>{_DECIMAL})(?:\s*/\s*(?:(?P<den>\d+(?:\.\d+)?)|\(\s*(?P<nden>-\d+(?:\.\d+)?)\s*\)))?)"
    r"(?:(?:[eE](?P<exp>[+-]?\d{1,4})(?!\d))|\s*(?:\\times|\\cdot|\*|x|X)\s*10\s*\^\s*(?:\{\s*(?P<pow>[+-]?\d{1,4})\s*\}|(?P<pow1>[+-]?\d{1,4})))?"
    r"\s*(?P<unit>[^\d=<>+(){}\[\]]*(?:\^\s*(?:\{?\s*-?\d\s*\}?|\{?\\circ\s*\}?)[^\d=<>+(){}\[\],]*)*)"
)
_EUROPEAN = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])")
_DOTTED = re.compile(r"([+-]?)(\d*\.\d*?)(\d{1,6}?)\3{2,}\s*\\ldots")
_CURRENCY_CODE = re.compile(
    r"\u27e6?\s*(USD|US ?\$|EUR|GBP|INR|Rs)\b\.?\s*\u27e7?\s*(?=[\d.])", re.IGNORECASE
)
_MEASURE = r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\.?(?:\s*,|\s+and\b)?\s*"
_COMPOUND = re.compile(rf"(?:{_MEASURE}){{2,4}}")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UP_TO_NINETEEN = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: i for i, word in enumerate(_UP_TO_NINETEEN.split(" "))}
_WORDS |= {word: 10 * i for i, word in enumerate(_TENS.split(" "), start=2)}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written: its exact value, its unit phrase, and how many digits stand after the point (None: no point)."""

    value: Fraction
    unit: str = ""
    percent: bool = False
    decimals: int | None = None
    significant: int = 0


def plain_number(text: str) -> Fraction | None:
    """A bare decimal or integer, with thousands separators or not; None where it is anything else."""
    text = text.strip()
    if not text or len(text) > MAX_DIGITS or not re.fullmatch(rf"[+-]?\s*{_DECIMAL}", text):
        return None
    return Fraction(text.replace(",", "").replace(" ", "").rstrip("."))


@lru_cache(maxsize=8192)
def read(text: str) -> Quantity | None:
    """The quantity that the whole of a cleaned answer is, or None. Never rounds."""
    if not text or len(text) > MAX_DIGITS:
        return None
    text = _EUROPEAN.sub(lambda m: m[0].replace(".", ""), text)
    dotted = _DOTTED.fullmatch(text)
    if dotted:
        text = f"{dotted[1]}{dotted[2]}\\overline{{{dotted[3]}}}"
    first = text[0]
    if first in "\u27e6UEGIRuegir" and (code := _CURRENCY_CODE.match(text)):
        text = f"{text[code.end() :]} \u27e6{code[1]}\u27e7"
        first = text[0]
    if not (first.isdigit() or first in "+-.$€£¥₹\\"):
        return _from_words(text)
    match = _NUMBER.fullmatch(text)
    if not match:
        return _compound(text) if first.isdigit() and len(text) <= 80 else None
    group = match.group
    decimals: int | None = None
    significant = 0
    try:
        if group("whole"):
            numerator, denominator = (
                group("mn") or group("mn1") or group("an"),
                group("md") or group("md1") or group("ad"),
            )
            value = int(group("whole")) + Fraction(int(numerator), int(denominator))
        elif group("fn") or group("fn1"):
            value = _fraction(group("fn") or group("fn1")) / _fraction(group("fd") or group("fd1"))
        elif group("cycle"):
            value = _repeating(group("rep"), group("cycle"))
        else:
            value = _fraction(group("num"))
            if group("den") or group("nden"):
                value /= _fraction(group("den") or group("nden"))
            elif "." in group("num"):
                digits = group("num").replace(",", "").replace(" ", "")
                decimals = len(digits.split(".")[1])
                significant = len(digits.replace(".", "").lstrip("0"))
    except ZeroDivisionError:
        return None
    exponent = group("exp") or group("pow") or group("pow1")
    if exponent:
        value *= Fraction(10) ** int(exponent)
        decimals = None
    if group("sign") and group("sign2"):
        return None
    if "-" in (group("sign"), group("sign2")):
        value = -value
    unit = group("unit").strip().strip("\u27e6\u27e7").strip()
    scale, _, behind = unit.partition(" ")
    if scale.lower() in _SCALES:
        value, unit, decimals = value * _SCALES[scale.lower()], behind.strip(), None
    if units.is_percent(unit):
        return Quantity(value, "", True, decimals, significant)
    if unit:
        marked = "\u27e6" in group("unit")
        spaced = match.start("unit") > 0 and text[match.start("unit") - 1] == " "
        if units.is_single(unit) and not marked and not spaced:
            return None
        if unit[0] == "/" and not marked and units.is_single(unit[1:]):
            return None  # `1/n`
        found = units.read_unit(unit)
        if found is None:
            return None
        if (
            not found[0]
            and not marked
            and any(word.isascii() and (not spaced or len(word) < 3 or word in NAMES) for word in found[2])
        ):
            return None
        if not any(c.isalpha() for c in unit) and not found[0]:
            return None
    money = group("money")
    return Quantity(value, f"{money} {unit}".strip() if money else unit, False, decimals, significant)


def _compound(text: str) -> Quantity | None:
    """`5 feet 4 inches`, `2 h 30 min`: one quantity in the last unit. The units are of one dimension, each smaller than the one before."""
    plain = re.sub(r"\s*[\u27e6\u27e7]\s*", " ", text).strip()
    if not _COMPOUND.fullmatch(plain):
        return None
    total, dimension, size = Fraction(0), None, None
    for value, name in re.findall(_MEASURE, plain):
        unit = units.read_unit(name)
        if (
            unit is None
            or not unit[0]
            or unit[2]
            or dimension not in (None, unit[0])
            or (size is not None and unit[1] >= size)
        ):
            return None
        dimension, size = unit[0], unit[1]
        total += Fraction(value) * size
    assert size is not None
    return Quantity(total / size, name)


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").rstrip("."))


def _repeating(prefix: str, cycle: str) -> Fraction:
    whole, _, digits = prefix.partition(".")
    scale = 10 ** len(digits)
    base = Fraction(int((whole or "0") + digits), scale)
    return base + Fraction(int(cycle), (10 ** len(cycle) - 1) * scale)


def _from_words(text: str) -> Quantity | None:
    """`twelve`, `twenty-one apples`."""
    if len(text) > 60:
        return None
    pieces = text.strip("\u27e6\u27e7").lower().replace("-", " ").split()
    value, part, used = 0, 0, 0
    for piece in pieces:
        if piece in _SCALES and used and part:
            part *= _SCALES[piece]
            if piece != "hundred":
                value, part = value + part, 0
        elif piece in _WORDS and not (part and part % 100 and (part % 10 or _WORDS[piece] >= 10)):
            part += _WORDS[piece]
        elif not (piece == "and" and used):
            break
        used += 1
    value += part
    if not used:
        return None
    unit = " ".join(pieces[used:])
    if unit and (units.read_unit(unit) is None or not unit.replace(" ", "").isalpha()):
        return None
    return Quantity(Fraction(value), unit)
