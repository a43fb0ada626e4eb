"""Units of measurement: dimension and size from one table; words that are no unit only name what was counted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from undo_hpc.grading.names import word_list, word_set

Dimension = tuple[tuple[str, int], ...]
# symbol : names : size and base units. Base dimensions: m g s A K mol, angle, and one for each currency.
_TABLE = """
m : meter metre : 1 m | g : gram gm : 1 g | s : second sec : 1 s | A : ampere amp : 1 A | K : kelvin : 1 K | mol : mole : 1 mol
L : liter litre l : 1/1000 m3 | N : newton : 1000 g1 m1 s-2 | J : joule : 1000 g1 m2 s-2 | W : watt : 1000 g1 m2 s-3
Pa : pascal : 1000 g1 m-1 s-2 | V : volt : 1000 g1 m2 s-3 A-1 | C : coulomb : 1 A1 s1 | Hz : hertz : 1 s-1
F : farad : 1/1000 g-1 m-2 s4 A2 | Ω : ohm Omega : 1000 g1 m2 s-3 A-2 | T : tesla : 1000 g1 s-2 A-1 | Wb : weber : 1000 g1 m2 s-2 A-1
H : henry : 1000 g1 m2 s-2 A-2 | eV : electronvolt : 801088317/5000000000000000000000000 g1 m2 s-2 | cal : calorie : 4184 g1 m2 s-2
bit : bit : 1 bit | B : byte : 8 bit | Bq : becquerel : 1 s-1 | rad : radian : 1 radian
"""
_PLAIN = """
in : inch inches : 127/5000 m | ft : foot feet : 381/1250 m | yd : yard : 1143/1250 m | mi : mile : 201168/125 m
lb : pound lbs : 45359237/100000 g | oz : ounce : 45359237/1600000 g | ton : tonne : 1000000 g | kgs : kilo : 1000 g
min : minute mins : 60 s | h : hour hr hrs : 3600 s | day : day : 86400 s | week : week wk : 604800 s
month : month : 1 month | yr : year yrs : 12 month | decade : decade : 120 month | century : century centuries : 1200 month
gal : gallon : 473176473/125000000000 m3 | qt : quart : 473176473/500000000000 m3 | pint : pint : 473176473/1000000000000 m3
acre : acre : 316160658/78125 m2 | ha : hectare : 10000 m2 | atm : atmosphere : 101325000 g1 m-1 s-2 | bar : bar : 100000000 g1 m-1 s-2
° : degree deg : 1 degree | celsius : celsius : 1 celsius | fahrenheit : fahrenheit : 1 fahrenheit | dozen : dozen : 12
$ : dollar usd buck : 1 dollar | ¢ : cent : 1/100 dollar | € : euro eur : 1 euro | £ : gbp sterling : 1 sterling
pence : penny : 1/100 sterling | ₹ : rupee rs inr : 1 rupee | ¥ : yen : 1 yen | yuan : rmb : 1 yuan | peso : peso : 1 peso
rev : revolution : 1 turn | rpm : rpm : 1/60 turn1 s-1 | mph : mph : 1397/3125 m1 s-1 | knot : knot : 463/900 m1 s-1
kph : kmh kmph : 5/18 m1 s-1 | nickel : nickel : 1/20 dollar | dime : dime : 1/10 dollar
"""
_PREFIXES = {"k": 3, "c": -2, "m": -3, "d": -1, "M": 6, "G": 9, "T": 12, "μ": -6, "n": -9, "p": -12}
_LONG_PREFIXES = {
    "kilo": 3,
    "centi": -2,
    "milli": -3,
    "deci": -1,
    "mega": 6,
    "giga": 9,
    "micro": -6,
    "nano": -9,
    "hecto": 2,
}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cubed": 3, "cu": 3}
# Words beside a number that say nothing about what it counts.
FILLER = word_set(
    "unit units of the a an total in all about exactly only approximately each more less left way ways per-cent remaining"
)
# With one of these it is no quantity: `3 or more`, `at most 5`.
NO_UNIT = word_set(
    "or and not to but if than when most least except without where for is are was because since so then when while "
    "over by with no none either neither between from until cannot never has have had"
)
_PERCENT = word_set("percent percentage pct % percents")
_OPPOSITE = word_list("profit/loss gain/loss north/south east/west above/below left/right up/down am/pm")
_MONTHS = word_set("january february march april may june july august september october november december")
_PIECE = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|[$€£¥₹¢°%Ω]|\^\s*\(?\s*(-?\d{1,2})\s*\)?|[/*()]")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit phrase: its dimension, its size in base units, and the words that are no unit."""

    dimension: Dimension
    size: Fraction
    words: tuple[str, ...] = ()

    @property
    def percent(self) -> bool:
        """Whether this is the percent sign or a word for it."""
        return self.dimension == (("percent", 1),)


def _parse_table(text: str) -> dict[str, tuple[Fraction, dict[str, int], tuple[str, ...]]]:
    table = {}
    for row in re.split(r"[|\n]", text):
        if row.strip():
            symbol, others, size = (part.strip() for part in row.split(":"))
            value, *bases = size.split()
            powers = {re.sub(r"-?\d+$", "", b): int((re.search(r"-?\d+$", b) or ["1"])[0]) for b in bases}
            table[symbol] = (Fraction(value), powers, tuple(others.split()))
    return table


