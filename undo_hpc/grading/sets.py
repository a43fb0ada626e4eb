"""Sets of real numbers as pieces between endpoints, and the solution sets of inequalities in one variable."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from undo_hpc.grading.evaluate import REAL, TooLarge, Undefined, Unreadable, numeric, rational, symbols
from undo_hpc.grading.identity import context, identical, number, proportional
from undo_hpc.grading.nodes import Node, replace

INFINITY: Node = ("const", "infty")
MINUS: Node = ("neg", INFINITY)
_FLIPPED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "=": "=", "ne": "ne"}
_GAP = Fraction(1, 10**12)


@dataclass(frozen=True, slots=True)
class Piece:
    """The numbers between two endpoints; infinite ends are open."""

    low: Node
    high: Node
    closed: tuple[bool, bool]


def place(node: Node) -> Any:
    """Where an endpoint lies, as a number that can be compared. Raises Undefined where it holds variables."""
    if node == INFINITY:
        return context().inf
    if node == MINUS:
        return -context().inf
    value = number(node)
    if value is None or context().im(value):
        raise Undefined("an endpoint that is no number")
    return context().re(value)


def piece(low: Node, high: Node, left: bool, right: bool) -> Piece:
    """A piece; an end at infinity counts as open."""
    return Piece(low, high, (left and low != MINUS, right and high != INFINITY))


def normal(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Disjoint pieces in order, neighbours joined, empty ones dropped; as they are where endpoints hold variables."""
    try:
        keyed = [(place(p.low), place(p.high), p) for p in pieces]
    except Undefined:
        return tuple(pieces)
    keyed = [k for k in keyed if k[0] < k[1] or (_same(k[0], k[1]) and all(k[2].closed))]
    keyed.sort(key=lambda k: (k[0], not k[2].closed[0]))
    out: list[tuple[Any, Any, Piece]] = []
    for low, high, here in keyed:
        if out:
            last_low, last_high, last = out[-1]
            touching = _same(low, last_high) and (here.closed[0] or last.closed[1])
            if (low < last_high and not _same(low, last_high)) or touching:
                if _same(high, last_high):
                    joined = Piece(last.low, last.high, (last.closed[0], last.closed[1] or here.closed[1]))
                else:
                    further = here if high > last_high else last
                    joined = Piece(last.low, further.high, (last.closed[0], further.closed[1]))
                out[-1] = (last_low, max(high, last_high), joined)
                continue
        out.append((low, high, here))
    return tuple(k[2] for k in out)


def _same(a: Any, b: Any) -> bool:
    return bool(
        a == b
        or (
            context().isfinite(a)
            and context().isfinite(b)
            and abs(a - b) < context().mpf(10) ** -25 * (1 + abs(a))
        )
    )


