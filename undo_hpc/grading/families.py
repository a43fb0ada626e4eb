"""Parametrised families, compared by their members: all parameters run, and what lies within a common window must be the same."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

from undo_hpc.grading.evaluate import Env, TooLarge, Undefined, Unreadable, exact, kinds, numeric, symbols
from undo_hpc.grading.identity import context, identical
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.sets import substitute
from undo_hpc.grading.values import (
    Expression,
    Family,
    Labelled,
    List,
    Number,
    Quantity,
    Solutions,
    Tuple,
    Value,
)

_RANGE = 48
_PERIODS = frozenset(("pi", "degree"))
_ARBITRARY = frozenset("CcKkABD")


def same_family(a: Family, b: Family) -> bool | None:
    """Whether two families have the same members; None where members cannot be evaluated."""
    if {len(item) for item in a.items} != {len(item) for item in b.items}:
        return False
    if len(a.domains) > 2 or len(b.domains) > 2:
        return None
    if len(a.domains) != len(b.domains):
        return None
    if any(domain not in ("Z", "N", "Z+") for _, domain in (*a.domains, *b.domains)):
        return _renamed(a, b)
    others = (_free(a) | _free(b)) - {name for f in (a, b) for name, _ in f.domains}
    draw = random.Random(3)
    env: Env = {name: Fraction(draw.randint(100, 900), 97) for name in sorted(others)}
    try:
        left, right = members(a, env), members(b, env)
    except (Undefined, TooLarge, Unreadable, ValueError, TypeError, ArithmeticError):
        return None
    window = min(_reach(left), _reach(right)) / 2
    near = [{key for key, size in found.items() if size <= window} for found in (left, right)]
    return near[0] == near[1] and len(near[0]) > 1 if near[0] or near[1] else None


def _renamed(a: Family, b: Family) -> bool | None:
    """Families over other domains are the same where only the names of their parameters differ."""
    wanted = [name for name, _ in a.domains]
    if len(a.items) != len(b.items):
        return False
    for order in itertools.permutations([name for name, _ in b.domains]):
        items = b.items
        for old, new in zip(order, wanted, strict=True):
            items = substitute(items, old, ("sym", new))
        if all(
            identical(x, y) for p, q in zip(a.items, items, strict=True) for x, y in zip(p, q, strict=True)
        ):
            return True
    return False


def _free(family: Family) -> set[str]:
    return set().union(*(symbols(node) for item in family.items for node in item))


def _reach(found: dict[Any, float]) -> float:
    """How far members lie on the side where they end first."""
    return max(found.values(), default=0.0)


def members(family: Family, env: Env) -> dict[Any, float]:
    """The members as keys that are equal when the members are, with their size."""
    out: dict[Any, float] = {}
    names = [name for name, _ in family.domains]
    size = _RANGE if len(names) == 1 else 12
    spans = [
        range({"Z": -size, "N": 0, "Z+": 1}.get(domain, -size), size + 1) for _, domain in family.domains
    ]
    for values in itertools.product(*spans):
        here = env | {name: Fraction(v) for name, v in zip(names, values, strict=True)}
        for item in family.items:
            key, length = [], 0.0
            for node in item:
                part, far = _key(node, here)
                key.append(part)
                length = max(length, far)
            out[tuple(key)] = length
    return out


def _key(node: Node, env: Env) -> tuple[str, float]:
    """A value rounded far below its distance to others, and its absolute value."""
    try:
        value = exact(node, env)
        if value.numerator.bit_length() > 4000:
            raise TooLarge("a large member")
        return (
            (str(value), float(abs(value)))
            if value.denominator < 10**9
            else (f"{float(value):.12g}", float(abs(value)))
        )
    except Undefined:
        mp = context()
        found = numeric(node, env, mp)
        near = mp.nint(found) if not mp.im(found) else found
        if not mp.im(found) and abs(found - near) < mp.mpf(10) ** -20:
            return str(int(near)), float(abs(found))
        return mp.nstr(found, 18), float(abs(found))
    except OverflowError as error:
        raise TooLarge("a large member") from error


def as_family(value: Value, like: Family) -> Family | None:
    """A value as a family over the domains of another one: its free symbols that the label does not name are the parameters."""
    label = ""
    if isinstance(value, Labelled):
        label, value = value.label, value.value
    if isinstance(value, Solutions):
        rows = [tuple(v for _, v in sorted(row)) for row in value.rows]
        items = [_nodes(Tuple("(", ")", row)) for row in rows]
    elif isinstance(value, List):
        items = [_nodes(item.value if isinstance(item, Labelled) else item) for item in value.items]
    else:
        items = [_nodes(value)]
    if any(item is None for item in items):
        return None
    nodes = [item for item in items if item is not None]
    names = sorted(set().union(*(symbols(node) for item in nodes for node in item)) - {label})
    domains = [domain for _, domain in like.domains]
    wanted = [name for name, _ in like.domains]
    if set(wanted) <= set(names):
        names = wanted
    if len(names) != len(domains):
        return None
    return Family(tuple(nodes), tuple(zip(names, domains, strict=True)), label)


def _nodes(value: Value) -> tuple[Node, ...] | None:
    if isinstance(value, (Number, Expression)):
        return (value.node,)
    if isinstance(value, Quantity) and value.unit == "°" and isinstance(value.value, (Number, Expression)):
        return (("mul", value.value.node, ("const", "degree")),)
    if isinstance(value, Tuple):
        parts = [_nodes(item) for item in value.items]
        return (
            tuple(part[0] for part in parts if part)
            if all(part and len(part) == 1 for part in parts)
            else None
        )
    return None


def implied(a: Node, b: Node) -> bool | None:
    """Whether two periodic expressions without a domain differ in the name of their whole-number parameter only."""
    only_a, only_b = symbols(a) - symbols(b), symbols(b) - symbols(a)
    if len(only_a) != 1 or len(only_b) != 1 or not (kinds(a) & _PERIODS and kinds(b) & _PERIODS):
        return None
    if (only_a | only_b) - frozenset("klmnst"):
        return None
    return same_family(Family(((a,),), ((only_a.pop(), "Z"),)), Family(((b,),), ((only_b.pop(), "Z"),)))


def constants_renamed(a: Node, b: Node) -> list[Node]:
    """Versions of `b` in which its arbitrary constants have the names of those of `a`: y = C_1 e^x and y = A e^x."""
    only_a, only_b = sorted(symbols(a) - symbols(b)), sorted(symbols(b) - symbols(a))
    if not only_a or len(only_a) != len(only_b) or len(only_a) > 3:
        return []
    if any(name[0] not in _ARBITRARY or (len(name) > 1 and name[1] != "_") for name in (*only_a, *only_b)):
        return []
    out = []
    for order in itertools.permutations(only_a):
        renamed = b
        for old, new in zip(only_b, order, strict=True):
            renamed = substitute(renamed, old, ("sym", new))
        out.append(renamed)
    return out
