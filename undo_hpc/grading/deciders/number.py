"""Two plain quantities: exact comparison, with percent, currency and units."""

from __future__ import annotations

import re
from fractions import Fraction

from undo_hpc.grading import units
from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare
from undo_hpc.grading.numbers import Quantity, read

_GLUED = re.compile(r"([-+]?[\d.,]+)([a-zA-Z])")
_TEMPERATURE = re.compile(r"(?:(?:°|\^?\s*\\circ|degrees?)?[\s\u27e6]*(?:c|f|celsius|fahrenheit))")
LONG_ENOUGH = 6  # significant digits from which a decimal may stand for an exact value


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Both are plain quantities: equal where the values are, and no unit contradicts."""
    a, b = gold.quantity, pred.quantity
    if (a is None) != (b is None):
        a, b = a or _glued(gold.clean, b), b or _glued(pred.clean, a)
    if a is None or b is None:
        return None
    factor = conversion(a.unit, b.unit)
    if factor is None:
        return False
    if a.percent != b.percent:
        bare, percent = (b, a) if a.percent else (a, b)
        if units.is_known(bare.unit):
            return False
        return bare.value in (percent.value, percent.value / 100)
    return same_value(a, b, factor)


def _glued(text: str, other: Quantity | None) -> Quantity | None:
    """`6h`, which alone could be a product, as a quantity where the other side has a unit of that dimension: `6 hours`."""
    match = _GLUED.fullmatch(text)
    if not match or other is None or not units.is_known(other.unit):
        return None
    mine, theirs = units.read_unit(match[2]), units.read_unit(other.unit)
    return read(f"{match[1]} {match[2]}") if mine and theirs and mine[0] == theirs[0] else None


def conversion(gold_unit: str, pred_unit: str) -> Fraction | None:
    """What the predicted value is to be multiplied with; None where the units contradict each other."""
    if not gold_unit or not pred_unit or gold_unit == pred_unit:
        return Fraction(1)
    a, b = units.read_unit(gold_unit), units.read_unit(pred_unit)
    if a is None or b is None:
        return Fraction(1)
    if any(x in a[2] and y in b[2] for x, y in units.OPPOSITES):
        return None
    if a[0] and b[0] and a[0] != b[0]:
        return Fraction(1) if _share_a_name(gold_unit, pred_unit) else None
    if a[0] and b[0]:
        return b[1] / a[1]
    if not a[0] and not b[0] and a[2] and b[2] and not set(a[2]) & set(b[2]):
        return None
    return Fraction(1)


def _share_a_name(gold_unit: str, pred_unit: str) -> bool:
    """Units that one name stands for: pounds of money and of mass, degrees of an angle and of a temperature."""
    names = {unit.strip("^{}\u27e6\u27e7 ").lower() for unit in (gold_unit, pred_unit)}
    if "£" in names:
        return bool(names & {"pound", "pounds"})
    return bool(names & {"°", "\\circ", "degree", "degrees"}) and any(
        _TEMPERATURE.fullmatch(name) for name in names
    )


def same_value(a: Quantity, b: Quantity, factor: Fraction = Fraction(1)) -> bool:
    """Exact equality, or a long decimal that stands for the other's exact value."""
    left, right = a.value, b.value * factor
    if left == right:
        return True
    if a.decimals is not None and b.decimals is not None:
        places = min(a.decimals, b.decimals)
        return (
            places >= LONG_ENOUGH
            and abs(left - right) <= Fraction(1, 10**places)
            and min(a.significant, b.significant) >= LONG_ENOUGH
        )
    if a.decimals is None and b.decimals is None:
        return False
    rounded, precise = (a, b) if a.decimals is not None else (b, a)
    if precise.value.denominator == 1:
        return False
    return stands_for(rounded, left - right, precise.value)


def stands_for(rounded: Quantity, difference: Fraction, precise: Fraction) -> bool:
    """Whether a decimal is the other value rounded or cut at its last digit, and has digits enough for that to mean something."""
    if rounded.decimals is None or rounded.decimals < 4 or rounded.significant < LONG_ENOUGH or precise == 0:
        return False
    return abs(difference) < Fraction(1, 10**rounded.decimals)
