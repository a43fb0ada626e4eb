"""Equality of answers: one table of rules for pairs of types, and the rules. What stands in no row is different.

A rule says True, False, or None where only computer algebra can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from undo_hpc.grading import families, sets, units, words
from undo_hpc.grading.evaluate import Undefined, kinds, symbols
from undo_hpc.grading.identity import approximates, context, identical, number, opaque, proportional, same_roots
from undo_hpc.grading.reading import reals
from undo_hpc.grading.sets import substitute
from undo_hpc.grading.terms import Node
from undo_hpc.grading.values import (
    About, Base, Cases, Condition, Dots, Expression, Family, Labelled, List, Matrix, Named, Number, Quantity, Ratio, Reals, Relation,
    Set, Solutions, Text, Tuple, Unread, Value,
)  # fmt: skip

Said = bool | None
_TRIGONOMETRY = frozenset("sin cos tan cot sec csc".split())


def equal(a: Value, b: Value) -> Said:
    """Whether two values are the same answer."""
    if a == b:
        return None if isinstance(a, Unread) else True
    rule = RULES.get((type(a), type(b)))
    if rule:
        return rule(a, b)
    rule = RULES.get((type(b), type(a)))
    return rule(b, a) if rule else False


def every(said: Iterable[Said]) -> Said:
    """All are True; a False decides, else a None."""
    doubt = False
    for one in said:
        if one is False:
            return False
        doubt |= one is None
    return None if doubt else True


def some(said: Iterable[Said]) -> Said:
    """One is True; else None where one is in doubt."""
    doubt = False
    for one in said:
        if one:
            return True
        doubt |= one is None
    return None if doubt else False


# -- numbers and expressions
def numbers(a: Number, b: Number) -> Said:
    """The same rational; a decimal of seven digits or more may round an endless one."""
    if a.value == b.value:
        return True
    return any(x.places and not y.places and approximates(x.value, x.places, y.node) for x, y in ((a, b), (b, a)))


def number_and_expression(a: Number, b: Expression) -> Said:
    """The same value; a long decimal may round it."""
    if a.places and approximates(a.value, a.places, b.node):
        return True
    return identical(a.node, b.node)


def expressions(a: Expression, b: Expression) -> Said:
    """Identity; degrees may be left out; the parameter of a period has any letter."""
    said = identical(a.node, b.node)
    if said is False and ("degree" in kinds(a.node)) != ("degree" in kinds(b.node)):
        plain = [node if kinds(node) & _TRIGONOMETRY else _without_degrees(node) for node in (a.node, b.node)]
        said = identical(*plain)
    if said is False and families.implied(a.node, b.node):
        return True
    if said is False and {*symbols(a.node) ^ symbols(b.node)} in ({"C", "c"}, {"C", "K"}, {"C", "k"}):
        return some(identical(a.node, node) for node in families.constants_renamed(a.node, b.node))
    return said


def _without_degrees(node: Node) -> Node:
    if node == ("const", "degree"):
        return ("num", Fraction(1), None)
    return tuple(_without_degrees(part) if isinstance(part, tuple) else part for part in node)


# -- quantities
def quantities(a: Quantity, b: Quantity) -> Said:
    """Units of one dimension convert; others contradict each other."""
    x, y = units.read(a.unit), units.read(b.unit)
    if x is None or y is None:
        return False
    if {a.unit.lower().rstrip("s"), b.unit.lower().rstrip("s")} == {"£", "pound"}:
        return equal(a.value, b.value)
    factor = units.conversion(x, y)
    return False if factor is None else equal(_scaled(a.value, factor), b.value)


def _scaled(value: Value, factor: Fraction) -> Value:
    if factor == 1 or not isinstance(value, (Number, Expression)):
        return value
    node: Node = ("mul", ("num", factor, None), value.node)
    return Number(node, value.value * factor) if isinstance(value, Number) else Expression(node)


def quantity_and_bare(a: Quantity, b: Value) -> Said:
    """One side leaves the unit out; a percentage may also be the share; an angle may be in radians; `6h` may be six hours."""
    unit = units.read(a.unit)
    if unit is None:
        return False
    if isinstance(b, Expression) and b.node[0] == "mul" and b.node[2][0] == "sym" and b.node[2][1] in units.SINGLE and unit.dimension:
        inner = b.node[1]
        return quantities(a, Quantity(Number(inner, inner[1], inner[2]) if inner[0] == "num" else Expression(inner), b.node[2][1]))
    said = equal(a.value, b)
    if said is False and unit.percent:
        return equal(_scaled(a.value, Fraction(1, 100)), b)
    if said is False and unit.size == 12 and not unit.dimension:  # dozen
        return equal(_scaled(a.value, Fraction(12)), b)
    if said is False and unit.dimension == (("degree", 1),) and isinstance(b, Expression) and "pi" in kinds(b.node):
        assert isinstance(a.value, (Number, Expression))
        return identical(("mul", a.value.node, ("const", "degree")), b.node)
    return said


def about(a: About, b: Value) -> Said:
    """A side of an approximation that holds a value is the answer, or an exact answer rounds to it."""
    if isinstance(b, About):
        agree = not (a.label and b.label) or labels_agree(a.label, b.label)
        if agree and len(a.values) == len(b.values):
            return every(equal(x, y) for x, y in zip(a.values, b.values, strict=True))
        return some(equal(x, y) for x in a.values for y in b.values) if agree else False
    if isinstance(b, Labelled):
        return about(a, b.value) if labels_agree(a.label, b.label) else False
    return some([*(equal(value, b) for value in a.values), *(_rounds(b, value) for value in a.values)])


def _rounds(exact: Value, value: Value) -> bool:
    if not isinstance(value, Number) or not value.places or (isinstance(exact, Number) and exact.places is not None):
        return False
    target = number(exact.node) if isinstance(exact, (Number, Expression)) else None
    mp = context()
    if target is None or mp.im(target):
        return False
    return bool(abs(mp.mpf(value.value.numerator) / value.value.denominator - target) <= mp.mpf(10) ** -value.places / 2)


def bases(a: Base, b: Base) -> Said:
    """The same digits in the same base."""
    return a.digits == b.digits and a.base == b.base


def base_and_number(a: Base, b: Number) -> Said:
    """The base is left out: the digits decide."""
    return b.value.denominator == 1 and a.digits == str(b.value.numerator)


# -- collections
def matched(a: tuple[Value, ...], b: tuple[Value, ...]) -> Said:
    """Whether the items pair off in some order."""
    if len(a) != len(b):
        return False
    if any(isinstance(v, Dots) for v in (*a, *b)):
        return every(equal(x, y) for x, y in zip(a, b, strict=True))
    left, doubt = list(b), False
    for item in a:
        said = [equal(item, other) for other in left]
        if True in said:
            del left[said.index(True)]
        elif None in said:
            doubt = True
        else:
            return False
    return None if doubt else True


def distinct(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """The items without those that are equal to one before."""
    out: list[Value] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return tuple(out)


def lists(a: List, b: List) -> Said:
    """Items in any order, with their repetitions; a solution in brackets may be written twice."""
    said = matched(a.items, b.items)
    tuples = all(isinstance(v, (Tuple, Labelled, Solutions)) for v in (*a.items, *b.items))
    if said is False and tuples and len(a.items) != len(b.items):
        return matched(distinct(a.items), distinct(b.items))
    return said


def set_and_items(a: Set, b: Set | List) -> Said:
    """The same elements."""
    return matched(distinct(a.items), distinct(b.items) if isinstance(b, Set) else b.items)


def tuples(a: Tuple, b: Tuple) -> Said:
    """The same items in order, and the same brackets where two items may be an interval."""
    if len(a.items) != len(b.items) or (len(a.items) == 2 and (a.opening, a.closing) != (b.opening, b.closing)):
        return False
    return every(equal(x, y) for x, y in zip(a.items, b.items, strict=True))


def tuple_and_list(a: Tuple, b: List) -> Said:
    """The brackets are left out: the order counts."""
    if len(a.items) != len(b.items) or a.opening + a.closing != "()":
        return False
    return every(equal(x, y) for x, y in zip(a.items, b.items, strict=True))


def one_item(a: Set, b: Value) -> Said:
    """A set of one element and that element."""
    return equal(a.items[0], b) if len(a.items) == 1 else False


# -- sets of reals
def real_sets(a: Value, b: Value) -> Said:
    """The same pieces; the names, where both have one, agree."""
    if isinstance(a, Reals) and isinstance(b, Reals) and a.name and b.name and not labels_agree(a.name, b.name):
        return False
    left, right = reals(a), reals(b)
    return False if left is None or right is None else sets.same_pieces(left, right)


def reals_and_list(a: Reals, b: List) -> Said:
    """Intervals side by side are their union."""
    parts = [reals(item) for item in b.items]
    names = {item.name for item in b.items if isinstance(item, Reals)} - {""}
    if any(part is None for part in parts) or len(names | {a.name} - {""}) > 1:
        return False
    return sets.same_pieces(a.pieces, sets.normal([p for part in parts if part for p in part]))


def reals_and_condition(a: Reals, b: Condition) -> Said:
    """The condition holds in the set and nowhere else."""
    names = set().union(*(symbols(relation) for relation in b.relations))
    if a.name and names != {a.name}:
        return False
    return sets.agree(a.pieces, b.relations, b.every)


def condition_and_set(a: Condition, b: Value) -> Said:
    """A condition and an interval, a finite set or a named set."""
    pieces = reals(b)
    return False if pieces is None else sets.agree(pieces, a.relations, a.every)


def conditions(a: Condition, b: Condition) -> Said:
    """Two inequalities that are a positive factor of each other, or hold at the same values."""
    if len(a.relations) == len(b.relations) == 1 and len(a.relations[0][2]) == len(b.relations[0][2]) == 2:
        (first, x), (second, y) = (_difference(c.relations[0]) for c in (a, b))
        if first == second and symbols(x) == symbols(y) and proportional(x, y, sign=True):
            return True
    names = set().union(*(symbols(r) for c in (a, b) for r in c.relations))
    if len(names) == 1:
        return sets.same_truth(a.relations, b.relations, (a.every, b.every))
    if len(a.relations) != len(b.relations) or a.every != b.every or len(a.relations) == 1:
        return False if len(a.relations) == len(b.relations) == 1 and len(a.relations[0][2]) == 2 else None
    return matched(tuple(Condition((r,)) for r in a.relations), tuple(Condition((r,)) for r in b.relations))


def _difference(relation: Node) -> tuple[str, Node]:
    """(operator of less-than kind, the side that is not below zero minus the other)."""
    operator, (left, right) = relation[1][0], relation[2]
    if operator in (">", "ge"):
        operator, left, right = {">": "<", "ge": "le"}[operator], right, left
    return operator, ("add", right, ("neg", left))


# -- equations and labels
def labels_agree(a: str, b: str) -> bool:
    """Whether two names can be of one thing: the names of unknowns (x, k) must be the same, those of quantities need not."""
    unknown = [len(n.partition("_")[0]) == 1 and n.islower() for n in (a, b)]
    if any(n.startswith("words (") for n in (a, b)) or (a.startswith("of ") and b.startswith("of ")):
        return a == b
    return a == b or not all(unknown)


def equations(a: Relation, b: Relation) -> Said:
    """The same relation up to a factor; two equations with the same solutions."""
    if a.operator != b.operator:
        return False
    if a.operator not in ("=", "ne"):
        return every((identical(a.left, b.left), identical(a.right, b.right)))
    plain = {name for side in (a.left, a.right, b.left, b.right) for name in symbols(side)}
    x, y = (opaque(("add", r.left, ("neg", r.right)), plain) for r in (a, b))
    sides = every((identical(a.left, b.left), identical(a.right, b.right)))
    if not symbols(x) and not symbols(y):
        return sides
    said = some((sides, proportional(x, y)))
    return said or (said if symbols(x) != symbols(y) else same_roots(x, y) or said)


def labelled(a: Labelled, b: Labelled) -> Said:
    """The same value under names that can be of one thing, or the same equation."""
    agree = labels_agree(a.label, b.label)
    said = equal(a.value, b.value) if agree else False
    if said or not (a.relation and b.relation):
        return said if said or not agree else some((said, _constants_renamed(a.value, b.value)))
    p, q = a.relation.left, b.relation.left
    if agree and p[0] == q[0] == "apply" and p != q and len(p[2]) == len(q[2]) == 1 and p[2][0][0] == q[2][0][0] == "sym":
        return identical(a.relation.right, substitute(b.relation.right, q[2][0][1], p[2][0]))  # f(n) = n + 1, f(x) = x + 1
    if not symbols(a.relation.right) and not symbols(b.relation.right):
        return said
    return some((said, equations(a.relation, b.relation), agree and _constants_renamed(a.value, b.value)))


def _constants_renamed(a: Value, b: Value) -> Said:
    if not isinstance(a, Expression) or not isinstance(b, Expression):
        return False
    return some(identical(a.node, node) for node in families.constants_renamed(a.node, b.node))


def labelled_and_relation(a: Labelled, b: Relation) -> Said:
    """An equation that has a name alone on one side, and one that has not."""
    return equations(a.relation, b) if a.relation else False


def labelled_and_bare(a: Labelled, b: Value) -> Said:
    """The name is left out."""
    if isinstance(b, Reals) and b.name and not labels_agree(a.label, b.name):
        return False
    return equal(a.value, b)


# -- solutions, families
def solution_sets(a: Solutions, b: Solutions) -> Said:
    """The same solutions; under other names, those in alphabetical order."""
    names = [{name for name, _ in s.rows[0]} for s in (a, b)]
    if names[0] != names[1] and (names[0] & names[1] or len(names[0]) != len(names[1])):
        return False
    rows = [tuple(Tuple("(", ")", tuple(v for _, v in sorted(row, key=lambda p: p[0]))) for row in s.rows) for s in (a, b)]
    return lists(List(rows[0]), List(rows[1]))


def solutions_and_items(a: Solutions, b: Value) -> Said:
    """Tuples hold the unknowns in alphabetical order; a plain list of values holds them as they come, a common value once."""
    rows = tuple(Tuple("(", ")", tuple(v for _, v in sorted(row, key=lambda p: p[0]))) for row in a.rows)
    if isinstance(b, Tuple):
        return equal(rows[0], b) if len(rows) == 1 else False
    assert isinstance(b, (Set, List))
    if all(isinstance(item, Tuple) for item in b.items):
        return matched(distinct(rows), distinct(b.items))
    if len(a.rows) != 1 or len(a.rows[0]) != len(b.items):
        return _roots(a, b)
    return some((every(equal(v, item) for (_, v), item in zip(a.rows[0], b.items, strict=True)), _roots(a, b)))


def _roots(a: Solutions, b: Set | List) -> Said:
    """`x_1 = 2, x_2 = 3` are the values of x in any order."""
    if len(a.rows) != 1 or {name.partition("_")[0] for name, _ in a.rows[0]} not in ({"x"}, {"y"}, {"z"}, {"t"}):
        return False
    return matched(tuple(v for _, v in a.rows[0]), b.items)


def solutions_and_labelled(a: Solutions, b: Labelled) -> Said:
    """Indexed unknowns against the values of one unknown: `x_1 = 2, x_2 = 3` and `x = 2, x = 3`."""
    if {name.partition("_")[0] for name, _ in a.rows[0]} == {b.label} and isinstance(b.value, List) and len(a.rows) == 1:
        return matched(tuple(v for _, v in a.rows[0]), b.value.items)
    return solutions_and_items(a, b.value) if isinstance(b.value, (Tuple, List, Set)) and b.label.startswith("(") else False


def solutions_and_value(a: Solutions, b: Value) -> Said:
    """`x = y = z = 1` and the common value."""
    values = [v for row in a.rows for _, v in row]
    return every(equal(v, b) for v in values) if len({id(v) for v in values}) == 1 else False


def family_and_other(a: Family, b: Value) -> Said:
    """The other side has the same members, its free letter running as the parameter does."""
    other = b if isinstance(b, Family) else families.as_family(b, a)
    if other is None:
        return False
    if a.label and other.label and not labels_agree(a.label, other.label):
        return False
    return families.same_family(a, other)


# -- the rest
def matrices(a: Matrix, b: Matrix) -> Said:
    """Entry by entry."""
    if len(a.rows) != len(b.rows) or len(a.rows[0]) != len(b.rows[0]):
        return False
    return every(equal(x, y) for p, q in zip(a.rows, b.rows, strict=True) for x, y in zip(p, q, strict=True))


def matrix_and_tuple(a: Matrix, b: Tuple) -> Said:
    """A row or a column and the vector."""
    if len(a.rows) > 1 and len(a.rows[0]) > 1:
        return False
    cells = [cell for row in a.rows for cell in row]
    if len(cells) != len(b.items) or b.opening + b.closing not in ("()", "[]"):
        return False
    return every(equal(x, y) for x, y in zip(cells, b.items, strict=True))


def ratios(a: Ratio, b: Ratio) -> Said:
    """Proportional, or the same time of day."""
    times = [_minutes(r) for r in (a, b)]
    if a.clock and b.clock and ({a.half, b.half} & {"am", "pm"}) and not (a.half in ("am", "pm") and b.half in ("am", "pm")):
        return times[0] == times[1] or a.clock == b.clock
    if a.half or b.half or (times[0] is not None and times[1] is not None):
        return times[0] == times[1] and None not in times
    if len(a.items) != len(b.items) or any(isinstance(v, Dots) for v in (*a.items, *b.items)):
        return every(equal(x, y) for x, y in zip(a.items, b.items, strict=True)) if len(a.items) == len(b.items) else False
    if not all(isinstance(v, (Number, Expression)) for v in (*a.items, *b.items)):
        return every(equal(x, y) for x, y in zip(a.items, b.items, strict=True))
    p, q = ([v.node for v in r.items] for r in (a, b))  # type: ignore[attr-defined]
    return every(identical(("mul", p[0], y), ("mul", q[0], x)) for x, y in zip(p[1:], q[1:], strict=True))


def _minutes(a: Ratio) -> int | None:
    """Minutes since midnight, where a ratio is written as a time: two digits behind the colon, or am and pm."""
    if a.clock is None:
        return None
    hour = a.clock[0] % 12 + 12 * (a.half == "pm") if a.half in ("am", "pm") else a.clock[0]
    return hour * 60 + a.clock[1]


def ratio_and_value(a: Ratio, b: Value) -> Said:
    """A ratio of two and its quotient."""
    if len(a.items) != 2 or a.half or not all(isinstance(v, (Number, Expression)) for v in (*a.items, b)):
        return False
    top, bottom = a.items
    return identical(("div", top.node, bottom.node), b.node)  # type: ignore[attr-defined]


def piecewise(a: Cases, b: Cases) -> Said:
    """The same pieces in any order; one piece may be said to be all the rest."""
    if len(a.rows) != len(b.rows):
        return False
    left, doubt = list(b.rows), False
    rest = [row for row in a.rows if isinstance(row[1], Text)]
    for value, condition in [row for row in a.rows if not isinstance(row[1], Text)] + rest:
        said = [
            every((equal(value, v), True if isinstance(condition, Text) or isinstance(c, Text) else equal(condition, c)))
            for v, c in left
        ]
        if True not in said:
            doubt |= None in said
            if None not in said:
                return False
            continue
        del left[said.index(True)]
    return None if doubt else True


def named_sets(a: Named, b: Named) -> Said:
    """The same set by name, or the same operation on the same sets."""
    if a.name != b.name or len(a.operands) != len(b.operands):
        return {a.name, b.name} == {"N", "Z+"} and not a.operands and not b.operands
    if a.name in ("setminus", "given"):
        return every(equal(x, y) for x, y in zip(a.operands, b.operands, strict=True))
    return matched(a.operands, b.operands)


def texts(a: Text, b: Text) -> Said:
    """The same words."""
    return words.same(a.words, b.words)


def text_and_infinity(a: Text, b: Expression) -> Said:
    """`infinitely many` and the sign."""
    return a.words in ("infinitely many", "infinity", "positive infinity") and b.node == ("const", "infty")


def unread(_: Unread, __: Value) -> Said:
    """Computer algebra has to tell."""
    return None


Rule = Callable[[Any, Any], Said]
RULES: dict[tuple[type[Value], type[Value]], Rule] = {
    (Number, Number): numbers,
    (Number, Expression): number_and_expression,
    (Expression, Expression): expressions,
    (Quantity, Quantity): quantities,
    (Base, Base): bases,
    (Base, Number): base_and_number,
    (Tuple, Tuple): tuples,
    (Tuple, List): tuple_and_list,
    (List, List): lists,
    (Set, Set): set_and_items,
    (Set, List): set_and_items,
    (Set, Tuple): one_item,
    (Reals, List): reals_and_list,
    (Reals, Condition): reals_and_condition,
    (Condition, Condition): conditions,
    (Relation, Relation): equations,
    (Labelled, Labelled): labelled,
    (Labelled, Relation): labelled_and_relation,
    (Solutions, Solutions): solution_sets,
    (Solutions, Labelled): solutions_and_labelled,
    (Matrix, Matrix): matrices,
    (Matrix, Tuple): matrix_and_tuple,
    (Ratio, Ratio): ratios,
    (Cases, Cases): piecewise,
    (Named, Named): named_sets,
    (Text, Text): texts,
    (Text, Expression): text_and_infinity,
}
RULES |= {(Quantity, kind): quantity_and_bare for kind in (Number, Expression)}
RULES |= {(About, kind): about for kind in (About, Number, Expression, Quantity, Labelled, Ratio)}
RULES |= {(Set, kind): one_item for kind in (Number, Expression, Quantity)}
RULES |= {(Reals, kind): real_sets for kind in (Reals, Tuple, Set, Named)}
RULES |= {(Condition, kind): condition_and_set for kind in (Tuple, Set, Named)}
RULES |= {(Named, kind): real_sets for kind in (Tuple, Set)}
RULES |= {(Solutions, kind): solutions_and_items for kind in (Tuple, List, Set)}
RULES |= {(Solutions, kind): solutions_and_value for kind in (Number, Expression)}
RULES |= {(Ratio, kind): ratio_and_value for kind in (Number, Expression)}
RULES |= {(Family, kind): family_and_other for kind in (Family, Expression, Number, List, Set, Tuple, Labelled, Solutions)}
RULES |= {
    (Labelled, kind): labelled_and_bare
    for kind in (
        Number, Expression, Quantity, Base, Tuple, Set, List, Reals, Condition, Matrix, Ratio, Cases, Named, Text, About,
    )
    if (About, Labelled) not in RULES or kind is not About
}  # fmt: skip
RULES |= {(Unread, kind): unread for kind in Value.__subclasses__()}
