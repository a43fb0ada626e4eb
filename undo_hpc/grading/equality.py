"""Equality of answers as one table: which rule compares which types. What stands in no row is different.

A rule says True, False, or None where only computer algebra can tell; each works in both orders of its pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from undo_hpc.grading import families, regions, units, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.evaluate import context, kinds, number, rational, symbols
from undo_hpc.grading.identity import approximates, identical, opaque, proportional, same_roots
from undo_hpc.grading.making import as_formula
from undo_hpc.grading.nodes import num, substitute
from undo_hpc.grading.tables import word_set

Said = bool | None
Rule = Callable[[Any, Any], Said]
_TRIGONOMETRY = word_set("sin cos tan cot sec csc")
_INTEGRATION = ({"C", "c"}, {"C", "K"}, {"C", "k"})


def equal(a: typed.Value, b: typed.Value) -> Said:
    """Whether two values are the same answer."""
    if a == b:
        return None if isinstance(a, typed.Unread) else True
    if rule := RULES.get((type(a), type(b))):
        return rule(a, b)
    rule = RULES.get((type(b), type(a)))
    return rule(b, a) if rule else False


# -- what several verdicts mean together
def every(said: Iterable[Said]) -> Said:
    """All are True; the first False decides, else a None."""
    doubt = False
    for one in said:
        if one is False:
            return False
        doubt |= one is None
    return None if doubt else True


def some(said: Iterable[Said]) -> Said:
    """One is True; else None where one is in doubt."""
    found = list(said)
    return True if True in found else None if None in found else False


def in_order(a: Sequence[typed.Value], b: Sequence[typed.Value]) -> Said:
    """The same items in the same order."""
    return every(map(equal, a, b)) if len(a) == len(b) else False


def in_any_order(a: Sequence[typed.Value], b: Sequence[typed.Value]) -> Said:
    """The items pair off in some order; with dots among them the order counts."""
    if len(a) != len(b) or any(isinstance(v, typed.Dots) for v in (*a, *b)):
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


def distinct(items: Sequence[typed.Value]) -> list[typed.Value]:
    """The items without those that are equal to one before."""
    out: list[typed.Value] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return out


# -- expressions, quantities, approximations
def _decimal(value: typed.Value) -> tuple[Fraction, int]:
    """The value of an expression that was written as a decimal, and its places; zero places for any other."""
    node = value.node if isinstance(value, typed.Expression) else num(0)
    sign, bare = (-1, node[1]) if node[0] == "neg" else (1, node)
    return (sign * bare[1], bare[2] or 0) if bare[0] == "num" else (Fraction(0), 0)


def expressions(a: typed.Expression, b: typed.Expression) -> Said:
    """Identity; long decimals may round an exact value; degrees may be left out; parameters and constants have any letter."""
    for x, y in ((a, b), (b, a)):
        exact, places = _decimal(x)
        if places and not _decimal(y)[1] and approximates(exact, places, y.node):
            return True
    said = identical(a.node, b.node)
    if said is not False:
        return said
    held = kinds(a.node), kinds(b.node)
    if ("degree" in held[0]) != ("degree" in held[1]) and not (held[0] | held[1]) & _TRIGONOMETRY:
        said = identical(*(substitute(node, ("const", "degree"), num(1)) for node in (a.node, b.node)))
    if symbols(a.node) ^ symbols(b.node) in _INTEGRATION:
        return families.constants_renamed(a.node, b.node)
    return bool(families.implied(a.node, b.node)) or said


def quantities(a: typed.Quantity, b: typed.Quantity) -> Said:
    """Units of one dimension convert; others contradict each other."""
    x, y = units.read(a.unit), units.read(b.unit)
    if {a.unit.rstrip("s"), b.unit.rstrip("s")} == {"£", "pound"}:
        return equal(a.value, b.value)
    factor = units.conversion(x, y) if x and y else None
    return False if factor is None else equal(_scaled(a.value, factor), b.value)


def _scaled(value: typed.Value, factor: Fraction) -> typed.Value:
    if factor == 1 or not isinstance(value, typed.Expression):
        return value
    return typed.Expression(("mul", num(factor), value.node))


def quantity_bare(a: typed.Quantity, b: typed.Expression) -> Said:
    """The unit is left out; a percentage may be the share; an angle may be in radians; `6h` may be six hours."""
    unit = units.read(a.unit)
    if unit is None:
        return False
    if b.node[0] == "mul" and b.node[2][0] == "sym" and b.node[2][1] in units.SINGLE and unit.dimension:
        return quantities(a, typed.Quantity(typed.Expression(b.node[1]), b.node[2][1]))
    said = equal(a.value, b)
    if said is not False:
        return said
    if unit.percent:
        return equal(_scaled(a.value, Fraction(1, 100)), b)
    if unit.dimension == (("degree", 1),) and "pi" in kinds(b.node) and isinstance(a.value, typed.Expression):
        return identical(("mul", a.value.node, ("const", "degree")), b.node)
    return False


def about(a: typed.About, b: typed.Value) -> Said:
    """A side of an approximation that holds a value is the answer, or an exact answer rounds to it."""
    if isinstance(b, typed.Solutions):
        named = len(b.rows) == len(b.names) == 1 and (not a.label or labels_agree(a.label, b.names[0]))
        return about(a, b.rows[0][0]) if named else False
    if not isinstance(b, typed.About):
        return some([*(equal(value, b) for value in a.values), *(_rounds(b, value) for value in a.values)])
    if a.label and b.label and not labels_agree(a.label, b.label):
        return False
    if len(a.values) == len(b.values):
        return in_order(a.values, b.values)
    return some(equal(x, y) for x in a.values for y in b.values)


def _rounds(exact: typed.Value, value: typed.Value) -> bool:
    """Whether a value that is no decimal itself rounds to a decimal."""
    decimal, places = _decimal(value)
    if not places or not isinstance(exact, typed.Expression) or _decimal(exact)[1]:
        return False
    target, mp = number(exact.node), context()
    near = target is not None and abs(target - decimal) <= mp.mpf(10) ** -places / 2
    return bool(near) and not mp.im(target)


# -- lists, sets, tuples, sets of reals
def items(a: typed.Items, b: typed.Items) -> Said:
    """Lists count repetitions, sets do not, tuples have an order; brackets may be left out, but not contradict."""
    if a.brackets in ("", "{}") and b.brackets not in ("", "{}"):
        a, b = b, a
    kinds_of = a.brackets, b.brackets
    if "matrix" in kinds_of:
        return _matrices(a, b)
    if a.brackets not in ("", "{}"):
        if b.brackets == "{}":
            return one_item(b, a)
        if b.brackets == "":
            return in_order(a.items, b.items) if a.brackets == "()" else False
        same = a.brackets == b.brackets or len(a.items) != 2  # of two items it may be an interval
        return in_order(a.items, b.items) if same else False
    said = in_any_order(*(distinct(v.items) if v.brackets == "{}" else v.items for v in (a, b)))
    parts = all(isinstance(v, (typed.Items, typed.Solutions)) for v in (*a.items, *b.items))
    repeated = said is False and parts
    return in_any_order(distinct(a.items), distinct(b.items)) if repeated else said


def _matrices(a: typed.Items, b: typed.Items) -> Said:
    if a.brackets == b.brackets:
        return in_order(a.items, b.items)
    rows, vector = (a.items, b) if a.brackets == "matrix" else (b.items, a)
    cells = [cell for row in rows for cell in row.items]  # type: ignore[attr-defined]
    line = (len(rows) == 1 or len(cells) == len(rows)) and vector.brackets in ("()", "[]")
    return in_order(cells, vector.items) if line else False


def one_item(a: typed.Items, b: typed.Value) -> Said:
    """A set of one element and that element; a list of forms of one value and that value."""
    if a.brackets not in ("", "{}"):
        return False
    found = distinct(a.items)
    forms = a.brackets or len(set(a.items)) == len(a.items)  # `15 39/40 or 639/40`, but not `5, 5`
    return equal(found[0], b) if len(found) == 1 and forms else False


def sets_of_reals(a: typed.Region, b: typed.Region | typed.Items) -> Said:
    """The same numbers; the names, where both have one, agree."""
    if isinstance(b, typed.Region) and a.name and b.name and not labels_agree(a.name, b.name):
        return False
    other = as_formula(b)
    return False if other is None else regions.same_region(a.formula, other)


# -- names, equations, solutions
def labels_agree(a: str, b: str) -> bool:
    """Whether two names can be of one thing: those of unknowns (x, k) must be the same, those of quantities need not."""
    if any(n.startswith("words (") for n in (a, b)) or (a.startswith("of ") and b.startswith("of ")):
        return a == b
    return a == b or not all(len(n.partition("_")[0]) == 1 and n.islower() for n in (a, b))


def equations(a: typed.Relation, b: typed.Relation) -> Said:
    """The same sides, a factor of each other (a positive one for inequalities), or the same solutions."""
    if a.operator != b.operator:
        return False
    said = every((identical(a.left, b.left), identical(a.right, b.right)))
    if said or a.operator not in ("=", "ne", "<", "le"):
        return said
    plain = frozenset(name for side in (a.left, a.right, b.left, b.right) for name in symbols(side))
    x, y = (opaque(("add", r.left, ("neg", r.right)), plain) for r in (a, b))
    factor = proportional(x, y)
    if a.operator in ("<", "le"):
        return said if factor is None else bool(not context().im(factor) and context().re(factor) > 0)
    if factor is not None or symbols(x) != symbols(y):
        return factor is not None or said
    return same_roots(x, y) or said


def solutions(a: typed.Solutions, b: typed.Solutions) -> Said:
    """The same rows of values under names that can be of one thing, or the same equation."""
    if len(a.names) != len(b.names):
        return some((_indexed(a, b), _indexed(b, a)))
    unknowns = set(a.names) == set(b.names) or not set(a.names) & set(b.names)
    agree = unknowns if len(a.names) > 1 else labels_agree(a.names[0], b.names[0])
    said = in_any_order(rows(a), rows(b)) if agree else False
    if said or not (a.relation and b.relation):
        return said
    p, q = a.relation, b.relation
    if agree and p.left[0] == q.left[0] == "apply" and len(p.left[2]) == len(q.left[2]) == 1:
        renamed = substitute(q.right, q.left[2][0], p.left[2][0])  # f(n) = n and f(x) = x
        said = identical(p.right, renamed) if q.left[2][0][0] == "sym" else said
    if not symbols((p.right, q.right)):
        return said
    return some((said, equations(p, q), agree and families.constants_renamed(p.right, q.right)))


def rows(a: typed.Solutions) -> list[typed.Value]:
    """The distinct solutions: values of one name, or tuples of the values of several, the names in alphabetical order."""
    if len(a.names) == 1:
        return distinct([row[0] for row in a.rows])
    order = sorted(range(len(a.names)), key=a.names.__getitem__)
    return distinct([typed.Items("()", tuple(row[i] for i in order)) for row in a.rows])


def _stem(a: typed.Solutions) -> str:
    """The one letter that the names of a solution have, with indices: `x` of `x_1 = 2, x_2 = 3`."""
    stems = {name.partition("_")[0] for name in a.names}
    return min(stems) if len(stems) == 1 and len(a.rows) == 1 else ""


def _indexed(a: typed.Solutions, b: typed.Solutions) -> Said:
    """Indexed unknowns against the values of one: `x_1 = 2, x_2 = 3` and `x = 2, x = 3`."""
    single = len(b.names) == 1 and _stem(a) == b.names[0]
    return in_any_order(a.rows[0], [row[0] for row in b.rows]) if single else False


def solutions_relation(a: typed.Solutions, b: typed.Relation) -> Said:
    """An equation with a name alone on one side, and one without."""
    return equations(a.relation, b) if a.relation else False


def solutions_bare(a: typed.Solutions, b: typed.Value) -> Said:
    """The names are left out: values, tuples in the order of the names, or the values of one solution side by side."""
    found = rows(a)
    if isinstance(b, typed.Region) and b.name and not labels_agree(a.names[0], b.name):
        return False
    if len(a.names) == 1 or len({value for row in a.rows for value in row}) == 1:
        several = typed.Items("", tuple(row[0] for row in a.rows))
        whole = a.rows[0][0] if len(found) == 1 else several
        if len(a.names) == 1 or not isinstance(b, typed.Items):
            return equal(whole, b)
    if not isinstance(b, typed.Items):
        return False
    if b.brackets == "()":
        return equal(found[0], b) if len(found) == 1 else False
    if b.brackets in ("", "{}") and all(isinstance(item, typed.Items) for item in b.items):
        return in_any_order(found, distinct(b.items))
    if len(found) > 1 or b.brackets != "":
        return False
    roots = _stem(a) in ("x", "y", "z", "t")  # in any order
    return (in_any_order if roots else in_order)(a.rows[0], b.items)


def family_other(a: typed.Family, b: typed.Value) -> Said:
    """The other side has the same members, its free letter running as the parameter does."""
    other = b if isinstance(b, typed.Family) else families.as_family(b, a)
    if other is None or (a.label and other.label and not labels_agree(a.label, other.label)):
        return False
    return families.same_family(a, other)


# -- ratios, times, pieces, names
def ratios(a: typed.Ratio, b: typed.Ratio) -> Said:
    """Proportional."""
    nodes = [[getattr(v, "node", None) for v in ratio.items] for ratio in (a, b)]
    if len(a.items) != len(b.items) or None in nodes[0] + nodes[1]:
        return in_order(a.items, b.items)
    pairs = pairwise(zip(*nodes, strict=True))
    return every(identical(("mul", p, y), ("mul", x, q)) for (p, q), (x, y) in pairs)


def ratio_value(a: typed.Ratio, b: typed.Expression) -> Said:
    """A ratio of two and its quotient."""
    if len(a.items) != 2 or not all(isinstance(v, typed.Expression) for v in a.items):
        return False
    return identical(("div", *(v.node for v in a.items)), b.node)  # type: ignore[attr-defined]


def clock_value(a: typed.Clock, b: typed.Expression) -> Said:
    """What looks like a time may be a ratio, but only to the fraction of the same two numbers."""
    return not a.half and b.node == ("div", *map(num, divmod(a.minutes, 60)))


def clocks(a: typed.Clock, b: typed.Clock) -> Said:
    """The same time of day; am and pm may be left out."""
    times = [c.minutes % 720 + 720 * (c.half == "pm") if c.half else c.minutes for c in (a, b)]
    return times[0] == times[1] or (not (a.half and b.half) and a.minutes == b.minutes)


def piecewise(a: typed.Cases, b: typed.Cases) -> Said:
    """The same pieces in any order; one piece may be said to be all the rest."""

    def same(x: tuple[typed.Value, typed.Value], y: tuple[typed.Value, typed.Value]) -> Said:
        rest = isinstance(x[1], typed.Text) or isinstance(y[1], typed.Text)
        return every((equal(x[0], y[0]), rest or equal(x[1], y[1])))

    left = list(b.rows)
    for row in sorted(a.rows, key=lambda row: isinstance(row[1], typed.Text)):
        said = [same(row, other) for other in left]
        if True not in said:
            return None if None in said else False
        del left[said.index(True)]
    return not left


def named_sets(a: typed.Named, b: typed.Named) -> Said:
    """The same set by name, or the same operation on the same sets."""
    if a.name != b.name:
        return False
    return (in_order if a.name in ("setminus", "modulo") else in_any_order)(a.operands, b.operands)


def base_left_out(a: typed.Base, b: typed.Expression) -> Said:
    """The digits without their base."""
    return a.digits.isdigit() and len(a.digits) < 60 and rational(b.node) == int(a.digits)


def infinite(a: typed.Text, b: typed.Expression) -> Said:
    """Words for infinity."""
    return a.words in words.INFINITE and b.node == ("const", "infty")


_VALUES: tuple[Any, ...] = (typed.Expression, typed.Quantity, typed.Base, typed.Items, typed.Region)
_VALUES += (typed.Ratio, typed.Clock, typed.Cases, typed.Named, typed.Text)
_TABLE: tuple[tuple[Any, ...], ...] = (  # a rule, a type, and the types that it is compared with
    (expressions, typed.Expression, typed.Expression),
    (quantities, typed.Quantity, typed.Quantity),
    (quantity_bare, typed.Quantity, typed.Expression),
    (about, typed.About, typed.About, typed.Expression, typed.Quantity, typed.Solutions, typed.Ratio),
    (base_left_out, typed.Base, typed.Expression),
    (items, typed.Items, typed.Items),
    (one_item, typed.Items, typed.Expression, typed.Quantity),
    (sets_of_reals, typed.Region, typed.Region, typed.Items),
    (equations, typed.Relation, typed.Relation),
    (solutions, typed.Solutions, typed.Solutions),
    (solutions_relation, typed.Solutions, typed.Relation),
    (solutions_bare, typed.Solutions, *_VALUES),
    (family_other, typed.Family, typed.Family, typed.Expression, typed.Items, typed.Solutions),
    (ratios, typed.Ratio, typed.Ratio),
    (ratio_value, typed.Ratio, typed.Expression),
    (clocks, typed.Clock, typed.Clock),
    (clock_value, typed.Clock, typed.Expression),
    (piecewise, typed.Cases, typed.Cases),
    (named_sets, typed.Named, typed.Named),
    (infinite, typed.Text, typed.Expression),
    (lambda a, b: words.same(a.words, b.words), typed.Text, typed.Text),
    (lambda a, b: None, typed.Unread, *typed.Value.__subclasses__()),  # computer algebra has to tell
)
RULES: dict[tuple[type[typed.Value], type[typed.Value]], Rule] = {
    (first, second): rule for rule, first, *others in _TABLE for second in others
}
