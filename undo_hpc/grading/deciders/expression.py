"""Expressions: exact identity at random rational points, else numeric identity in two precisions. Nothing is simplified."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare, OutOfBounds
from undo_hpc.grading.deciders.number import LONG_ENOUGH, conversion
from undo_hpc.grading.evaluate import REAL, Env, TooLarge, Undefined, exact, numeric
from undo_hpc.grading.syntax import Node, holds, symbols

_POINTS = 5
_INFINITE = (("const", "infty"), ("neg", ("const", "infty")))
_LOW, _HIGH = 30, 120  # decimal digits: a first look, and the confirmation


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Both parse: equal where they agree at every point at which both have a value. Raises OutOfBounds where sizes explode."""
    a, b = gold.node, pred.node
    if a is None or b is None:
        return None
    factor = conversion(gold.body_and_unit[1], pred.body_and_unit[1])
    if factor is None:
        return False
    a, b = (
        _in_radians(a, gold.body_and_unit[1], b, pred.body_and_unit[1]),
        _in_radians(b, pred.body_and_unit[1], a, gold.body_and_unit[1]),
    )
    if factor != 1:
        b = ("mul", b, ("num", factor, None))
    if len(symbols(a) | symbols(b)) > 12:
        raise OutOfBounds("more than twelve variables")
    return identical(a, b)


def _in_radians(node: Node, unit: str, other: Node, other_unit: str) -> Node:
    """Degrees are turned into radians where the other side has none and is a multiple of pi."""
    if (
        other_unit
        or unit.strip("^{} ").lower() not in ("°", "\\circ", "\u27e6degrees\u27e7", "degrees")
        or not holds(other, "const", "pi")
    ):
        return node
    return ("mul", node, ("const", "degree"))


def identical(a: Node, b: Node) -> bool | None:
    """Whether two expressions are one and the same function wherever both are defined; None where that cannot be told."""
    if a == b:
        return True
    names = sorted(symbols(a) | symbols(b))
    if names and any(holds(node, "fn", name) for node in (a, b) for name in ("gcd", "lcm")):
        return None  # of polynomials, not of their values
    if a in _INFINITE or b in _INFINITE:
        return False
    try:
        verdict = _exact_identity(a, b, names)
        if verdict is None:
            verdict = _numeric_identity(a, b, names)
    except TooLarge as error:
        raise OutOfBounds(str(error)) from error
    except (OverflowError, ValueError, ZeroDivisionError):
        return None
    if verdict is False and not names:
        return _rounded(a, b)
    return verdict


def _points(names: list[str], count: int) -> list[Env]:
    draw = random.Random(20240607)
    points = []
    for i in range(count):
        spread = (7, 3, 40, 2, 11)[i % 5]
        signs = (1, -1, 1, 1, -1)[i % 5]
        points.append({name: signs * Fraction(draw.randint(1, 997 * spread), 991) for name in names})
    return points


def _exact_identity(a: Node, b: Node, names: list[str]) -> bool | None:
    agreed = 0
    for env in _points(names, _POINTS if names else 1):
        try:
            left, right = exact(a, env), exact(b, env)
        except Undefined:
            if not names:
                return None
            continue
        if left != right:
            return False
        agreed += 1
    return True if agreed >= (3 if names else 1) else None


def _numeric_identity(a: Node, b: Node, names: list[str]) -> bool | None:
    import mpmath

    readings = [False, True] if holds(a, "fn", "log") or holds(b, "fn", "log") else [False]
    verdict: bool | None = None
    if not names and (_value(a, {}, mpmath, _LOW) is None) != (_value(b, {}, mpmath, _LOW) is None):
        return False
    for log10 in readings:
        verdict = _compare_numbers(a, b, names, mpmath, log10)
        if verdict:
            return True
    return verdict


def _compare_numbers(a: Node, b: Node, names: list[str], mpmath: Any, log10: bool) -> bool | None:
    """Over the reals where there are variables and no i; over the complex numbers where that leaves too few points."""
    points = _points(names, 8 if names else 1)
    imaginary = holds(a, "const", "i") or holds(b, "const", "i")
    for real in (True, False) if names and not imaginary else (False,):
        votes = 0
        for env in points:
            vote = _agree(a, b, env, mpmath, log10, real)
            if vote is False:
                return False
            votes += vote is True
        if votes >= (2 if names else 1):
            return True
    return None


