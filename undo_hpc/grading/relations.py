"""From relations to values: labelled values, solutions, sets of reals, equations, congruences, sets by a condition."""

from __future__ import annotations

from fractions import Fraction

from undo_hpc.grading import sets
from undo_hpc.grading.domains import domain_of
from undo_hpc.grading.evaluate import Undefined, kinds, symbols
from undo_hpc.grading.identity import identical
from undo_hpc.grading.labels import label_of
from undo_hpc.grading.listing import assigned, family
from undo_hpc.grading.making import ORDERS, STRUCTURES, branches, reals, value_of
from undo_hpc.grading.names import BIG
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.tokens import SyntaxProblem
from undo_hpc.grading.values import (
    About,
    Condition,
    Family,
    Labelled,
    List,
    Named,
    Reals,
    Relation,
    Set,
    Solutions,
    Value,
)


def relation(node: Node) -> Value:
    """What a chain of relations says: a labelled value, solutions, a set of reals, or an equation."""
    operators, sides = node[1], node[2]
    kinds_of = set(operators)
    if kinds_of <= {"approx", "="} and "approx" in kinds_of:
        return approximation(sides)
    if kinds_of == {"="}:
        return equation(sides)
    if operators == ("in",):
        return membership(sides[0], sides[1])
    if kinds_of <= ORDERS | {"="}:
        return inequality(node)
    if len(sides) == 2 and not (kinds(sides[0]) | kinds(sides[1])) & {"bracket", "list", "rel", "words"}:
        return Relation(operators[0], sides[0], sides[1])
    raise SyntaxProblem("a chain of relations")


def approximation(sides: tuple[Node, ...]) -> Value:
    """`x \\approx 1.5`, `\\ln 3 \\approx 1.0986`: the label is no value."""
    label = label_of(sides[0], sides[-1])
    held = sides[1:] if label else sides
    if any(symbols(side) for side in held) and not all(symbols(side) for side in held):
        raise SyntaxProblem("an approximation of an expression")
    return About(tuple(value_of(side) for side in held if side[0] != "words"), label)


def equation(sides: tuple[Node, ...]) -> Value:
    """A chain of equal signs."""
    *names, last = sides
    if (
        len(names) > 1
        and all(name[0] == "sym" for name in names)
        and len({n[1] for n in names}) == len(names)
    ):
        value = value_of(last)
        return Solutions((tuple((str(name[1]), value) for name in names),))
    left = sides[0]
    if left[0] == "bracket" and left[1] == "(" and all(n[0] in ("sym", "const", "apply") for n in left[3]):
        return assigned([str(n[1]) for n in left[3]], value_of(last))
    label = label_of(left, last)
    if label:
        pure = not (kinds(left) | kinds(last)) & STRUCTURES
        return Labelled(
            label, value_of(last), Relation("=", left, last) if pure and len(sides) == 2 else None
        )
    if (
        len(sides) == 2
        and (label := label_of(last, left))
        and last[0] in ("sym", "apply")
        and not symbols(left)
    ):
        return Labelled(label, value_of(left), Relation("=", left, last))
    if all(not symbols(side) for side in sides) and not kinds(("", *sides)) & (
        STRUCTURES - {"ratio", "quantity"} | BIG | {"apply"}
    ):
        bare = [side[1] if side[0] == "quantity" else side for side in sides]
        holds = all(identical(bare[0], side) for side in bare[1:])
        return Labelled("=", value_of(last)) if holds else Relation("=", left, last)
    if len(sides) == 2 and not (kinds(left) | kinds(last)) & STRUCTURES:
        return Relation("=", left, last)
    raise SyntaxProblem("an equation between structures")


