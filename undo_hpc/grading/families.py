"""Parametrised families, compared by their members: all parameters run, and what lies within a common window must be the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from undo_hpc.grading import values as typed
from undo_hpc.grading.evaluate import NO_VALUE, Env, TooLarge, context, evaluate, kinds, symbols
from undo_hpc.grading.identity import identical
from undo_hpc.grading.nodes import Node, substitute

_LEAST = {"Z": None, "N": 0, "Z+": 1}  # domains of integers, and where they begin
_PERIODS = frozenset(("pi", "degree"))
_ARBITRARY = frozenset("CcKkABD")


def same_family(a: typed.Family, b: typed.Family) -> bool | None:
    """Whether two families have the same members; None where members cannot be evaluated."""
    if {len(item) for item in a.items} != {len(item) for item in b.items}:
        return False
    if len(a.domains) > 2 or len(a.domains) != len(b.domains):
        return None
    if any(domain not in _LEAST for _, domain in (*a.domains, *b.domains)):
        return _renamed(a, b)
    free = symbols((a.items, b.items)) - {name for name, _ in (*a.domains, *b.domains)}
    draw = random.Random(3)
    env: Env = {name: Fraction(draw.randint(100, 900), 97) for name in sorted(free)}
    try:
        found = [_members(family, env) for family in (a, b)]
    except NO_VALUE:
        return None
    window = min(max(members.values(), default=0.0) for members in found) / 2
    near = [{key for key, size in members.items() if size <= window} for members in found]
    return near[0] == near[1] and len(near[0]) > 1 if near[0] or near[1] else None


def _renamed(a: typed.Family, b: typed.Family) -> bool:
    """Families over other domains are the same where only the names of their parameters differ."""
    if len(a.items) != len(b.items):
        return False
    for items in _renamings(b.items, [name for name, _ in b.domains], [name for name, _ in a.domains]):
        pairs = [pair for p, q in zip(a.items, items, strict=True) for pair in zip(p, q, strict=True)]
        if all(identical(x, y) for x, y in pairs):
            return True
    return False


def _renamings(nodes: Any, old: list[str], new: list[str]) -> Iterator[Any]:
    """Nodes with some of their symbols renamed, in each way."""
    for order in itertools.permutations(new):
        renamed = nodes
        for name, other in zip(old, order, strict=True):
            renamed = substitute(renamed, ("sym", name), ("sym", other))
        yield renamed


def _members(family: typed.Family, env: Env) -> dict[Any, float]:
    """The members as keys that are equal when the members are, with their size."""
    names, domains = zip(*family.domains, strict=True)
    size = 48 if len(names) == 1 else 12
    starts = [-size if _LEAST[domain] is None else _LEAST[domain] for domain in domains]
    out: dict[Any, float] = {}
    for values in itertools.product(*(range(start or 0, size + 1) for start in starts)):
        here = env | {name: Fraction(v) for name, v in zip(names, values, strict=True)}
        for item in family.items:
            keys = [_key(node, here) for node in item]
            out[tuple(key for key, _ in keys)] = max(length for _, length in keys)
    return out


def _key(node: Node, env: Env) -> tuple[str, float]:
    """A value rounded far below its distance to others, and its absolute value."""
    mp, value = context(), evaluate(node, env)
    if isinstance(value, Fraction) and value.numerator.bit_length() > 900:
        raise TooLarge("a large member")
    value = mp.convert(value)
    near = mp.nint(mp.re(value))
    key = str(int(near)) if abs(value - near) < mp.mpf(10) ** -20 else mp.nstr(value, 18)
    return key, float(abs(value))


def as_family(value: typed.Value, like: typed.Family) -> typed.Family | None:
    """A value as a family over the domains of another one: its free symbols that the label does not name are the parameters."""
    label = ""
    if isinstance(value, typed.Solutions):
        label = value.names[0] if len(value.names) == 1 else ""
        value = typed.Items("", tuple(row[0] if label else typed.Items("()", row) for row in value.rows))
    plain = isinstance(value, typed.Items) and value.brackets in ("", "{}")
    items = [_nodes(item) for item in (value.items if plain else (value,))]  # type: ignore[attr-defined]
    names = sorted(symbols(tuple(items)) - {label})
    wanted = [name for name, _ in like.domains]
    names = wanted if set(wanted) <= set(names) else names
    if None in items or len(names) != len(wanted):
        return None
    return typed.Family(tuple(items), tuple(zip(names, (d for _, d in like.domains), strict=True)), label)  # type: ignore[arg-type]


def _nodes(value: typed.Value) -> tuple[Node, ...] | None:
    if isinstance(value, typed.Expression):
        return (value.node,)
    if isinstance(value, typed.Quantity) and value.unit == "°" and isinstance(value.value, typed.Expression):
        return (("mul", value.value.node, ("const", "degree")),)
    if isinstance(value, typed.Items) and value.brackets == "()":
        parts = [_nodes(item) for item in value.items]
        return None if None in parts else tuple(part[0] for part in parts if part)
    return None


def implied(a: Node, b: Node) -> bool | None:
    """Whether two periodic expressions without a domain differ in the name of their whole-number parameter only."""
    names = [symbols(a) - symbols(b), symbols(b) - symbols(a)]
    if any(len(only) != 1 or not only <= frozenset("klmnst") for only in names):
        return None
    if not (kinds(a) & _PERIODS and kinds(b) & _PERIODS):
        return None
    return same_family(
        *(typed.Family(((node,),), ((min(only), "Z"),)) for node, only in zip((a, b), names, strict=True))
    )


def constants_renamed(a: Node, b: Node) -> bool:
    """Whether two expressions are equal once their arbitrary constants have the same names: C_1 e^x and A e^x."""
    only_a, only_b = sorted(symbols(a) - symbols(b)), sorted(symbols(b) - symbols(a))
    if not only_a or len(only_a) != len(only_b) or len(only_a) > 3:
        return False
    if any(name[0] not in _ARBITRARY or (len(name) > 1 and name[1] != "_") for name in (*only_a, *only_b)):
        return False
    return any(identical(a, renamed) for renamed in _renamings(b, only_b, only_a))