def _build() -> tuple[dict[str, tuple[Fraction, dict[str, int]]], dict[str, tuple[Fraction, dict[str, int]]]]:
    """(symbols, whose case counts; names in lower case)."""
    symbols: dict[str, tuple[Fraction, dict[str, int]]] = {}
    words: dict[str, tuple[Fraction, dict[str, int]]] = {}
    for symbol, (size, powers, others) in _parse_table(_TABLE).items():
        for prefix, exponent in _PREFIXES.items():
            symbols[prefix + symbol] = (size * Fraction(10) ** exponent, powers)
        for name in others:
            for prefix, exponent in _LONG_PREFIXES.items():
                words[prefix + name] = words[prefix + name + "s"] = (size * Fraction(10) ** exponent, powers)
    for symbol, (size, powers, others) in (_parse_table(_TABLE) | _parse_table(_PLAIN)).items():
        symbols[symbol] = (size, powers)
        for name in others:
            words[name] = (size, powers)
            words.setdefault(name + "s", (size, powers))
    for symbol in word_list("ft in hr min kg cm mm km ml sec gal mi yd oz lb day cal"):
        words.setdefault(
            symbol, symbols.get(symbol) or symbols["mL"]
        )  # CM, Km, ML: where the case says nothing
        words.setdefault(symbol + "s", words[symbol])
    symbols["ml"], symbols["l"] = symbols["mL"], symbols["L"]
    return symbols, words


_SYMBOLS, _WORDS = _build()
SINGLE = frozenset(name for name in _SYMBOLS if len(name) == 1 and name.isalpha()) - {"F", "T", "H"}


def _find(piece: str) -> tuple[Fraction, dict[str, int]] | None:
    return _SYMBOLS.get(piece) or _WORDS.get(piece.lower())


def known(word: str) -> bool:
    """Whether this word alone names a unit, or percent."""
    return _find(word) is not None or word.lower() in _PERCENT or word.lower() in _POWERS


@lru_cache(maxsize=4096)
def read(text: str) -> Unit | None:
    """A unit phrase, or None where the words make it no quantity. `square feet` and `ft^2` are the same.

    Words that are no unit (`apples`) are kept in the singular, for they contradict other words.
    """
    powers: dict[str, int] = {}
    size = Fraction(1)
    words: list[str] = []
    sign, pending, last, group, side = 1, 1, None, False, 1
    pieces = list(_PIECE.finditer(text))
    for i, match in enumerate(pieces):
        piece = match.group()
        low = piece.lower()
        if (
            low.rstrip("s") in ("°", "degree")
            and i + 1 < len(pieces)
            and pieces[i + 1].group().lower()[:1] in "cf"
            and sign == 1
        ):
            continue  # degrees Celsius
        if piece == "/" or low == "per":
            sign, last = -1, None
        elif piece == "(":
            group = True
        elif piece == ")":
            sign, group = 1, False
        elif piece == "*":
            sign = sign if group else 1
        elif low in _PERCENT:
            powers["percent"] = 1
        elif low in ("squared", "cubed") and last:
            size = _multiply(powers, size, last, side * (_POWERS[low] - 1))
        elif low in _POWERS:
            pending = _POWERS[low]
        elif match[1] is not None:
            if not last:
                return None
            size = _multiply(powers, size, last, side * (int(match[1]) - 1))
        elif low in ("c", "f") and i and pieces[i - 1].group().lower().rstrip("s") in ("°", "degree"):
            powers["celsius" if low == "c" else "fahrenheit"] = 1
        elif low in _MONTHS:
            return None
        elif (found := _find(piece)) and not (
            low == "in" and sign == 1 and (last or words or not _alone(pieces, i))
        ):
            size = _multiply(powers, size, found, sign * pending)
            last, pending, side = found, 1, sign
            sign = sign if group else 1
        elif low in NO_UNIT:
            return None
        elif low not in FILLER:
            words.append(low[:-1] if low.endswith("s") and not low.endswith("ss") and len(low) > 3 else low)
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), size, tuple(words))


def _alone(pieces: list[re.Match[str]], i: int) -> bool:
    """Whether `in` can be inches here: nothing behind it but a power or a slash."""
    return i + 1 >= len(pieces) or pieces[i + 1].group()[0] in "^/*)"


def _multiply(
    powers: dict[str, int], size: Fraction, unit: tuple[Fraction, dict[str, int]], power: int
) -> Fraction:
    for name, exponent in unit[1].items():
        powers[name] = powers.get(name, 0) + exponent * power
    return size * unit[0] ** power


def conversion(a: Unit, b: Unit) -> Fraction | None:
    """The factor from `a` to `b`; None where they contradict each other. A phrase of mere words has no dimension and factor 1."""
    if a.dimension and b.dimension:
        if a.dimension != b.dimension:
            return None
        return a.size / b.size if not _contradict(a.words, b.words, False) else None
    if a.dimension or b.dimension:
        return None if a.words or b.words else Fraction(1)
    return None if _contradict(a.words, b.words, True) else a.size / b.size


def _contradict(a: tuple[str, ...], b: tuple[str, ...], strict: bool) -> bool:
    pairs = [pair.split("/") for pair in _OPPOSITE]
    if any((x in a and y in b) or (y in a and x in b) for x, y in pairs):
        return True
    return strict and bool(a) and bool(b) and not (set(a) <= set(b) or set(b) <= set(a))