def membership(left: Node, right: Node) -> Value:
    """`x \\in [1, 2)`: the set, for a name."""
    value = value_of(right)
    label = label_of(left, ("num", Fraction(0), None)) if left[0] in ("sym", "apply", "words") else ""
    pieces = reals(value) if not isinstance(value, Set) else None
    if pieces is not None:
        return Reals(pieces, label)
    if isinstance(value, Set) and label:
        return Labelled(label, List(value.items))
    if not label:
        raise SyntaxProblem("membership of something that is no name")
    return Labelled(label, value)


def inequality(node: Node) -> Value:
    """A chain of inequalities as the set of reals that it describes, or as a condition."""
    operators, sides = node[1], node[2]
    names = set().union(*(symbols(side) for side in sides))
    if any(kinds(side) & STRUCTURES for side in sides):
        raise SyntaxProblem("an inequality of structures")
    target = [side for side in sides if side[0] in ("sym", "apply")]
    name = str(target[0][1]) if len(target) == 1 else names.copy().pop() if len(names) == 1 else ""
    if name:
        found: tuple[sets.Piece, ...] | None = (sets.piece(sets.MINUS, sets.INFINITY, False, False),)
        for operator, a, b in zip(operators, sides, sides[1:], strict=False):
            a, b = (("sym", name) if side[0] == "apply" and side[1] == name else side for side in (a, b))
            solved = sets.solve(operator, a, b, name)
            found = _both(found, solved)
            if found is None:
                break
        if found is not None:
            return Reals(found, name)
    return (
        Condition((node,)) if len(sides) > 2 or operators[0] != "ne" else Relation("ne", sides[0], sides[1])
    )


def _both(
    a: tuple[sets.Piece, ...] | None, b: tuple[sets.Piece, ...] | None
) -> tuple[sets.Piece, ...] | None:
    """The intersection; rays with endpoints that hold variables are joined to one piece."""
    if a is None or b is None:
        return None
    try:
        return sets.intersection(a, b)
    except Undefined:
        if len(a) == len(b) == 1:
            low, left = (b[0].low, b[0].closed[0]) if a[0].low == sets.MINUS else (a[0].low, a[0].closed[0])
            high, right = (
                (b[0].high, b[0].closed[1]) if a[0].high == sets.INFINITY else (a[0].high, a[0].closed[1])
            )
            return (sets.Piece(low, high, (left, right)),)
        return None


def builder(node: Node) -> Value:
    """`{x | x > 3}`: the condition, or a family `{2k | k in Z}`."""
    domains = domain_of(node[2])
    if node[1][0] in ("rel", "sym") and not (domains and node[1][0] == "rel" and node[1][1] != ("in",)):
        value, name = value_of(node[2]), node[1] if node[1][0] == "sym" else node[1][2][0]
        if isinstance(value, Reals) and name != ("sym", value.name):
            raise SyntaxProblem("a condition on another name")
        if isinstance(value, (Reals, Condition)):
            return value
    if domains:
        return family(node[1], tuple(domains))
    raise SyntaxProblem("a set by a condition")


def modulo(node: Node) -> Value:
    """`x \\equiv 1, 4 \\pmod 5` as a family of integers; a congruence of letters as it stands."""
    inner, modulus = node[1], node[2]
    items = inner[2] if inner[0] == "list" else (inner,)
    label = ""
    residues: list[Node] = []
    for item in items:
        if item[0] == "rel":
            if item[1] != ("equiv",) or kinds(modulus) & STRUCTURES:
                raise SyntaxProblem("a modulus without a congruence")
            left, right = item[2]
            label = label_of(left, right)
            if not label or symbols(modulus) or symbols(right):
                return Named("modulo", (value_of(left), value_of(right), value_of(modulus)))
            item = right
        residues.extend(branches(item) if kinds(item) & {"pm", "mp"} else [item])
    if kinds(modulus) & STRUCTURES or symbols(modulus):
        raise SyntaxProblem("a modulus that is no number")
    k: Node = ("mul", modulus, ("sym", "\0k"))
    return Family(tuple((("add", residue, k),) for residue in residues), (("\0k", "Z"),), label)
