"""Rules for lists, sets, tuples, matrices, sets of reals, ratios and pieces."""

from __future__ import annotations

from undo_hpc.grading import sets
from undo_hpc.grading.compare import Said, distinct, equal, every, in_any_order, in_order
from undo_hpc.grading.evaluate import symbols
from undo_hpc.grading.identity import identical
from undo_hpc.grading.labels import labels_agree
from undo_hpc.grading.making import reals
from undo_hpc.grading.values import (
    Cases,
    Condition,
    Expression,
    Labelled,
    List,
    Matrix,
    Named,
    Number,
    Ratio,
    Reals,
    Set,
    Solutions,
    Text,
    Tuple,
    Value,
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


def one_item(a: Set | List, b: Value) -> Said:
    """A set of one element and that element; a list of forms of one value and that value."""
    items = distinct(a.items)
    forms = isinstance(a, Set) or len(set(a.items)) == len(a.items)  # `15 39/40 or 639/40`, but not `5, 5`
    return equal(items[0], b) if len(items) == 1 and forms else False


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
    return (in_order if a.name in ("setminus", "given", "modulo") else in_any_order)(a.operands, b.operands)
