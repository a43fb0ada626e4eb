"""Rules for equations, labelled values, solutions and families."""

from __future__ import annotations

from undo_hpc.grading import families
from undo_hpc.grading.amounts import constants_renamed
from undo_hpc.grading.compare import Said, distinct, equal, in_any_order, in_order, some
from undo_hpc.grading.evaluate import symbols
from undo_hpc.grading.identity import identical
from undo_hpc.grading.labels import labels_agree, same_equation
from undo_hpc.grading.sets import substitute
from undo_hpc.grading.structures import lists
from undo_hpc.grading.values import Family, Labelled, List, Reals, Relation, Set, Solutions, Tuple, Value


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
