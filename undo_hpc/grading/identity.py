"""Whether two expressions are identical: exactly where they are rational, else at enough points of the right kind.

The kind of the points follows from what the expressions hold: integers with common factors, edges and powers for steps, residues and
(-1)^n; signs drawn for each variable; sizes beyond each constant for absolute values and maxima. Two precisions confirm a value.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from undo_hpc.grading.evaluate import (
    LARGE,
    NO_VALUE,
    REAL,
    TEN,
    Env,
    TooLarge,
    Unreadable,
    context,
    evaluate,
    number,
    rational,
)
from undo_hpc.grading.tables import word_set
from undo_hpc.grading.values import Node, kinds, num, symbols, walk

DIGITS, MORE_DIGITS = 40, 90
STEPS = word_set("floor ceil gcd lcm mod fact fact2 binom big")
CORNERS = word_set("abs max min sgn")
_LOGARITHMS = word_set("ln log lg")
_POSITIVE = STEPS - {"floor", "ceil", "mod"}
_INTEGER_NAMES = frozenset("ijklmnpqNMK")
_SIZES = (Fraction(3, 7), Fraction(17, 9), Fraction(71, 11), Fraction(523, 13), Fraction(20011, 17))
_FACTORED = (1, 2, 3, 4, 6, 8, 9, 12, 15, 16, 20, 30, 36, 60)
_TELLING = (16, 17, 24, 25, 26, 27, 31, 32, 36, 48, 49, 63, 64, 65, 81, 99, 100, 120)


def opaque(node: Any) -> Any:
    """The node with each applied name of unknown meaning as one symbol."""
    if not isinstance(node, tuple) or not node:
        return node
    if node[0] == "apply":  # without backslashes: escapes would double at each level
        return ("sym", f"{node[1]}{tuple(map(opaque, node[2]))!r}".replace("\\", ""))
    return tuple(map(opaque, node))


def identical(a: Node, b: Node) -> bool | None:
    """Whether two expressions are equal for all values of their variables; None where that cannot be told here."""
    if a == b:
        return True
    held = kinds(a) | kinds(b)
    if "infty" in held:  # infinity equals itself with its sign, and no other expression
        signs = [{("const", "infty"): 1, ("neg", ("const", "infty")): -1}.get(node, 0) for node in (a, b)]
        return signs[0] == signs[1] if any(signs) else None
    if "apply" in held:
        a, b = opaque(a), opaque(b)
    names = sorted(symbols(a) | symbols(b))
    if "opaque" in held or len(names) > 12:
        return True if a == b else None
    if not names and None not in (exact := (rational(a), rational(b))):
        return exact[0] == exact[1]
    said: bool | None = None
    for env in ({}, {TEN: True}) if "log" in held else ({},):
        said = _sampled(a, b, names, held, env) if names else _constants(a, b, env)
        if said is not False:
            break
    return False if said is None and any("∑" in name for name in names) else said


def _constants(a: Node, b: Node, env: Env) -> bool | None:
    try:
        return _near(a, b, env)
    except TooLarge:
        return False if LARGE not in env and _constants(a, b, env | {LARGE: True}) is False else None
    except Unreadable:
        return None
    except NO_VALUE:
        return None if "big" in kinds(a) | kinds(b) else False


def _near(a: Node, b: Node, env: Env, other: Env | None = None) -> bool:
    """Whether two values are the same: exactly, or in two precisions relative to their size. `other`: where `b` is evaluated.

    Both are zero where they are tiny and shrink with the precision, as what is left of a difference does; e^-1000 stays what it is.
    """
    size: Any = 0
    for digits in (DIGITS, MORE_DIGITS):
        mp = context(digits)
        x, y = evaluate(a, env, mp), evaluate(b, other or env, mp)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return x == y
        x, y = mp.convert(x), mp.convert(y)
        size, before = max(abs(x), abs(y)), size
        told = size > mp.mpf(10) ** (-digits // 2) or abs(size - before) < size / 2
        if told and abs(x - y) > size * mp.mpf(10) ** (-digits * 3 // 5):
            return False
    return True


def _sampled(a: Node, b: Node, names: list[str], held: frozenset[str], env: Env) -> bool | None:
    """Agreement at points. Where the real points say nothing (all roots are complex), complex values are allowed."""
    for mode in (env,) if "i" in held else (env | {REAL: True}, env):
        if (said := _agree(a, b, names, held, mode)) is not None:
            return said
    return None


def _agree(a: Node, b: Node, names: list[str], held: frozenset[str], mode: Env) -> bool | None:
    both = one = hidden = least = 0
    whole, compared, missed = integral(names, a, b), set[tuple[Any, ...]](), set[tuple[Any, ...]]()
    wanted = 40 if held & STEPS else 30 if held & CORNERS else 6
    for point in points(a, b, names, held):
        for env in (mode | point, mode | point | {LARGE: True}):
            defined = [_defined(node, env) for node in (a, b)]
            if None not in defined:
                break
        apart = False in defined and True in defined
        if apart and _by_custom((a, b)[defined.index(False)], (a, b)[defined.index(True)], point):
            least = 6
            continue
        hidden += None in defined and True in defined
        one += apart
        told = missed if apart else compared if all(defined) else set()
        told.add(tuple(point[name] for name in whole))
        try:
            even = all(defined) and held & _LOGARITHMS and _even_once(a, b, names, env)
            if even or (all(defined) and not _near(a, b, env)):
                return False
            if apart and REAL in env and not held & _LOGARITHMS:  # roots taken apart differ in sign at most
                hidden += not _near(("fn", "abs", (a,), None), ("fn", "abs", (b,), None), point)
        except NO_VALUE:
            continue
        both += all(defined) and LARGE not in env
        if both >= wanted and not (one and held & CORNERS):
            break
    if one > 2 and (held & CORNERS or (one * 3 > both and whole == names)):
        return False  # ln |x| is not ln x
    if held & _LOGARITHMS:  # 0 ln(4 - n) leaves three integers
        hidden += len(missed - compared)
    enough = both >= (least or min(3, wanted))
    return True if enough and not hidden else None  # what one side hides is not compared


def _by_custom(without: Node, other: Node, point: Env) -> bool:
    """Whether a side is 0 at a point by a binomial of which more are chosen than there are: n!/(k!(n-k)!) has no value there, and is the same."""
    written = "fact" in kinds(without) and "binom" not in kinds(without) and "binom" in kinds(other)
    return written and evaluate(other, point) == 0


def _even_once(a: Node, b: Node, names: list[str], env: Env) -> bool:
    """Whether one side is even in a variable for whose negative the other has no value: ln(x^2) is not 2 ln x."""
    for name in names:
        mirrored = env | {name: -env[name]}
        defined = [node for node in (a, b) if _defined(node, mirrored) is not False]
        if len(defined) == 1 and _near(defined[0], defined[0], env, mirrored):
            return True
    return False


def _defined(node: Node, env: Env) -> bool | None:
    """Whether there is a value; None where it cannot be computed."""
    try:
        evaluate(node, env)
    except (TooLarge, Unreadable):
        return None
    except NO_VALUE:
        return False
    return True


@lru_cache(maxsize=1024)
def _stepped(node: Node) -> frozenset[tuple[str, str]]:
    """The variables within steps, residues, factorials, ends of sums and exponents of negative numbers, each with the kind of these."""
    return frozenset((name, kind) for part in walk(node) for kind in part[part[0] == "fn" :][:1]
                     if kind in STEPS or (kind == "pow" and (rational(part[1]) or 0) < 0)
                     for name in symbols(part[3:5] if kind == "big" else part[1:]))  # fmt: skip


def integral(names: list[str], a: Node, b: Node) -> list[str]:
    """The variables that stand for integers: in residues, factorials, (-1)^n, or by custom beside these; in steps, where all do by custom."""
    custom, sides = [name for name in names if name[:1] in _INTEGER_NAMES], (_stepped(a), _stepped(b))
    # where one side alone has the factorial of another name, real points tell more: x! - x! + x is x
    told = {n for n, kind in sides[0] | sides[1] if kind not in ("floor", "ceil") and (
        n in custom or kind not in ("fact", "binom") or all(n in dict(side) for side in sides))}  # fmt: skip
    return sorted(told.union(custom)) if told else names if any(sides) and custom == names else []


def points(a: Node, b: Node, names: list[str], held: frozenset[str]) -> Iterator[Env]:
    """The points at which two expressions are compared, the most telling first."""
    draw = random.Random(len(names))
    constants = sorted({abs(int(p[1])) for p in walk((a, b)) if p[0] == "num" and 20 < abs(p[1]) < 10**7})[:4]
    edges = [c + d for c in constants for d in (-1, 0, 1)] + [2 * c for c in constants]
    if whole := integral(names, a, b):
        inside = _stepped(a) | _stepped(b)
        signed = [] if any(kind in _POSITIVE for _, kind in inside) else [0, -1, -2, -5]
        values = [*range(1, 14), *signed, *edges, *_TELLING]
        small = list(itertools.islice(itertools.product(_FACTORED[:6], repeat=len(names)), 300))
        draw.shuffle(small)
        chosen = ((v,) for v in values) if len(names) == 1 else (
            small[i // 2 % len(small)] if i % 4 == 0 else tuple(draw.choice(_FACTORED if i % 2 else values) for _ in names)
            for i in range(70)
        )  # fmt: skip
        for point in chosen:  # what stands in no step has a sign, and is real but by custom
            real = (0 if name in whole else Fraction(draw.randint(1, 96), 97) for name in names)
            signs = (1 if name in dict(inside) else draw.choice((1, -1)) for name in names)
            yield {n: s * (r + Fraction(v)) for n, s, r, v in zip(names, signs, real, point, strict=True)}
        return
    for i in range(120 if held & (CORNERS | STEPS) else 24):
        env: Env = {}
        for name in names:
            sign = draw.choice((1, -1)) if i % 4 else 1
            size = draw.choice(_SIZES) if i % 3 else _SIZES[min(i // 3 % 5, 3)]
            if held & STEPS and i % 2:
                size = Fraction(draw.randint(1, 40))
            elif edges and i % 5 == 4:
                size = draw.choice(edges) + Fraction(1, 3)
            else:
                size += Fraction(draw.randint(1, 96), 97)
            env[name] = sign * size
        yield env


def proportional(a: Node, b: Node) -> Any:
    """The constant c with a = c b, or None: how two equations (or, where c is positive, inequalities) are the same."""
    held, names = kinds(a) | kinds(b), sorted(symbols(a) | symbols(b))
    mp, ratio, seen, alone = context(), None, 0, 0
    tiny = mp.mpf(10) ** -20
    for point in points(a, b, names, held) if names and "infty" not in held else ():
        known = [_defined(node, point) for node in (a, b)]
        alone += known.count(True) == 1
        if known != [True, True]:
            continue
        x, y = (mp.convert(evaluate(node, point, mp)) for node in (a, b))
        if abs(x) < tiny and abs(y) < tiny:
            continue
        if abs(x) < tiny or abs(y) < tiny or (ratio and abs(x / y - ratio) > abs(ratio) * tiny):
            return None
        ratio = ratio or x / y
        if (seen := seen + 1) >= 8:
            break
    return ratio if seen > 2 and alone < 3 else None


def same_roots(a: Node, b: Node) -> bool | None:
    """Whether two equations that are linear in one of their variables have the same solutions: y = 1/x and xy = 1."""
    said = None
    for name in sorted(symbols(a) & symbols(b)):
        others = sorted((symbols(a) | symbols(b)) - {name})
        draw, seen, alone = random.Random(5), 0, 0
        for _ in range(12):
            env: Env = {n: Fraction(draw.choice((1, -1)) * draw.randint(30, 400), 97) for n in others}
            roots = [linear_root(node, name, env) for node in (a, b)]
            if None not in roots and abs(roots[0] - roots[1]) > 1e-20 * (1 + abs(roots[0])):
                return False
            seen, alone = seen + (None not in roots), alone + (roots.count(None) == 1)
        said = True if seen >= 4 and alone < 3 else said
    return said


def linear_root(node: Node, name: str, env: Env) -> Any:
    """Where an expression that is linear in `name` is zero (mpmath); None where it is not linear, or has no root."""
    mp = context()
    try:
        ends: Any = (2, 3, 5, Fraction(10**9, 3), Fraction(-(10**9), 7))  # |x| - 200 is not linear
        low, middle, *far = (mp.convert(evaluate(node, env | {name: Fraction(v)}, mp)) for v in ends)
    except NO_VALUE:
        return None
    slope, most = middle - low, 1e-15 * (1 + abs(middle - low))
    bent = any(abs(y - low - slope * (x - 2)) > most for x, y in zip(ends[2:], far, strict=True))
    return None if bent or abs(slope) < 1e-25 else 2 - low / slope


def _last_place(node: Node) -> Any:
    """The last place that a numeral is written to: 1/100 of 2.50, 100 of 1200 and of 12 times 10^2; None of what is no numeral."""
    if node[0] in ("neg", "mul"):
        place = _last_place(node[1])
        scaled = node[0] == "neg" or (node[2][1] in (num(10), "degree") and number(node[2]))
        return place and scaled and place * scaled
    if node[0] != "num" or (node[1].denominator > 1 and not node[2]) or not node[1]:
        return None
    digits = str(abs(node[1].numerator))
    return context().mpf(10) ** (-node[2] if node[2] else len(digits) - len(digits.rstrip("0")))


def rounded(a: Node, b: Node) -> bool:
    """Whether two expressions are the same, or one of them is the other one rounded or cut off at the last place that it is written to.

    Zeros before a decimal point may be written or rounded: those may be off by 2 per cent, a numeral for an exact value by 0.5.
    """
    if symbols((a, b)):
        return bool(identical(a, b)) or abs((proportional(a, b) or 0) - 1) <= 0.005
    values, places = (number(a), number(b)), (_last_place(a), _last_place(b))
    if None in values or 0 in values or identical(a, b):
        return bool(identical(a, b))
    gap, (fine, coarse) = abs(values[0] - values[1]), sorted(place or 0 for place in places)
    limits = [(coarse / (1 + (coarse >= 1)), 0.02 if coarse > 1 else 0.2), (0.5 * (fine < 1 <= coarse), 0.2)]
    limits += [] if fine else [(gap, 0.005)]
    share = gap / max(map(abs, values))
    return bool(fine < coarse and any(gap <= most and share <= part for most, part in limits))


def approximates(decimal: Node, node: Node, digits: int) -> bool:
    """Whether a decimal of so many significant digits or more is an exact value, rounded (of seven or more, also cut off) at its last place."""
    (sign, bare), (_, other) = ((-1, n[1]) if n[0] == "neg" else (1, n) for n in (decimal, node))
    places = bare[2] if bare[0] == "num" else None
    rounded = other[0] == "num" and other[2]
    if not places or rounded or places > 1000 or bare[1].numerator.bit_length() > 4000:
        return False
    target = number(node)
    written = str(abs(bare[1].numerator * 10**places // bare[1].denominator)).lstrip("0")
    if len(written) < digits or target is None or context().im(target):
        return False
    distance = abs(sign * context().convert(bare[1]) - target) * 10**places
    return bool(distance < 1 if digits > 6 else distance <= 0.5)
