"""Whether two expressions are identical: exactly where they are rational, else at enough points of the right kind.

The kind of the points follows from what the expressions hold: integers with common factors, edges and powers for steps, residues and
(-1)^n; signs drawn for each variable; sizes beyond each constant for absolute values and maxima. Two precisions confirm a value.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import lru_cache
from typing import Any

from undo_hpc.grading.evaluate import (
    REAL,
    TEN,
    Env,
    TooLarge,
    Undefined,
    Unreadable,
    exact,
    kinds,
    numeric,
    rational,
    symbols,
)
from undo_hpc.grading.nodes import Node, replace
from undo_hpc.grading.points import CORNERS, STEPS, integral, points

DIGITS, MORE_DIGITS = 40, 90


@lru_cache(maxsize=4)
def _context(digits: int) -> Any:
    import mpmath

    context = mpmath.mp.clone()
    context.dps = digits
    return context


def context(digits: int = DIGITS) -> Any:
    """An mpmath context of this precision; mpmath is imported when first needed."""
    return _context(digits)


@lru_cache(maxsize=8192)
def number(node: Node, digits: int = DIGITS) -> Any:
    """The numerical value of a node without variables (mpmath), or None where it has none or cannot be read."""
    try:
        return numeric(node, {}, context(digits))
    except (Undefined, TooLarge, Unreadable, ValueError, ArithmeticError, TypeError):
        return None


def opaque(node: Node, plain: set[str]) -> Node:
    """The node with each applied name of unknown meaning as one symbol; where the bare name stands as well it is a product."""
    if not isinstance(node, tuple) or not node:
        return node
    if node[0] == "apply":
        arguments = tuple(opaque(a, plain) for a in node[2])
        if node[1] in plain and len(arguments) == 1 and symbols(arguments[0]) and node[1] not in "fF":
            return ("mul", ("sym", node[1]), arguments[0])
        return ("sym", f"{node[1]}{arguments!r}")
    return tuple(opaque(part, plain) if isinstance(part, tuple) else part for part in node)


def identical(a: Node, b: Node) -> bool | None:
    """Whether two expressions are equal for all values of their variables; None where that cannot be told here."""
    if a == b:
        return True
    held = kinds(a) | kinds(b)
    if "infty" in held:
        return _series(a, b) if "big" in held else _infinite(a, b)
    if "apply" in held:
        plain = {name for name in symbols(a) | symbols(b) if "(" not in name}
        a, b = opaque(a, plain), opaque(b, plain)
        if a == b:
            return True
    if "opaque" in held:
        return None
    names = sorted(symbols(a) | symbols(b))
    if not names:
        return _constants(a, b, held)
    if len(names) > 12:
        return None
    said = _sampled(a, b, names, held)
    return False if said is None and any("∑" in name for name in names) else said  # terms with an index


def _series(a: Node, b: Node) -> bool | None:
    """Infinite sums in variables, compared by their first terms at small values, where power series converge fast."""
    names = sorted(symbols(a) | symbols(b))
    if not names or any("∑" in name for name in names):
        return None
    a, b = (replace(node, ("const", "infty"), ("num", Fraction(60), None)) for node in (a, b))
    mp, doubt = context(), False
    for i in range(4):
        env: Env = {name: Fraction(7 + i + 3 * k, 97) * (-1) ** (i + k) for k, name in enumerate(names)}
        try:
            x, y = (numeric(node, env, mp) for node in (a, b))
        except (Undefined, TooLarge, Unreadable, ArithmeticError, ValueError, TypeError):
            return None
        gap = abs(x - y) / max(abs(x), abs(y), mp.mpf(10) ** -20)
        if gap > 1e-6:
            return False
        doubt |= bool(gap > 1e-15)
    return None if doubt else True


def _infinite(a: Node, b: Node) -> bool | None:
    """Infinity equals itself with its sign, and no other expression."""
    signs = [1 if n == ("const", "infty") else -1 if n == ("neg", ("const", "infty")) else 0 for n in (a, b)]
    return signs[0] == signs[1] if any(signs) else None


def _constants(a: Node, b: Node, held: set[str]) -> bool | None:
    x, y = rational(a), rational(b)
    if x is not None and y is not None:
        return x == y
    try:
        for env in ({TEN: Fraction(1)}, {}) if "log" in held else ({},):
            if _near(a, b, env):
                return True
    except (TooLarge, Unreadable):
        return None
    except (Undefined, ArithmeticError, ValueError, TypeError):
        return False if not {"big"} & held else None
    return False


def _near(a: Node, b: Node, env: Env) -> bool:
    """Whether two values agree in two precisions, relative to their size."""
    for digits in (DIGITS, MORE_DIGITS):
        mp = context(digits)
        x, y = numeric(a, env, mp), numeric(b, env, mp)
        size = max(abs(x), abs(y))
        if not mp.isfinite(size):
            raise Undefined("not finite")
        if size > mp.mpf(10) ** (-digits // 2) and abs(x - y) > size * mp.mpf(10) ** (-digits * 3 // 5):
            return False
    return True


def _sampled(a: Node, b: Node, names: list[str], held: set[str]) -> bool | None:
    """Agreement at points. Where the real points say nothing (all roots are complex), complex values are allowed."""
    complex_values = "i" in held
    for env in ({}, {TEN: Fraction(1)}) if "log" in held else ({},):
        for mode in (env,) if complex_values else (env | {REAL: True}, env):
            said = _agree(a, b, names, held, mode)
            if said is True:
                return True
            if said is False:
                break
            if said == "unreadable":
                return None
    return False if said is False else None


def _agree(a: Node, b: Node, names: list[str], held: set[str], mode: Env) -> bool | str | None:
    both = one = large = 0
    wanted = 40 if held & STEPS else 30 if held & CORNERS else 6
    for point in points(a, b, names, held):
        env = mode | point
        try:
            same = _at(a, b, env)
        except TooLarge:
            large += 1
            if large > 12:
                break
            continue
        except Unreadable:
            return "unreadable"
        if same is None:
            continue
        if same == "one":
            one += 1
            continue
        if not same:
            return False
        both += 1
        if both >= wanted and not (one and held & CORNERS):
            break
    if one > 2 and (held & CORNERS or (one * 3 > both and integral(names, held, a, b))):
        return False  # ln |x| is not ln x
    return True if both >= min(3, wanted) else None


def _at(a: Node, b: Node, env: Env) -> bool | str | None:
    """Agreement at one point; None where neither has a value there, 'one' where only one has."""
    values: list[Any] = []
    for node in (a, b):
        try:
            values.append(exact(node, env))
        except (Undefined, ZeroDivisionError):
            values.append(None)
    if None not in values:
        return bool(values[0] == values[1])
    defined = []
    for node in (a, b):
        try:
            numeric(node, env, context())
            defined.append(True)
        except (Undefined, ArithmeticError):
            defined.append(False)
        except (ValueError, TypeError) as error:
            if isinstance(error, (TooLarge, Unreadable)):
                raise
            defined.append(False)
    if not all(defined):
        return "one" if any(defined) else None
    return _near(a, b, env)


def proportional(a: Node, b: Node, sign: bool = False) -> bool | None:
    """Whether a is a constant times b (a positive one, if `sign`): how two equations, or inequalities, are the same."""
    held = kinds(a) | kinds(b)
    plain = {name for name in symbols(a) | symbols(b) if "(" not in name}
    a, b = opaque(a, plain), opaque(b, plain)
    names = sorted(symbols(a) | symbols(b))
    if any("∑" in name for name in names):
        return False
    if not names or "infty" in held:
        return None
    ratio, seen = None, 0
    mp = context()
    for point in points(a, b, names, held):
        try:
            x, y = numeric(a, point, mp), numeric(b, point, mp)
        except (Undefined, TooLarge, ArithmeticError):
            continue
        except (ValueError, TypeError):
            return None
        tiny = mp.mpf(10) ** -25
        if abs(x) < tiny or abs(y) < tiny:
            if (abs(x) < tiny) != (abs(y) < tiny):
                return False
            continue
        here = x / y
        if ratio is None:
            ratio = here
        elif abs(here - ratio) > abs(ratio) * mp.mpf(10) ** -20:
            return False
        seen += 1
        if seen >= 8:
            break
    if ratio is None or seen < 3:
        return None
    return not (sign and (mp.im(ratio) or ratio < 0))


def same_roots(a: Node, b: Node) -> bool | None:
    """Whether two equations that are linear in one of their variables have the same solutions: y = 1/x and xy = 1."""
    names = sorted(symbols(a) & symbols(b))
    if symbols(a) != symbols(b):
        return False
    mp = context()
    for name in names:
        others = [n for n in names if n != name]
        draw, seen = random.Random(5), 0
        for _ in range(12):
            env: Env = {n: Fraction(draw.choice((1, -1)) * draw.randint(30, 400), 97) for n in others}
            try:
                roots = []
                for node in (a, b):
                    values = [numeric(node, env | {name: Fraction(v)}, mp) for v in (2, 3, 5)]
                    slope = values[1] - values[0]
                    if (
                        abs(values[2] - values[1] - 2 * slope) > mp.mpf(10) ** -25 * (1 + abs(slope))
                        or abs(slope) < mp.mpf(10) ** -25
                    ):
                        break
                    roots.append(2 - values[0] / slope)
            except (Undefined, TooLarge, ArithmeticError):
                continue
            except (ValueError, TypeError):
                return None
            if len(roots) < 2:
                break
            if abs(roots[0] - roots[1]) > mp.mpf(10) ** -20 * (1 + abs(roots[0])):
                return False
            seen += 1
        if seen >= 4:
            return True
    return None


def approximates(value: Fraction, places: int | None, node: Node) -> bool:
    """Whether a decimal with seven significant digits or more is an exact value, rounded or cut off at its last place."""
    if value.numerator.bit_length() > 4000 or (places or 0) > 1000:
        return False
    digits = len(str(abs(value.numerator * 10 ** (places or 0) // value.denominator)).lstrip("0"))
    if not places or digits < 7:
        return False
    target = number(node)
    if target is None or context().im(target):
        return False
    mp = context()
    return bool(
        abs(mp.mpf(value.numerator) / value.denominator - target) < mp.mpf(10) ** -places
    ) and math.isfinite(target)
