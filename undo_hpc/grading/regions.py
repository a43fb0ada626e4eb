"""Sets of real numbers as formulas: what holds at every telling number is the same set.

A formula is ('rel', operators, sides) in `VARIABLE`, ('every', *formulas), ('any', *formulas), ('none', formula), or ('whole', least): the
integers from `least` on. Two formulas are compared at their critical numbers, beside and between them, and on a grid.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

from undo_hpc.grading.evaluate import NO_VALUE, REAL, Env, context, evaluate, rational
from undo_hpc.grading.identity import linear_root, opaque
from undo_hpc.grading.values import Node, symbols, walk

VARIABLE: Node = ("sym", "\0x")
INFINITY: Node = ("const", "infty")
MINUS_INFINITY: Node = ("neg", INFINITY)
REALS: Node = ("every",)
NOTHING: Node = ("any",)
_DRAWS = 6  # of other variables, so that endpoints come in any order
_GRID = sorted([Fraction(k * abs(k), 7) + Fraction(1, 1009) for k in range(-30, 31)] + [Fraction(k) for k in range(-20, 21)])  # fmt: skip


def between(low: Node, high: Node, brackets: str) -> Node:
    """The formula of an interval; infinite ends are open."""
    below, above = ("le" if bracket in "[]" else "<" for bracket in brackets)
    parts: list[Node] = [("rel", (below,), (low, VARIABLE))] if low != MINUS_INFINITY else []
    return ("every", *parts, *([("rel", (above,), (VARIABLE, high))] if high != INFINITY else []))


def holds(formula: Node, env: Env) -> bool:
    """Whether a formula holds where its variables have these values; a relation without a value does not."""
    kind, *parts = formula
    if kind in ("every", "any"):
        return (all if kind == "every" else any)(holds(part, env) for part in parts)
    if kind == "none":
        return not holds(parts[0], env)
    if kind == "whole":
        x = context().convert(env[VARIABLE[1]])
        return abs(x - context().nint(x)) < 1e-20 and x >= parts[0]
    values = [real(side, env) for side in parts[1]]
    pairs = zip(parts[0], pairwise(values), strict=True)
    return None not in values and all(_ordered(o, a, b) for o, (a, b) in pairs)


def real(node: Node, env: Env) -> Any:
    """The value of a node as a real number, or None."""
    try:
        value = context().convert(evaluate(node, env | {REAL: True}))
    except NO_VALUE:
        return None
    return None if context().im(value) else context().re(value)


def _ordered(operator: str, a: Any, b: Any) -> bool:
    same = abs(a - b) <= context().mpf(10) ** -22 * (1 + abs(a))
    return {"=": same, "ne": not same, "<": a < b and not same, "le": a < b or same}.get(operator, False)


def _grid(formula: Node) -> list[Any]:
    """Numbers of all sizes, those around the numbers of a formula and around their roots among them, on both sides of zero."""
    found = {abs(rational(part) or Fraction(0)) for part in walk(formula) if part[0] in ("num", "pow")}
    large = sorted(v for v in found if 20 < v < 10**15)[:6]
    sizes = [
        Fraction(v) * k / 100 for n in large for v in (n, math.isqrt(int(n))) for k in (50, 99, 101, 200)
    ]
    return sorted([*_GRID, *sizes, *(-size for size in sizes)])


def _critical(formula: Node, env: Env) -> Iterator[Any]:
    """The numbers at which the truth of a formula may change: ends, and roots by bisection between points of the grid."""
    for left, right in (sides for part in walk(formula) if part[0] == "rel" for sides in pairwise(part[2])):
        if VARIABLE in (left, right):
            yield real(right if left == VARIABLE else left, env)
        difference: Node = ("add", left, ("neg", right))
        root = linear_root(difference, VARIABLE[1], env)
        yield root
        grid = _grid(formula)
        values = [real(difference, env | {VARIABLE[1]: x}) for x in grid] if root is None else []
        for (a, below), (b, above) in pairwise(zip(grid, values, strict=False)):
            if None not in (below, above) and below * above <= 0:
                for _ in range(120):
                    middle = (context().convert(a) + b) / 2
                    said = real(difference, env | {VARIABLE[1]: middle})
                    a, b = (middle, b) if said is not None and said * below > 0 else (a, middle)
                yield context().convert(b)


def _probes(formulas: tuple[Node, ...], env: Env) -> list[Any]:
    ordered = sorted({value for f in formulas for value in _critical(f, env) if value is not None})
    gap = context().mpf(10) ** -12
    beside = [end + side * (1 + abs(end)) for end in ordered for side in (-gap, gap, -1e-3, 1e-3)]
    return [*_grid(formulas), *ordered, *beside, *((a + b) / 2 for a, b in pairwise(ordered))]


def same_region(a: Node, b: Node) -> bool | None:
    """Whether two formulas hold for the same numbers, whatever the values of their other variables; None where a side never has a value."""
    a, b = opaque(a), opaque(b)
    sides = [side for part in walk((a, b)) if part[0] == "rel" for side in part[2]]
    others = sorted((symbols(a) | symbols(b)) - {VARIABLE[1]})
    if (symbols(a) ^ symbols(b)) - {VARIABLE[1]}:
        return False
    draw = random.Random(3)
    for _ in range(_DRAWS if others else 1):
        env: Env = {name: Fraction(draw.randint(-400, 400), 97) for name in others}
        probed = [{**env, VARIABLE[1]: x} for x in _probes((a, b), env)]
        if not all(any(real(side, here) is not None for here in probed) for side in sides):
            return None
        if any(holds(a, here) != holds(b, here) for here in probed):
            return False
    return True
