"""The points at which two expressions are compared: which kind of points follows from what the expressions hold."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from undo_hpc.grading.evaluate import Env, rational, symbols
from undo_hpc.grading.nodes import Node

STEPS = frozenset(("floor", "ceil", "gcd", "lcm", "mod", "fact", "fact2", "binom", "big"))
_POSITIVE = frozenset(("gcd", "lcm", "fact", "fact2", "binom", "big"))
CORNERS = frozenset(("abs", "max", "min", "sgn"))
_INTEGER_NAMES = frozenset("ijklmnpqNMK")
_SIZES = (Fraction(3, 7), Fraction(17, 9), Fraction(71, 11), Fraction(523, 13), Fraction(20011, 17))
_FACTORED = (1, 2, 3, 4, 6, 8, 9, 12, 15, 16, 20, 30, 36, 60)
_TELLING = (16, 17, 24, 25, 26, 27, 31, 32, 36, 48, 49, 63, 64, 65, 81, 99, 100, 120)


def integral(names: list[str], held: set[str], a: Node, b: Node) -> bool:
    """Whether the variables stand for integers: residues, factorials, (-1)^n, steps of a name that is one by custom."""
    if held & (_POSITIVE | {"mod"}) or _alternates(a) or _alternates(b):
        return True
    return bool(held & STEPS) and all(name[:1] in _INTEGER_NAMES for name in names)


def points(a: Node, b: Node, names: list[str], held: set[str]) -> Iterator[Env]:
    """The points at which two expressions are compared, the most telling first."""
    draw = random.Random(len(names))
    constants = sorted({abs(int(c)) for c in _numbers(a) | _numbers(b) if 20 < abs(c) < 10**7})[:4]
    edges = [c + d for c in constants for d in (-1, 0, 1)] + [2 * c for c in constants]
    if integral(names, held, a, b):
        low = [] if held & _POSITIVE else [0, -1, -2, -5]
        values = [*range(1, 14), *low, *edges, *_TELLING]
        if len(names) == 1:
            yield from ({names[0]: Fraction(v)} for v in values)
            return
        small = list(itertools.islice(itertools.product(_FACTORED[:6], repeat=len(names)), 300))
        draw.shuffle(small)
        for i in range(70):
            pool = _FACTORED if i % 2 else values
            point = small[i // 2 % len(small)] if i % 4 == 0 else tuple(draw.choice(pool) for _ in names)
            yield {name: Fraction(v) for name, v in zip(names, point, strict=True)}
        return
    count = 120 if held & (CORNERS | STEPS) else 24
    for i in range(count):
        point_sizes = [draw.choice(_SIZES) if i % 3 else _SIZES[min(i // 3 % 5, 3)] for _ in names]
        signs = [draw.choice((1, -1)) if i % 4 else 1 for _ in names]
        if held & STEPS and i % 2:
            yield {n: Fraction(s * draw.randint(1, 40)) for n, s in zip(names, signs, strict=True)}
        elif edges and i % 5 == 4:
            yield {n: s * (draw.choice(edges) + Fraction(1, 3)) for n, s in zip(names, signs, strict=True)}
        else:
            yield {
                n: s * (size + Fraction(draw.randint(1, 96), 97))
                for n, s, size in zip(names, signs, point_sizes, strict=True)
            }


def _numbers(node: Node) -> set[Fraction]:
    found: set[Fraction] = set()
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == "num":
                found.add(item[1])
            else:
                stack.extend(item)
    return found


def _alternates(node: Node) -> bool:
    """Whether a negative number is raised to a power with a variable in it."""
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == "pow" and symbols(item[2]):
                base = rational(item[1])
                if base is not None and base < 0:
                    return True
            stack.extend(item)
    return False
