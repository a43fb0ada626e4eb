"""Parametrised families, compared by their members: all parameters run, and what lies within a common window must be the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from undo_hpc.grading import values as typed
from undo_hpc.grading.evaluate import NO_VALUE, Env, context, evaluate
from undo_hpc.grading.identity import identical
from undo_hpc.grading.values import Node, Value, kinds, substitute, symbols

_LEAST = {"Z": None, "N": 0, "Z+": 1, "0..": 0, "1..": 1}  # domains of integers, and where they begin
RESIDUES = (("\0k", "Z"),)
_ARBITRARY = frozenset("CcKkABD")
_PARAMETERS = frozenset("klmnst")
_CONSTANTS = _ARBITRARY | {"a", "b"}


def same_family(a: typed.Family, b: typed.Family, bare: bool = False) -> bool | None:
    """Whether two families have the same members; None where members cannot be evaluated. `bare`: none was said to be a family."""
    if {len(item) for item in a.items} != {len(item) for item in b.items}:
        return False
    old, new = ([name for name, _ in family.domains] for family in (b, a))
    if len(new) > 2 or len(new) != len(old):
        return None
    bare |= not {domain for _, domain in (*a.domains, *b.domains)} <= _LEAST.keys()
    if bare:  # only their names may differ
        pair = lambda items: zip(sum(a.items, ()), sum(items, ()), strict=True)  # noqa: E731
        renamed = _renamings(b.items, old, new) if len(a.items) == len(b.items) else ()
        return any(all(identical(x, y) for x, y in pair(items)) for items in renamed)
    free = sorted(symbols((a.items, b.items)) - {*old, *new})
    draw = random.Random(3)
    env: Env = {name: Fraction(draw.randint(100, 900), 97) for name in free}
    try:
        found = [_members(family, env) for family in (a, b)]
    except NO_VALUE:
        return None
    window = min(max(members.values(), default=0.0) for members in found) / 2
    near = [{key for key, size in members.items() if size <= window} for members in found]
    return near[0] == near[1] and len(near[0]) > 1 if near[0] or near[1] else None


def _renamings(nodes: Any, old: Sequence[str], new: Sequence[str]) -> Iterator[Any]:
    """Nodes with some of their symbols renamed, in each way."""
    for order in itertools.permutations(new):
        renamed = nodes
        for name, other in zip(old, order, strict=True):
            renamed = substitute(renamed, ("sym", name), ("sym", other))
        yield renamed


def _members(family: typed.Family, env: Env) -> dict[Any, float]:
    """The members as keys that are equal when the members are, with their size."""
    mp, out = context(), {}
    size = 48 if len(family.domains) == 1 else 12
    least = (_LEAST[domain] for _, domain in family.domains)
    runs = [range(-size if first is None else first, size + 1) for first in least]
    for values in itertools.product(*runs):
        here = env | {name: Fraction(v) for (name, _), v in zip(family.domains, values, strict=True)}
        for item in family.items:
            found = [mp.convert(evaluate(node, here)) for node in item]
            near = [mp.nint(mp.re(value)) for value in found]
            close = [abs(value - n) < mp.mpf(10) ** -20 for value, n in zip(found, near, strict=True)]
            shown = zip(found, near, close, strict=True)
            key = tuple(str(int(n)) if c else mp.nstr(v, 18) for v, n, c in shown)
            out[key] = max(float(abs(value)) for value in found)
    return out


def members(value: Value) -> tuple[str, tuple[tuple[Node, ...], ...]] | None:
    """The label of a value and its items as nodes, or tuples of nodes (the values of several names)."""
    label = ""
    if isinstance(value, typed.Solutions):
        label = typed.stem(value) or (value.names[0] if len(value.names) == 1 else "")
        value = typed.Items("", value.rows[0] if typed.stem(value) else tuple(typed.row_values(value)))
    plain = isinstance(value, typed.Items) and value.brackets in ("", "{}")
    items = [_nodes(item) for item in (value.items if plain else (value,))]
    return None if None in items else (label, tuple(item for item in items if item))


def as_family(value: Value, like: typed.Family) -> typed.Family | None:
    """A value as a family over the domains of another one: its symbols that are not free there and no label are the parameters."""
    told = any(domain.endswith("..") for _, domain in like.domains)  # `k >= 0` does not go without saying
    label, items = (not told and members(value)) or ("", ())
    wanted = [name for name, _ in like.domains]
    left = getattr(getattr(value, "relation", None), "left", ())  # f(a) = a is no constant
    names = sorted(symbols(items) - {label} - symbols(left) - (symbols(like.items) - {*wanted}))
    names = wanted if set(wanted) <= set(names) else names
    domains = tuple((name, domain) for name, (_, domain) in zip(names, like.domains, strict=False))
    single = [item[0] for item in items if len(item) == 1]  # one parameter has any name, a letter alone none
    function, own = label.endswith("()"), set(names) <= {*wanted}
    constants = _CONSTANTS if label and like.label else frozenset()  # f(x) = c and y = Cx
    numbers = not {domain for _, domain in like.domains} <= _LEAST.keys()
    valued = all(n.endswith("()") or (n == "y" and numbers) for n in (label, like.label))
    free = own or not single or function or (len(names) == 1 and names[0] in _PARAMETERS | constants)
    free = free and (own or {n[1] for n in single if n[0] == "sym"} <= (constants if valued else set()))
    fitting = items and len(names) == len(wanted) and free and function <= valued
    return typed.Family(items, domains, label) if fitting else None


def _nodes(value: Value) -> tuple[Node, ...] | None:
    if isinstance(value, typed.Expression):
        return (value.node,)
    whole = isinstance(value, typed.Items) and value.brackets == "()"
    parts = list(map(_nodes, value.items)) if whole else [None]
    return None if None in parts else tuple(part[0] for part in parts if part)


def implied(a: Node, b: Node) -> bool | None:
    """Whether two tuples, or two periodic expressions, without a domain differ in the name of their parameter only."""
    only = [symbols(a) - symbols(b), symbols(b) - symbols(a)]
    tuples = a[0] == "tuple"
    periodic = all(kinds(node) & {"pi", "degree"} for node in (a, b))
    if any(len(names) != 1 or not names <= _PARAMETERS for names in only) or not (tuples or periodic):
        return None
    domains = [((min(names), "R" if tuples else "Z"),) for names in only]
    items = [(node[1:] if tuples else (node,),) for node in (a, b)]
    first, second = (typed.Family(*pair, "") for pair in zip(items, domains, strict=True))
    return same_family(first, second)


def constants_renamed(a: Node, b: Node, argument: str = "") -> bool:
    """Whether two expressions are equal once their arbitrary constants have the same names: C_1 e^x and A e^x.

    `argument`: they are values of a function of it, in which all other letters may be arbitrary constants: ax + b and kx + m.
    """
    only_a, only_b = sorted(symbols(a) - symbols(b)), sorted(symbols(b) - symbols(a))
    alone = argument and symbols(a) & symbols(b) <= {argument}
    letters = _ARBITRARY | frozenset("abdmpq" if alone else "")
    arbitrary = all(name[0] in letters and name[1:2] in ("", "_") for name in (*only_a, *only_b))
    shared = argument or symbols(a) & symbols(b) or {*only_a, *only_b} == {"C", "c"}  # alone it says nothing
    if not (arbitrary and shared and argument not in only_a + only_b and 0 < len(only_a) == len(only_b) < 4):
        return False
    return any(identical(a, renamed) for renamed in _renamings(b, only_b, only_a))
