"""Units of measurement: their dimension and size, and the number words and nouns that only name what was counted."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

Dimension = tuple[tuple[str, int], ...]


def _table() -> dict[str, tuple[str, Fraction, int]]:
    """name -> (base quantity, size in the base unit, power of the base quantity)."""
    groups: dict[str, list[tuple[str, str]]] = {
        "length": [
            ("m meter metre meters metres", "1"),
            ("cm centimeter centimetre centimeters centimetres", "1/100"),
            ("mm millimeter millimetre millimeters millimetres", "1/1000"),
            ("km kilometer kilometre kilometers kilometres", "1000"),
            ("in inch inches", "127/5000"),
            ("ft foot feet", "381/1250"),
            ("yd yard yards", "1143/1250"),
            ("mi mile miles", "201168/125"),
            ("nm nanometer nanometers", "1/1000000000"),
            ("dm decimeter decimeters", "1/10"),
        ],
        "mass": [
            ("g gram grams gm", "1"),
            ("kg kilogram kilograms kilo kilos kgs", "1000"),
            ("mg milligram milligrams", "1/1000"),
            ("lb lbs pound pounds", "45359237/100000"),
            ("oz ounce ounces", "45359237/1600000"),
            ("t tonne tonnes", "1000000"),
        ],
        "time": [
            ("s sec secs second seconds", "1"),
            ("min mins minute minutes", "60"),
            ("h hr hrs hour hours", "3600"),
            ("day days", "86400"),
            ("week weeks", "604800"),
            ("ms millisecond milliseconds", "1/1000"),
        ],
        "calendar": [("month months", "1"), ("yr yrs year years", "12")],
        "dollar": [("$ dollar dollars usd buck bucks", "1"), ("cent cents ¢", "1/100")],
        "euro": [("€ euro euros eur", "1")],
        "sterling": [("£ gbp", "1"), ("pence", "1/100")],
        "rupee": [("₹ rupee rupees rs inr", "1")],
        "yen": [("¥ yen yuan", "1")],
        "volume": [
            ("l liter litre liters litres", "1"),
            ("ml milliliter milliliters millilitre millilitres", "1/1000"),
            ("gal gallon gallons", "473176473/125000000"),
            ("qt quart quarts", "473176473/500000000"),
            ("pint pints", "473176473/1000000000"),
        ],
        "angle": [("deg degree degrees °", "1")],
        "radian": [("rad radian radians", "1")],
        "temperature": [("celsius", "1")],
        "kelvin": [("k kelvin kelvins", "1")],
        "fahrenheit": [("fahrenheit", "1")],
        "force": [("n newton newtons", "1")],
        "energy": [("j joule joules", "1"), ("kj", "1000")],
        "power": [("w watt watts", "1"), ("kw", "1000")],
        "voltage": [("v volt volts", "1")],
        "current": [("amp amps ampere amperes", "1")],
        "frequency": [("hz hertz", "1")],
    }
    table: dict[str, tuple[str, Fraction, int]] = {}
    for quantity, rows in groups.items():
        for names, size in rows:
            for name in names.split():
                table[name] = (quantity, Fraction(size), 1)
    return table


_UNITS = _table()
_NO_MARKS = str.maketrans("\u27e6\u27e7", "  ")
_COMPOUNDS = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h"}
_COMPOUND = re.compile(r"\b(?:mph|kph|kmh|kmph)\b")
_SINGLE = {name for name in _UNITS if len(name) == 1 and name.isalpha()}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3, "cu": 3}
_NEUTRAL = {
    "unit",
    "units",
    "of",
    "the",
    "total",
    "in",
    "all",
    "about",
    "exactly",
    "only",
    "approximately",
    "each",
    "more",
    "less",
    "left",
    "ways",
    "way",
}
_NO_UNIT = {
    "or",
    "and",
    "not",
    "to",
    "but",
    "if",
    "than",
    "when",
    "most",
    "least",
    "except",
    "without",
}  # `3 or more` is no quantity of three
_PAIRS = (
    ("profit", "loss"),
    ("gain", "loss"),
    ("north", "south"),
    ("east", "west"),
    ("above", "below"),
    ("left", "right"),
    ("up", "down"),
)
OPPOSITES = tuple(pair for x, y in _PAIRS for pair in ((x, y), (y, x)))
_PERCENT = {"percent", "percentage", "pct", "%", "per cent"}
_TEMPERATURE = re.compile(r"(?:°|degrees?)\s*(c|f)(?:elsius|ahrenheit)?\b")
_PIECE = re.compile(r"[a-z]+\.?|[$€£¥₹¢°%]|\^\s*\{?\s*(-?\d)\s*\}?|/|\*|\\cdot|\S")


@lru_cache(maxsize=4096)
def read_unit(text: str) -> tuple[Dimension, Fraction, tuple[str, ...]] | None:
    """A unit phrase as (dimension, size, other words), or None where it is not a unit phrase at all.

    `'square feet'` and `'ft^2'` are the same; `'apples'` is a word without a dimension.
    """
    powers: dict[str, int] = {}
    size = Fraction(1)
    words: list[str] = []
    sign, pending, last = 1, 1, ""
    plain = _COMPOUND.sub(lambda m: _COMPOUNDS[m[0]], text.lower().translate(_NO_MARKS))
    plain = _TEMPERATURE.sub(
        lambda m: "celsius" if m[1] == "c" else "fahrenheit", plain.replace("^\\circ", "°")
    )
    for match in _PIECE.finditer(plain):
        piece = match.group().rstrip(".")
        if piece in ("/", "per"):
            sign = -1
        elif piece in ("*", "\\cdot"):
            continue
        elif piece in _POWERS:
            if piece in ("squared", "cubed") and last:
                quantity, unit_size, _ = _UNITS[last]
                powers[quantity] = powers.get(quantity, 0) + sign * (_POWERS[piece] - 1)
                size *= unit_size ** (sign * (_POWERS[piece] - 1))
            else:
                pending = _POWERS[piece]
        elif match[1] is not None:
            if last:
                extra = int(match[1]) - 1
                quantity, unit_size, _ = _UNITS[last]
                powers[quantity] = powers.get(quantity, 0) + sign * extra
                size *= unit_size ** (sign * extra)
            elif not words:
                return None
        elif piece in _UNITS and not (piece == "in" and (last or words)):
            quantity, unit_size, _ = _UNITS[piece]
            powers[quantity] = powers.get(quantity, 0) + sign * pending
            size *= unit_size ** (sign * pending)
            last, pending = piece, 1
        elif piece in _NO_UNIT:
            return None
        elif piece.isalpha():
            if piece not in _NEUTRAL:
                words.append(
                    piece[:-1]
                    if piece.endswith("s") and not piece.endswith("ss") and len(piece) > 3
                    else piece
                )
        else:
            return None
    dimension = tuple(sorted((quantity, power) for quantity, power in powers.items() if power))
    return dimension, size, tuple(words)


def is_known(text: str) -> bool:
    """Whether the phrase names a unit of the table."""
    found = read_unit(text)
    return bool(found and found[0])


def is_percent(text: str) -> bool:
    """Whether the phrase is the percent sign or a word for it."""
    return text.strip().strip("\u27e6\u27e7 .").lower() in _PERCENT


def is_single(text: str) -> bool:
    """Whether this could as well be a variable: `m`, `g`, `s`."""
    return text.strip() in _SINGLE or (
        len(text.strip()) == 1 and text.strip().isascii() and text.strip().isalpha()
    )
