"""Sets of real numbers as formulas, compared at every number at which one of them may begin or end, and between these.

A formula is ('rel', operators, sides) in `VARIABLE`, ('every', *formulas), ('any', *formulas), ('none', formula), or ('whole', least): the
integers from `least` on. What is found to differ anywhere differs; equal are only formulas all of whose ends could be solved for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

from undo_hpc.grading.evaluate import NO_VALUE, REAL, Env, TooLarge, context, evaluate
from undo_hpc.grading.identity import opaque
from undo_hpc.grading.values import Node, kinds, substitute, symbols, walk

VARIABLE: Node = ("sym", "\0x")
INFINITY: Node = ("const", "infty")
MINUS_INFINITY: Node = ("neg", INFINITY)
REALS: Node = ("every",)
NOTHING: Node = ("any",)
_DRAWS = 6  # of other variables, so that endpoints come in any order
_DEGREE, _CORNERS, _MOST = 10, 4, 100  # of polynomials, of absolute values and quotients taken apart, of ends
_RATIONAL = ("sym", "neg", "add", "mul", "div", "pow")
_GRID = [Fraction(k * abs(k), 7) + Fraction(1, 1009) for k in range(-30, 31)] + [Fraction(k) for k in range(-20, 21)]  # fmt: skip


def between(low: Node, high: Node, brackets: str) -> Node:
    """The formula of an interval; infinite ends are open."""
    below, above = ("le" if bracket in "[]" else "<" for bracket in brackets)
    parts: list[Node] = [("rel", (below,), (low, VARIABLE))] if low != MINUS_INFINITY else []
    return ("every", *parts, *([("rel", (above,), (VARIABLE, high))] if high != INFINITY else []))


def holds(formula: Node, env: Env) -> bool:
    """Whether a formula holds where its variables have these values; a relation without a value does not. TooLarge where that is not computed."""
    kind, *parts = formula
    if kind in ("every", "any"):
        return (all if kind == "every" else any)(holds(part, env) for part in parts)
    if kind == "none":
        return not holds(parts[0], env)
    if kind == "whole":
        x = context().convert(env[VARIABLE[1]])
        return abs(x - context().nint(x)) < 1e-20 and x >= parts[0]
    sides = [[_number(term, env) for term in _terms(side)] for side in parts[1]]
    return all(
        None not in a + b and _ordered(operator, a, b, VARIABLE in pair)
        for operator, (a, b), pair in zip(parts[0], pairwise(sides), pairwise(parts[1]), strict=True)
    )


def real(node: Node, env: Env) -> Any:
    """The value of a node as a real number, a Fraction where it is one exactly, or None."""
    try:
        return _number(node, env)
    except TooLarge:
        return None


def _number(node: Node, env: Env) -> Any:
    try:
        value = evaluate(node, env | {REAL: True})
    except TooLarge:
        raise
    except NO_VALUE:
        return None
    mp = context()
    return value if isinstance(value, Fraction) else None if mp.im(value) else mp.re(value)


def _terms(node: Node) -> list[Node]:
    return [*_terms(node[1]), *_terms(node[2])] if node[0] == "add" else [node]


def _ordered(operator: str, a: list[Any], b: list[Any], alone: bool) -> bool:
    """Whether two sums are in this order: exactly, or but for what rounding leaves of numbers of the size of their terms."""
    gap = sum([*a, *(-value for value in b)])
    size = 0 if isinstance(gap, Fraction) else sum(map(abs, a + b)) + (not (alone or (sum(a) and sum(b))))
    same = abs(gap) <= size * context().mpf(10) ** -22 if size else not gap
    return {"=": same, "ne": not same, "<": gap < 0 and not same, "le": gap < 0 or same}.get(operator, False)


# -- ends
def _ends(node: Node, level: Any, env: Env) -> list[Any] | None:
    """The numbers at which a node may have this value, or begin or end to have one, others among them; None where they are not known."""
    kind, *parts = node
    if node == VARIABLE:
        return [level]
    if VARIABLE[1] not in symbols(node):
        return []
    if kind == "neg":
        return _ends(parts[0], -level, env)
    if kind == "fn":
        return _within(node, level, env)
    if kind not in ("add", "mul", "div", "pow"):
        return None
    moving = [part for part in parts if VARIABLE[1] in symbols(part)]
    if len(moving) == 2:
        if kind in ("mul", "div") and level == 0:
            return _all_ends([(part, level) for part in moving], env)
        return _bent(node, level, env)
    first = moving[0] == parts[0]
    fixed = real(parts[first], env)
    if fixed is None or kind == "add":
        return [] if fixed is None else _ends(moving[0], level + -fixed, env)
    levels: list[Any] = [Fraction(0)]
    if kind == "mul":
        levels = [level * (1 / fixed) if fixed else fixed]
    elif kind == "div":
        levels = [level * fixed] if first else [Fraction(0), *([fixed * (1 / level)] if level else [])]
    elif first:
        root = _power(abs(level), 1 / fixed) if level and fixed else Fraction(0)
        levels = [Fraction(0), root, None if root is None else -root]
    elif fixed <= 0 or fixed == 1:
        return None
    elif level > 0:
        levels = [context().log(context().convert(level)) / context().log(context().convert(fixed))]
    return _all_ends([(moving[0], value) for value in levels], env)


def _within(node: Node, level: Any, env: Env) -> list[Any] | None:
    """The ends of a function of one argument that can be turned round."""
    _, name, (inner, *more), degree = node
    given = None if degree is None else real(degree, env)
    if more or (degree is not None and (given is None or VARIABLE[1] in symbols(degree))):
        return None
    if name == "abs":
        levels = [Fraction(0), level, -level]
    elif name == "sqrt":
        levels = [Fraction(0), _power(level, given or Fraction(2))]
    elif name in ("ln", "log", "lg"):
        levels = [Fraction(0), _power(Fraction(10) if name == "lg" else given or context().e * 1, level)]
    elif name == "exp":
        levels = [context().log(context().convert(level)) if level > 0 else Fraction(0)]
    elif name in ("floor", "ceil") and abs(level) < 10**20:
        levels = _around(level)
    else:
        return None
    return _all_ends([(inner, value) for value in levels], env)


def _power(base: Any, exponent: Any) -> Any:
    return real(("pow", ("sym", "a"), ("sym", "b")), {"a": base, "b": exponent})


def _around(value: Any) -> list[Fraction]:
    """The integers around a number."""
    return [Fraction(int(context().floor(context().convert(value))) + k) for k in (-1, 0, 1, 2)]


def _all_ends(pairs: Iterable[tuple[Node, Any]], env: Env) -> list[Any] | None:
    out: list[Any] = []
    for node, level in dict.fromkeys(pairs):
        found = None if level is None else _ends(node, level, env)
        if found is None or len(out) > _MOST:
            return None
        out += found
    return out


def _bent(node: Node, level: Any, env: Env) -> list[Any] | None:
    """The ends of a sum, product or quotient of polynomials; absolute values are taken apart."""
    parts = [part for part in walk(node) if VARIABLE[1] in symbols(part)]
    if corners := list(dict.fromkeys(part for part in parts if part[:2] == ("fn", "abs"))):
        inner = corners[0][2][0]
        ways = [(substitute(node, corners[0], way), level) for way in (inner, ("neg", inner))]
        return _all_ends([*ways, (inner, Fraction(0))], env) if len(corners) <= _CORNERS else None
    under = [part[2] for part in parts if part[0] == "div" and VARIABLE[1] in symbols(part[2])]
    plain = all(p[0] in _RATIONAL and (p[0] != "pow" or not symbols(p[2])) for p in parts)
    if not plain or len(under) > _CORNERS:
        return None
    whole: Node = ("add", node, ("neg", ("sym", "\0y")))
    for part in under:
        whole = ("mul", whole, part)
    roots = _roots(whole, env | {"\0y": level})
    poles = _all_ends([(part, Fraction(0)) for part in under], env)
    return None if roots is None or poles is None else roots + poles


def _roots(node: Node, env: Env) -> list[Any] | None:
    """The real parts of a polynomial's roots, from its values; None where it is none, or of a high degree, or has a root twice."""
    mp, most = context(), _DEGREE // 2 + 2
    places = [Fraction(k) + Fraction(1, 1009) for k in range(-most, most + 1)]
    values = [real(node, env | {VARIABLE[1]: x}) for x in places]
    if None in values:
        return None
    exact = all(isinstance(v, Fraction) for v in values)
    values = values if exact else list(map(mp.convert, values))
    tiny = 0 if exact else max(map(abs, values)) * mp.mpf(10) ** -30
    steps = []  # divided differences
    while values:
        steps.append(values[0])
        values = [(b - a) / len(steps) for a, b in pairwise(values)]
    while steps and abs(steps[-1]) <= tiny:
        steps.pop()
    if not 1 < len(steps) <= _DEGREE + 1:
        return None if steps[1:] else []
    powers: list[Any] = []  # coefficients, from the highest
    for x, step in zip(places[len(steps) - 1 :: -1], steps[::-1], strict=True):
        powers = [a + -x * b for a, b in zip([*powers, Fraction(0)], [Fraction(0), *powers], strict=True)]
        powers[-1] = powers[-1] + step
    powers = [Fraction(0) if abs(p) <= tiny else p for p in powers]
    if len(powers) == 2:
        return [-powers[1] * (1 / powers[0])]
    if len(powers) == 3:
        a, b, c = powers
        apart = b * b + -4 * a * c
        root = real(
            ("fn", "sqrt", (("sym", "y"),), None), {"y": Fraction(0) if abs(apart) <= tiny else apart}
        )
        far = 0 if root is None else -b + (root if b < 0 else -root)
        return [] if root is None else [far * (1 / (2 * a)), 2 * c * (1 / far)] if far else [Fraction(0)]
    try:
        roots = mp.polyroots(list(map(mp.convert, powers)), maxsteps=80, extraprec=120)
    except (mp.NoConvergence, *NO_VALUE):
        return None
    twice = any(abs(r - s) <= abs(r) * 1e-9 for r, s in combinations(roots, 2))
    return None if twice else [mp.re(root) for root in roots]


