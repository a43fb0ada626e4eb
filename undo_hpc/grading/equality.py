"""Equality of answers: the table at the end says which rule compares which types; what stands in no row is different.

A rule says True, False, or None where only computer algebra can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from undo_hpc.grading import families, sets, units, words
from undo_hpc.grading.evaluate import kinds, symbols
from undo_hpc.grading.identity import approximates, context, identical, number
from undo_hpc.grading.labels import labels_agree, same_equation
from undo_hpc.grading.reading import reals
from undo_hpc.grading.sets import substitute
from undo_hpc.grading.terms import Node
from undo_hpc.grading.values import (
    About, Base, Cases, Condition, Dots, Expression, Family, Labelled, List, Matrix, Named, Number, Quantity, Ratio, Reals,
    Relation, Set, Solutions, Text, Tuple, Unread, Value,
)  # fmt: skip

Said = bool | None
_TRIGONOMETRY = frozenset("sin cos tan cot sec csc".split())


def equal(a: Value, b: Value) -> Said:
    """Whether two values are the same answer."""
    if a == b:
        return None if isinstance(a, Unread) else True
    if rule := RULES.get((type(a), type(b))):
        return rule(a, b)
    rule = RULES.get((type(b), type(a)))
    return rule(b, a) if rule else False


def every(said: Iterable[Said]) -> Said:
    """All are True; a False decides, else a None."""
    found = list(said)
    return False if False in found else None if None in found else True


def some(said: Iterable[Said]) -> Said:
    """One is True; else None where one is in doubt."""
    found = list(said)
    return True if True in found else None if None in found else False


def in_order(a: Iterable[Value], b: Iterable[Value]) -> Said:
    """The same items in the same order; the first difference ends it."""
    x, y = list(a), list(b)
    doubt = False
    for p, q in zip(x, y, strict=False):
        said = equal(p, q)
        if said is False:
            return False
        doubt |= said is None
    return False if len(x) != len(y) else None if doubt else True


def in_any_order(a: tuple[Value, ...], b: tuple[Value, ...]) -> Said:
    """The items pair off in some order; with dots among them the order counts."""
    if len(a) != len(b):
        return False
    if any(isinstance(v, Dots) for v in (*a, *b)):
        return in_order(a, b)
    left, doubt = list(b), False
    for item in a:
        said = [equal(item, other) for other in left]
        if True in said:
            del left[said.index(True)]
        elif None not in said:
            return False
        doubt |= True not in said
    return None if doubt else True


def distinct(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """The items without those that are equal to one before."""
    out: list[Value] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return tuple(out)


# -- numbers and expressions
def numbers(a: Number, b: Number) -> Said:
    """The same rational; a decimal of seven digits or more may round an endless one."""
    rounds = any(
        x.places and not y.places and approximates(x.value, x.places, y.node) for x, y in ((a, b), (b, a))
    )
    return a.value == b.value or rounds


def number_expression(a: Number, b: Expression) -> Said:
    """The same value; a long decimal may round it."""
    return bool(a.places and approximates(a.value, a.places, b.node)) or identical(a.node, b.node)


def expressions(a: Expression, b: Expression) -> Said:
    """Identity; degrees may be left out; the parameter of a period and the constant of an integral have any letter."""
    said = identical(a.node, b.node)
    if said is not False:
        return said
    if ("degree" in kinds(a.node)) != ("degree" in kinds(b.node)):
        one: Node = ("num", Fraction(1), None)
        plain = [
            n if kinds(n) & _TRIGONOMETRY else sets.replace(n, ("const", "degree"), one)
            for n in (a.node, b.node)
        ]
        said = identical(*plain)
    if symbols(a.node) ^ symbols(b.node) in ({"C", "c"}, {"C", "K"}, {"C", "k"}):
        return constants_renamed(a, b)
    return bool(families.implied(a.node, b.node)) or said


def constants_renamed(a: Value, b: Value) -> Said:
    """Equal once the arbitrary constants have the same names."""
    if not isinstance(a, Expression) or not isinstance(b, Expression):
        return False
    return some(identical(a.node, node) for node in families.constants_renamed(a.node, b.node))


# -- quantities
def quantities(a: Quantity, b: Quantity) -> Said:
    """Units of one dimension convert; others contradict each other."""
    x, y = units.read(a.unit), units.read(b.unit)
    if {a.unit.lower().rstrip("s"), b.unit.lower().rstrip("s")} == {"£", "pound"}:
        return equal(a.value, b.value)
    factor = units.conversion(x, y) if x and y else None
    return False if factor is None else equal(_scaled(a.value, factor), b.value)


def _scaled(value: Value, factor: Fraction) -> Value:
    if factor == 1 or not isinstance(value, (Number, Expression)):
        return value
    node: Node = ("mul", ("num", factor, None), value.node)
    return Number(node, value.value * factor) if isinstance(value, Number) else Expression(node)


def quantity_bare(a: Quantity, b: Value) -> Said:
    """The unit is left out; a percentage may be the share; an angle may be in radians; `6h` may be six hours."""
    unit = units.read(a.unit)
    if unit is None:
        return False
    if isinstance(b, Expression) and b.node[0] == "mul" and b.node[2][0] == "sym" and unit.dimension:
        (_, inner, (_, name)) = b.node
        if name in units.SINGLE:
            value = Number(inner, inner[1], inner[2]) if inner[0] == "num" else Expression(inner)
            return quantities(a, Quantity(value, name))
    said = equal(a.value, b)
    share = (
        Fraction(1, 100) if unit.percent else unit.size if unit.size == 12 and not unit.dimension else None
    )
    if said is False and share:
        return equal(_scaled(a.value, share), b)
    if (
        said is False
        and unit.dimension == (("degree", 1),)
        and isinstance(b, Expression)
        and "pi" in kinds(b.node)
    ):
        return isinstance(a.value, Number) and identical(("mul", a.value.node, ("const", "degree")), b.node)
    return said


def about(a: About, b: Value) -> Said:
    """A side of an approximation that holds a value is the answer, or an exact answer rounds to it."""
    if isinstance(b, Labelled):
        return about(a, b.value) if labels_agree(a.label, b.label) else False
    if not isinstance(b, About):
        return some([*(equal(value, b) for value in a.values), *(_rounds(b, value) for value in a.values)])
    if a.label and b.label and not labels_agree(a.label, b.label):
        return False
    if len(a.values) == len(b.values):
        return in_order(a.values, b.values)
    return some(equal(x, y) for x in a.values for y in b.values)


def _rounds(exact: Value, value: Value) -> bool:
    """Whether a value that is no decimal itself rounds to a decimal."""
    if not isinstance(exact, (Number, Expression)) or not isinstance(value, Number) or not value.places:
        return False
    target, mp = number(exact.node), context()
    if target is None or mp.im(target) or (isinstance(exact, Number) and exact.places is not None):
        return False
    return bool(
        abs(mp.mpf(value.value.numerator) / value.value.denominator - target)
        <= mp.mpf(10) ** -value.places / 2
    )


# -- collections
def lists(a: List, b: List) -> Said:
    """Items in any order, with their repetitions; a solution of several parts may be written twice."""
    said = in_any_order(a.items, b.items)
    parts = all(isinstance(v, (Tuple, Labelled, Solutions)) for v in (*a.items, *b.items))
    return in_any_order(distinct(a.items), distinct(b.items)) if said is False and parts else said


def set_items(a: Set, b: Set | List) -> Said:
    """The same elements."""
    return in_any_order(distinct(a.items), distinct(b.items) if isinstance(b, Set) else b.items)


def tuples(a: Tuple, b: Tuple) -> Said:
    """The same items in order, and the same brackets where two items may be an interval."""
    if len(a.items) == 2 and (a.opening, a.closing) != (b.opening, b.closing):
        return False
    return in_order(a.items, b.items)


def tuple_list(a: Tuple, b: List) -> Said:
    """The brackets are left out: the order counts."""
    return in_order(a.items, b.items) if a.opening + a.closing == "()" else False


def one_item(a: Set, b: Value) -> Said:
    """A set of one element and that element."""
    return equal(a.items[0], b) if len(a.items) == 1 else False


def matrix_tuple(a: Matrix, b: Tuple) -> Said:
    """A row or a column and the vector."""
    line = len(a.rows) == 1 or len(a.rows[0]) == 1
    return (
        in_order([cell for row in a.rows for cell in row], b.items)
        if line and b.opening + b.closing in "()[]"
        else False
    )


# -- sets of reals
def real_sets(a: Value, b: Value) -> Said:
    """The same pieces; the names, where both have one, agree."""
    if (
        isinstance(a, Reals)
        and isinstance(b, Reals)
        and a.name
        and b.name
        and not labels_agree(a.name, b.name)
    ):
        return False
    left, right = reals(a), reals(b)
    return False if left is None or right is None else sets.same_pieces(left, right)


def reals_list(a: Reals, b: List) -> Said:
    """Intervals side by side are their union."""
    parts = [reals(item) for item in b.items]
    names = {item.name for item in b.items if isinstance(item, Reals)} | {a.name}
    if None in parts or len(names - {""}) > 1:
        return False
    return sets.same_pieces(a.pieces, sets.normal([p for part in parts for p in part or ()]))


def condition_set(a: Condition, b: Value) -> Said:
    """The condition holds in the set and nowhere else."""
    names = {name for relation in a.relations for name in symbols(relation)}
    if isinstance(b, Reals) and b.name and names != {b.name}:
        return False
    pieces = reals(b)
    return False if pieces is None else sets.agree(pieces, a.relations, a.every)


def conditions(a: Condition, b: Condition) -> Said:
    """Two inequalities that are a positive factor of each other, or that hold at the same values."""
    pair = len(a.relations) == len(b.relations) == 1 and len(a.relations[0][2]) == len(b.relations[0][2]) == 2
    if pair and sets.same_inequality(a.relations[0], b.relations[0]):
        return True
    if len({name for c in (a, b) for r in c.relations for name in symbols(r)}) == 1:
        return sets.same_truth(a.relations, b.relations, (a.every, b.every))
    if pair or len(a.relations) != len(b.relations) or a.every != b.every or len(a.relations) == 1:
        return False if pair else None
    return in_any_order(*(tuple(Condition((r,)) for r in c.relations) for c in (a, b)))


# -- labels and equations
def equations(a: Relation, b: Relation) -> Said:
    """The same relation up to a factor; two equations with the same solutions."""
    return same_equation((a.operator, a.left, a.right), (b.operator, b.left, b.right))


def labelled(a: Labelled, b: Labelled) -> Said:
    """The same value under names that can be of one thing, or the same equation."""
    agree = labels_agree(a.label, b.label)
    said = equal(a.value, b.value) if agree else False
    if said or not (a.relation and b.relation):
        return some((said, constants_renamed(a.value, b.value))) if agree else said
    p, q = a.relation.left, b.relation.left
    if (
        agree
        and p[0] == q[0] == "apply"
        and p != q
        and len(p[2]) == len(q[2]) == 1
        and p[2][0][0] == q[2][0][0] == "sym"
    ):
        return identical(
            a.relation.right, substitute(b.relation.right, q[2][0][1], p[2][0])
        )  # f(n) = n, f(x) = x
    if not symbols(a.relation.right) and not symbols(b.relation.right):
        return said
    return some((said, equations(a.relation, b.relation), agree and constants_renamed(a.value, b.value)))


def labelled_relation(a: Labelled, b: Relation) -> Said:
    """An equation with a name alone on one side, and one without."""
    return equations(a.relation, b) if a.relation else False


def labelled_bare(a: Labelled, b: Value) -> Said:
    """The name is left out."""
    if isinstance(b, Reals) and b.name and not labels_agree(a.label, b.name):
        return False
    return equal(a.value, b)


# -- solutions and families
def _as_tuples(a: Solutions) -> tuple[Tuple, ...]:
    """Each solution as a tuple of its values, the names in alphabetical order."""
    return tuple(
        Tuple("(", ")", tuple(v for _, v in sorted(row, key=lambda pair: pair[0]))) for row in a.rows
    )


def _stem(a: Solutions) -> str:
    """The one letter that the names of a solution have, with indices: `x` of `x_1 = 2, x_2 = 3`."""
    stems = {name.partition("_")[0] for name, _ in a.rows[0]}
    return stems.pop() if len(stems) == 1 and len(a.rows) == 1 else ""


def solution_sets(a: Solutions, b: Solutions) -> Said:
    """The same solutions; under other names, those in alphabetical order."""
    names = [{name for name, _ in s.rows[0]} for s in (a, b)]
    if names[0] != names[1] and (names[0] & names[1] or len(names[0]) != len(names[1])):
        return False
    return lists(List(_as_tuples(a)), List(_as_tuples(b)))


def solutions_items(a: Solutions, b: Tuple | Set | List) -> Said:
    """Tuples hold the unknowns in alphabetical order; a plain list holds them as they come, roots in any order."""
    rows = _as_tuples(a)
    if isinstance(b, Tuple):
        return equal(rows[0], b) if len(rows) == 1 else False
    if all(isinstance(item, Tuple) for item in b.items):
        return in_any_order(distinct(rows), distinct(b.items))
    values = tuple(v for _, v in a.rows[0])
    if len(a.rows) != 1:
        return False
    return some(
        (
            in_order(values, b.items),
            in_any_order(values, b.items) if _stem(a) in ("x", "y", "z", "t") else False,
        )
    )


def solutions_labelled(a: Solutions, b: Labelled) -> Said:
    """Indexed unknowns against the values of one: `x_1 = 2, x_2 = 3` and `x = 2, x = 3`."""
    if _stem(a) == b.label and isinstance(b.value, List):
        return in_any_order(tuple(v for _, v in a.rows[0]), b.value.items)
    return (
        solutions_items(a, b.value)
        if isinstance(b.value, (Tuple, List, Set)) and b.label.startswith("(")
        else False
    )


def solutions_value(a: Solutions, b: Value) -> Said:
    """`x = y = z = 1` and the common value."""
    values = {v for row in a.rows for _, v in row}
    return equal(values.pop(), b) if len(values) == 1 else False


def family_other(a: Family, b: Value) -> Said:
    """The other side has the same members, its free letter running as the parameter does."""
    other = b if isinstance(b, Family) else families.as_family(b, a)
    if other is None or (a.label and other.label and not labels_agree(a.label, other.label)):
        return False
    return families.same_family(a, other)


# -- ratios, pieces, words
def ratios(a: Ratio, b: Ratio) -> Said:
    """Proportional, or the same time of day."""
    times, halves = [_minutes(r) for r in (a, b)], [r.half in ("am", "pm") for r in (a, b)]
    if a.clock and b.clock and halves[0] != halves[1]:
        return times[0] == times[1] or a.clock == b.clock
    if a.half or b.half or None not in times:
        return times[0] == times[1] and None not in times
    if len(a.items) != len(b.items) or not all(
        isinstance(v, (Number, Expression)) for v in (*a.items, *b.items)
    ):
        return in_order(a.items, b.items)
    p, q = ([v.node for v in r.items] for r in (a, b))  # type: ignore[attr-defined]
    return every(identical(("mul", p[0], y), ("mul", q[0], x)) for x, y in zip(p[1:], q[1:], strict=True))


def _minutes(a: Ratio) -> int | None:
    if a.clock is None:
        return None
    hour = a.clock[0] % 12 + 12 * (a.half == "pm") if a.half in ("am", "pm") else a.clock[0]
    return hour * 60 + a.clock[1]


def ratio_value(a: Ratio, b: Number | Expression) -> Said:
    """A ratio of two and its quotient."""
    if len(a.items) != 2 or a.half or not all(isinstance(v, (Number, Expression)) for v in a.items):
        return False
    return identical(("div", a.items[0].node, a.items[1].node), b.node)  # type: ignore[attr-defined]


def piecewise(a: Cases, b: Cases) -> Said:
    """The same pieces in any order; one piece may be said to be all the rest."""
    if len(a.rows) != len(b.rows):
        return False
    left, doubt = list(b.rows), False
    for value, condition in sorted(a.rows, key=lambda row: isinstance(row[1], Text)):
        rest = [isinstance(condition, Text) or isinstance(c, Text) or equal(condition, c) for _, c in left]
        said = [every((equal(value, v), r)) for (v, _), r in zip(left, rest, strict=True)]
        if True in said:
            del left[said.index(True)]
        elif None not in said:
            return False
        doubt |= True not in said
    return None if doubt else True


def named_sets(a: Named, b: Named) -> Said:
    """The same set by name, or the same operation on the same sets."""
    if a.name != b.name:
        return {a.name, b.name} == {"N", "Z+"} and not a.operands
    return (in_order if a.name in ("setminus", "given") else in_any_order)(a.operands, b.operands)


Rule = Callable[[Any, Any], Said]
RULES: dict[tuple[type[Value], type[Value]], Rule] = {
    (Number, Number): numbers,
    (Number, Expression): number_expression,
    (Expression, Expression): expressions,
    (Quantity, Quantity): quantities,
    (Base, Base): lambda a, b: False,  # equal ones are the same value
    (Base, Number): lambda a, b: a.digits == str(b.value),  # the base is left out
    (Tuple, Tuple): tuples,
    (Tuple, List): tuple_list,
    (List, List): lists,
    (Set, Set): set_items,
    (Set, List): set_items,
    (Set, Tuple): one_item,
    (Reals, List): reals_list,
    (Condition, Condition): conditions,
    (Relation, Relation): equations,
    (Labelled, Labelled): labelled,
    (Labelled, Relation): labelled_relation,
    (Solutions, Solutions): solution_sets,
    (Solutions, Labelled): solutions_labelled,
    (Matrix, Matrix): lambda a, b: (
        every(in_order(p, q) for p, q in zip(a.rows, b.rows, strict=False))
        if len(a.rows) == len(b.rows)
        else False
    ),
    (Matrix, Tuple): matrix_tuple,
    (Ratio, Ratio): ratios,
    (Cases, Cases): piecewise,
    (Named, Named): named_sets,
    (Text, Text): lambda a, b: words.same(a.words, b.words),
    (Text, Expression): lambda a, b: a.words in words.INFINITE and b.node == sets.INFINITY,
}
for _rule, _type, _others in (
    (quantity_bare, Quantity, (Number, Expression)),
    (about, About, (About, Number, Expression, Quantity, Labelled, Ratio)),
    (one_item, Set, (Number, Expression, Quantity)),
    (real_sets, Reals, (Reals, Tuple, Set, Named)),
    (real_sets, Named, (Tuple, Set)),
    (condition_set, Condition, (Reals, Tuple, Set, Named)),
    (solutions_items, Solutions, (Tuple, List, Set)),
    (solutions_value, Solutions, (Number, Expression)),
    (ratio_value, Ratio, (Number, Expression)),
    (family_other, Family, (Family, Expression, Number, List, Set, Tuple, Labelled, Solutions)),
    (
        labelled_bare,
        Labelled,
        (Number, Expression, Quantity, Base, Tuple, Set, List, Reals, Condition, Matrix, Ratio),
    ),
    (labelled_bare, Labelled, (Cases, Named, Text)),
    (lambda a, b: None, Unread, Value.__subclasses__()),  # computer algebra has to tell
):
    RULES |= {(_type, other): _rule for other in _others}