def complement(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """All other real numbers. Raises Undefined where endpoints hold variables."""
    out, start, closed = [], MINUS, False
    for here in pieces:
        place(here.low), place(here.high)
        out.append(piece(start, here.low, closed, not here.closed[0]))
        start, closed = here.high, not here.closed[1]
    out.append(piece(start, INFINITY, closed, False))
    return normal([p for p in out if p.low != INFINITY and p.high != MINUS])


def intersection(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """What is in both. Raises Undefined where endpoints hold variables."""
    return complement(normal([*complement(a), *complement(b)]))


def same_pieces(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> bool | None:
    """Whether two sets are the same, piece by piece (in any order, where endpoints hold variables)."""
    if len(a) != len(b):
        return False
    left = list(b)
    for here in a:
        for other in left:
            if (
                here.closed == other.closed
                and identical(here.low, other.low)
                and identical(here.high, other.high)
            ):
                left.remove(other)
                break
        else:
            return False
    return True


def substitute(node: Node, name: str, value: Node) -> Node:
    """The node with a value in the place of a symbol."""
    return replace(node, ("sym", name), value)


def same_inequality(a: Node, b: Node) -> bool:
    """Whether two inequalities of two sides are a positive factor of each other."""
    ordered = []
    for _, (operator,), (left, right) in (a, b):
        flip = operator in (">", "ge")
        difference = ("add", left, ("neg", right)) if flip else ("add", right, ("neg", left))
        ordered.append((_FLIPPED[operator] if flip else operator, difference))
    (first, x), (second, y) = ordered
    return first == second and symbols(x) == symbols(y) and bool(proportional(x, y, sign=True))


def solve(operator: str, left: Node, right: Node, name: str) -> tuple[Piece, ...] | None:
    """The solutions of a relation that is linear in its one variable; None where it is not."""
    if right == ("sym", name) and name not in symbols(left):
        left, right, operator = right, left, _FLIPPED[operator]
    if left == ("sym", name) and name not in symbols(right):
        return _side(operator, right)
    if symbols(left) | symbols(right) != {name}:
        return None
    difference: Node = ("add", left, ("neg", right))
    zero, one, two = (substitute(difference, name, ("num", Fraction(k), None)) for k in (0, 1, 2))
    far, near = (substitute(difference, name, ("num", Fraction(sign * 977, 13), None)) for sign in (-1, 1))
    nodes = (zero, one, two, far, near)
    values: list[Any] = [rational(n) if rational(n) is not None else number(n) for n in nodes]
    if any(v is None or (not isinstance(v, Fraction) and context().im(v)) for v in values):
        return None
    slope = values[1] - values[0]
    at_far = values[0] + slope * Fraction(-977, 13) if isinstance(slope, Fraction) else None
    if (
        at_far is None
        or at_far != values[3]
        or values[4] + values[3] != 2 * values[0]
        or values[2] - values[1] != slope
        or slope == 0
    ):
        return None
    root: Node = ("num", -values[0] / slope, None)
    return _side(operator if slope > 0 else _FLIPPED[operator], root)


def _side(operator: str, end: Node) -> tuple[Piece, ...]:
    if operator in ("<", "le"):
        return (piece(MINUS, end, False, operator == "le"),)
    if operator in (">", "ge"):
        return (piece(end, INFINITY, operator == "ge", False),)
    if operator == "=":
        return (piece(end, end, True, True),)
    return (piece(MINUS, end, False, False), piece(end, INFINITY, False, False))


def holds(relation: Node, name: str, value: Fraction) -> bool | None:
    """Whether a chain of relations holds at a value of its variable; None where it has no meaning there."""
    mp = context()
    try:
        sides = [numeric(side, {name: value, REAL: True}, mp) for side in relation[2]]
    except (Undefined, TooLarge, ArithmeticError):
        return None
    if any(mp.im(side) for side in sides):
        return None
    for operator, a, b in zip(relation[1], sides, sides[1:], strict=False):
        said = {"<": a < b, ">": a > b, "le": a <= b, "ge": a >= b, "=": a == b, "ne": a != b}.get(operator)
        if not said:
            return None if said is None else False
    return True


def satisfied(relations: tuple[Node, ...], every: bool, name: str, value: Fraction) -> bool:
    """Whether all (or any) of the relations hold at a value."""
    return (all if every else any)(holds(relation, name, value) is True for relation in relations)


def contains(pieces: tuple[Piece, ...], value: Fraction) -> bool:
    """Whether a value lies in a set. Raises Undefined where endpoints hold variables."""
    mp = context()
    x = mp.mpf(value.numerator) / value.denominator
    for here in pieces:
        low, high = place(here.low), place(here.high)
        if (low < x or (here.closed[0] and _same(low, x))) and (
            x < high or (here.closed[1] and _same(high, x))
        ):
            return True
    return False


def probes(pieces: tuple[Piece, ...]) -> list[Fraction]:
    """Values that tell a set from others: at its endpoints where they are rational, beside them, and a grid."""
    ends = [place(node) for here in pieces for node in (here.low, here.high)]
    exact = [rational(node) for here in pieces for node in (here.low, here.high)]
    finite = sorted(Fraction(context().nstr(end, 30)) for end in ends if context().isfinite(end))
    out = [e for e in exact if e is not None]
    out += [end + side for end in finite for side in (-_GAP, _GAP, Fraction(-1, 1000), Fraction(1, 1000))]
    out += [(a + b) / 2 for a, b in pairwise(finite)]
    return out + [Fraction(k * k * (1 if k > 0 else -1), 7) + Fraction(1, 1009) for k in range(-40, 41)]


def agree(pieces: tuple[Piece, ...], relations: tuple[Node, ...], every: bool) -> bool | None:
    """Whether unsolved inequalities in one variable describe a set: truth at all probes."""
    names = set().union(*(symbols(relation) for relation in relations))
    if len(names) != 1:
        return False
    name = names.pop()
    try:
        return all(
            contains(pieces, value) == satisfied(relations, every, name, value) for value in probes(pieces)
        )
    except (Undefined, Unreadable, TypeError, ValueError):
        return None


def same_truth(a: tuple[Node, ...], b: tuple[Node, ...], every: tuple[bool, bool]) -> bool | None:
    """Whether two groups of unsolved inequalities in the same variable hold at the same values of a fine grid."""
    names = set().union(*(symbols(relation) for relation in (*a, *b)))
    if len(names) != 1:
        return None
    name = names.pop()
    try:
        grid = [Fraction(k, 8) for k in range(-240, 241)] + probes(())
        return all(satisfied(a, every[0], name, v) == satisfied(b, every[1], name, v) for v in grid)
    except (Undefined, Unreadable, TypeError, ValueError):
        return None