# -- comparison
def _probes(formulas: tuple[Node, ...], env: Env) -> tuple[list[Any], bool]:
    """Numbers at which formulas may differ, and whether these are enough: all their ends, and one number beside and between these."""
    rels = [pair for part in walk(formulas) if part[0] == "rel" for pair in pairwise(part[2])]
    found = []
    for left, right in rels:
        left, right = (right, left) if VARIABLE[1] in symbols(right) else (left, right)
        level = Fraction(0) if VARIABLE[1] in symbols(right) else real(right, env)
        moving = ("add", left, ("neg", right)) if VARIABLE[1] in symbols(right) else left
        found.append([] if level is None else _ends(moving, level, env))
    least = [Fraction(part[1]) for part in walk(formulas) if part[0] == "whole" and part[1] > float("-inf")]
    known = [end for ends in found for end in ends or ()] + least
    if "whole" in kinds(formulas):
        known += [n for end in (Fraction(0), *known) if abs(end) < 10**30 for n in _around(end)]
    ends: list[Any] = []
    for end in sorted(known, key=lambda v: (context().convert(v), v if isinstance(v, Fraction) else 0)):
        exact = [isinstance(v, Fraction) for v in (end, *ends[-1:])]
        if len(exact) < 2 or all(exact) or abs(end + -ends[-1]) > abs(end) * context().mpf(10) ** -20:
            ends.append(end)
        elif exact[0]:
            ends[-1] = end
    beyond = [ends[0] + -abs(ends[0]) - 1, ends[-1] + abs(ends[-1]) + 1] if ends else [Fraction(1, 2)]
    probes = [*beyond, *ends, *((a + b) * Fraction(1, 2) for a, b in pairwise(ends))]
    return (probes if None not in found else [*probes, *_GRID]), None not in found


def same_region(a: Node, b: Node) -> bool | None:
    """Whether two formulas hold for the same numbers, whatever the values of their other variables; None where a side never has a value,
    or where not all ends are known."""
    a, b = opaque(a), opaque(b)
    sides = [side for part in walk((a, b)) if part[0] == "rel" for side in part[2]]
    others = sorted((symbols(a) | symbols(b)) - {VARIABLE[1]})
    if (symbols(a) ^ symbols(b)) - {VARIABLE[1]}:
        return False
    draw, told = random.Random(3), True
    for _ in range(_DRAWS if others else 1):
        env: Env = {name: Fraction(draw.randint(-400, 400), 97) for name in others}
        probes, enough = _probes((a, b), env)
        probed = [{**env, VARIABLE[1]: x} for x in probes]
        if not all(any(real(side, here) is not None for here in probed) for side in sides):
            return None
        for here in probed:
            try:
                if holds(a, here) != holds(b, here):
                    return False
            except TooLarge:
                enough = False
        told &= enough
    return True if told or a == b else None