def _agree(a: Node, b: Node, env: Env, mpmath: Any, log10: bool, real: bool) -> bool | None:
    """Whether the values at one point are equal, or None where one of them has no value there."""
    low = _values(a, b, env, mpmath, _LOW, log10, real)
    if low is None:
        return None
    if not _close(low[0], low[1], _LOW - 8) and not _maybe_zero(low, mpmath):
        return False
    high = _values(a, b, env, mpmath, _HIGH, log10, real)
    if high is None:
        return None
    left, right = (_without_residue(h, lo) for h, lo in zip(high, low, strict=True))
    return _close(left, right, _HIGH - 20)


def _values(
    a: Node, b: Node, env: Env, mpmath: Any, digits: int, log10: bool, real: bool = False
) -> tuple[Any, Any] | None:
    left, right = (_value(node, env, mpmath, digits, log10, real) for node in (a, b))
    return None if left is None or right is None else (left, right)


def _value(node: Node, env: Env, mpmath: Any, digits: int, log10: bool = False, real: bool = False) -> Any:
    """The value at a point, or None where there is none."""
    with mpmath.workdps(digits):
        point = {name: mpmath.mpf(value.numerator) / value.denominator for name, value in env.items()}
        if real:
            point[REAL] = mpmath.mpf(1)
        try:
            return +numeric(node, point, mpmath.mp, log10)
        except (Undefined, ZeroDivisionError):
            return None


def _maybe_zero(values: tuple[Any, Any], mpmath: Any) -> bool:
    """A value that may be zero but for rounding is looked at again in higher precision."""
    small = 10 ** -(_LOW - 12)
    return any(abs(v) < small for v in values) and all(abs(v) < small or v == 0 for v in values)


def _without_residue(high: Any, low: Any) -> Any:
    """Zero where the value shrank with the precision: it was rounding error only."""
    return high * 0 if abs(high) <= abs(low) * 1e-50 else high


def _close(a: Any, b: Any, digits: int) -> bool:
    if a == b:
        return True
    scale = max(abs(a), abs(b))
    return bool(abs(a - b) <= scale * type(scale)(10) ** -digits)


def _rounded(a: Node, b: Node) -> bool:
    """A long decimal that stands for the exact value of the other, as 4.123105625617661 for the root of 17."""
    for decimal, other in ((a, b), (b, a)):
        sign = 1
        if decimal[0] == "neg":
            sign, decimal = -1, decimal[1]
        if decimal[0] != "num" or decimal[2] is None or decimal[2][0] < 4 or decimal[2][1] < LONG_ENOUGH:
            continue
        if other[0] == "num" or (other[0] == "neg" and other[1][0] == "num" and other[1][2] is not None):
            continue
        import mpmath

        with mpmath.workdps(_LOW):
            try:
                value = numeric(other, {}, mpmath.mp)
            except (Undefined, TooLarge, ZeroDivisionError, OverflowError, ValueError):
                return False
            mine = sign * mpmath.mpf(decimal[1].numerator) / decimal[1].denominator
            if value == int(mpmath.re(value)):
                return False
            return bool(abs(value - mine) < mpmath.mpf(10) ** -decimal[2][0])
    return False


def constant_ratio(a: Node, b: Node) -> Fraction | float | None:
    """The constant r with a = r * b at all points (exact where both are rational); 0 where there is none, None where undecided."""
    names = sorted(symbols(a) | symbols(b))
    if len(names) > 12:
        return None
    try:
        ratios = []
        for env in _points(names, _POINTS):
            try:
                left, right = exact(a, env), exact(b, env)
            except Undefined:
                continue
            if right == 0 or left == 0:
                if left != right:
                    return Fraction(0)
                continue
            ratios.append(left / right)
        if len(ratios) >= 3:
            return ratios[0] if len(set(ratios)) == 1 else Fraction(0)
        return _numeric_ratio(a, b, names)
    except TooLarge as error:
        raise OutOfBounds(str(error)) from error
    except (OverflowError, ValueError):
        return None


def _numeric_ratio(a: Node, b: Node, names: list[str]) -> float | None:
    import mpmath

    ratios: list[Any] = []
    with mpmath.workdps(_LOW):
        for env in _points(names, 8):
            values = _values(a, b, env, mpmath, _LOW, False)
            if values is None or values[1] == 0:
                continue
            ratios.append(values[0] / values[1])
        if len(ratios) < 2:
            return None
        if (
            all(_close(ratio, ratios[0], _LOW - 10) for ratio in ratios)
            and ratios[0] != 0
            and not mpmath.im(ratios[0])
        ):
            return float(mpmath.re(ratios[0]))
    return 0.0
