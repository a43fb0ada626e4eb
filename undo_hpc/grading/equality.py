"""Equality of answers as one table: which rule compares which types. What stands in no row is different.

A rule says True, False, or None where only computer algebra can tell; each works in both orders of its pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any

from undo_hpc.grading import families, regions, units, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.evaluate import context, rational
from undo_hpc.grading.identity import approximates, identical, opaque, proportional, rounded, same_roots
from undo_hpc.grading.making import as_formula, is_list, total
from undo_hpc.grading.tables import word_set
from undo_hpc.grading.values import Node, Value, kinds, num, substitute, symbols

Said = bool | None
Rule = Callable[[Any, Any], Said]
_TRIGONOMETRY, _INTEGRATION = word_set("sin cos tan cot sec csc"), ({"C", "c"}, {"C", "K"}, {"C", "k"})
_WHOLE, _INTEGERS = frozenset("kmnN"), ("whole", float("-inf"))
_AXES = (("const", "i"), ("sym", "j"), ("sym", "k"))
_DOTS, _OTHERWISE = typed.Named("ldots", ()), typed.Text("otherwise")


def equal(a: Value, b: Value) -> Said:
    """Whether two values are the same answer."""
    try:
        if type(a) is type(b) and a == b:
            return None if isinstance(a, typed.Unread) else True
        if rule := RULES.get((type(a), type(b))):
            return rule(a, b)
        rule = RULES.get((type(b), type(a)))
        return rule(b, a) if rule else False
    except RecursionError:  # hundreds of terms in a row; Python 3.12 follows fewer than the other versions
        return None


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


def in_order(a: Sequence[Value], b: Sequence[Value]) -> Said:
    """The same items in the same order."""
    return every(map(equal, a, b)) if len(a) == len(b) else False


def in_any_order(a: Sequence[Value], b: Sequence[Value], same: Rule = equal) -> Said:
    """The items pair off in some order; with dots among them the order counts."""
    if len(a) != len(b) or _DOTS in (*a, *b):
        return in_order(a, b)
    left, doubt = list(b), False
    for item in a:
        said = [same(item, other) for other in left]
        if True in said:
            del left[said.index(True)]
        elif None not in said:
            return False
        doubt |= True not in said
    return None if doubt else True


def distinct(items: Sequence[Value]) -> list[Value]:
    """The items without those that are equal to one before."""
    out: list[Value] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return out


# -- expressions, quantities, approximations
def _rounds(exact: Value, value: Value, digits: int) -> bool:
    """Whether a value that is no decimal itself rounds to a decimal of so many digits or more."""
    nodes: list[Any] = [getattr(v, "node", None) for v in (exact, value)]
    return None not in nodes and approximates(nodes[1], nodes[0], digits)


def expressions(a: typed.Expression, b: typed.Expression) -> Said:
    """Identity; long decimals may round an exact value; degrees may be left out; parameters and constants have any letter."""
    if _rounds(b, a, 7) or _rounds(a, b, 7):
        return True
    said = identical(a.node, b.node)
    if said is not False:
        return said
    held = kinds(a.node), kinds(b.node)
    if ("degree" in held[0]) != ("degree" in held[1]) and not (held[0] | held[1]) & _TRIGONOMETRY:
        said = identical(*(substitute(node, ("const", "degree"), num(1)) for node in (a.node, b.node)))
    own = symbols(a.node) ^ symbols(b.node)
    if own in _INTEGRATION or any(name.startswith(("C_", "c_")) for name in own):
        return families.constants_renamed(a.node, b.node)
    return bool(families.implied(a.node, b.node)) or said


def quantities(a: typed.Quantity, b: typed.Quantity, same: Rule = equal) -> Said:
    """Units of one dimension convert; others contradict each other."""
    if {a.unit.rstrip("s"), b.unit.rstrip("s")} == {"£", "pound"}:
        return same(a.value, b.value)
    x, y = units.read(a.unit), units.read(b.unit)
    factor = units.conversion(x, y) if x and y else None
    return False if factor is None else same(_scaled(a.value, factor), b.value)


def _scaled(value: Value, factor: Fraction) -> Value:
    plain = factor == 1 or not isinstance(value, typed.Expression)
    return value if plain else typed.Expression(("mul", num(factor), value.node))


def quantity_bare(a: typed.Quantity, b: typed.Expression, same: Rule = equal) -> Said:
    """The unit is left out; a percentage may be the share; an angle may be in radians; `6h` may be six hours."""
    unit = units.read(a.unit)
    if unit is None:
        return False
    if b.node[0] == "mul" and b.node[2][0] == "sym" and b.node[2][1] in units.SINGLE and unit.dimension:
        return quantities(a, typed.Quantity(typed.Expression(b.node[1]), b.node[2][1]), same)
    said = same(a.value, b)
    if said is False and unit.dimension == (("percent", 1),):
        return same(_scaled(a.value, Fraction(1, 100)), b)
    radians = unit.dimension == (("degree", 1),) and ("pi" in kinds(b.node) or same is _near)
    if said is False and radians and isinstance(a.value, typed.Expression):
        return same(typed.Expression(("mul", a.value.node, ("const", "degree"))), b)
    return said


def _near(a: Value, b: Value) -> bool:
    """Whether one value is the other one rounded, as the sides of an honest approximation are."""
    if isinstance(a, typed.Expression) and isinstance(b, typed.Expression):
        return rounded(a.node, b.node)
    if isinstance(a, typed.Quantity) and isinstance(b, typed.Quantity):
        return bool(quantities(a, b, _near) or quantities(b, a, _near))
    if isinstance(a, typed.Expression) and isinstance(b, typed.Quantity):
        a, b = b, a
    bare = isinstance(a, typed.Quantity) and isinstance(b, typed.Expression)
    return bool(quantity_bare(a, b, _near) if bare else equal(a, b))


@lru_cache(maxsize=1024)
def _sides(a: typed.About) -> tuple[Value, ...]:
    """The sides of an approximation that count: all where each is near each other, else the last one alone."""
    near = len(a.values) < 6 and all(_near(*pair) for pair in combinations(a.values, 2))
    return a.values if near else a.values[-1:]


def about(a: typed.About, b: Value) -> Said:
    """A side of an approximation that holds a value is the answer, or an exact answer rounds to it."""
    if isinstance(b, typed.Solutions):
        named = len(b.rows) == len(b.names) == 1 and (not a.label or labels_agree(a.label, b.names[0]))
        return about(a, b.rows[0][0]) if named else False
    if not isinstance(b, typed.About):
        return some(_rounds(b, value, 3) or equal(value, b) for value in _sides(a))
    if a.label and b.label and not labels_agree(a.label, b.label):
        return False
    if len(a.values) == len(b.values):
        return in_order(a.values, b.values)
    return some(equal(x, y) for x in _sides(a) for y in _sides(b))


# -- lists, sets, tuples, sets of reals
def items(a: typed.Items, b: typed.Items) -> Said:
    """Lists count repetitions, sets do not, tuples have an order; brackets may be left out, but not contradict."""
    if a.brackets in ("", "{}") and b.brackets not in ("", "{}"):
        a, b = b, a
    if "matrix" in (a.brackets, b.brackets):
        return _matrices(a, b)
    if a.brackets not in ("", "{}"):
        if b.brackets == "{}":
            return one_item(b, a)
        if b.brackets == "":
            return in_order(a.items, b.items) if a.brackets == "()" else False
        if a.brackets != b.brackets and len(a.items) == 2:  # it may be an interval
            return False
        nodes = [("tuple", *(getattr(item, "node", ()) for item in value.items)) for value in (a, b)]
        said = in_order(a.items, b.items)
        renamed = said is False and a.brackets == "()" and () not in nodes[0] + nodes[1]
        return bool(families.implied(*nodes)) if renamed else said
    labels = [sorted(getattr(item, "label", "") for item in value.items) for value in (a, b)]
    if labels[0] == labels[1] and len(set(labels[0])) == len(a.items) > 1:  # A \approx 3, B \approx 4
        return in_order(*(sorted(value.items, key=lambda item: item.label) for value in (a, b)))
    x, y = (distinct(v.items) if v.brackets == "{}" else v.items for v in (a, b))
    said = in_any_order(x, y)
    parts = all(isinstance(v, (typed.Items, typed.Solutions)) for v in (*a.items, *b.items))
    return in_any_order(distinct(a.items), distinct(b.items)) if said is False and parts else said


def _matrices(a: typed.Items, b: typed.Items) -> Said:
    if a.brackets == b.brackets:
        return in_order(a.items, b.items)
    rows, vector = (a.items, b) if a.brackets == "matrix" else (b.items, a)
    cells = [cell for row in rows for cell in row.items]
    line = (len(rows) == 1 or len(cells) == len(rows)) and vector.brackets in ("()", "[]")
    return in_order(cells, vector.items) if line else False


def one_item(a: typed.Items, b: Value) -> Said:
    """A set of one element and that element; a list of forms of one value and that value."""
    if a.brackets == "()" and isinstance(b, typed.Expression) and 1 < len(a.items) < 4:  # (1, -2) and i - 2j
        nodes = [getattr(item, "node", num(0)) for item in a.items]
        along = total([("mul", *pair) for pair in zip(nodes, _AXES, strict=False)])
        return "j" in symbols(b.node) and identical(along, b.node)
    if a.brackets not in ("", "{}"):
        return False
    found = distinct(a.items)
    forms = a.brackets or len(set(a.items)) == len(a.items)  # `15 39/40 or 639/40`, but not `5, 5`
    return equal(found[0], b) if len(found) == 1 and forms else False


def sets_of_reals(a: typed.Region, b: typed.Region | typed.Items | typed.Relation) -> Said:
    """The same numbers; the names, where both have one, agree."""
    if isinstance(b, typed.Relation):  # c < a + b, and a + b - c > 0
        whole = ("rel", (b.operator,), substitute((b.left, b.right), ("sym", a.name), regions.VARIABLE))
        return a.name in symbols((b.left, b.right)) and regions.same_region(a.formula, whole)
    if isinstance(b, typed.Region) and a.name and b.name and not labels_agree(a.name, b.name):
        return False
    if (other := as_formula(b)) is None:
        return False
    formulas: list[Node] = [a.formula, other]
    for i, name in enumerate((a.name, getattr(b, "name", ""))):
        part = ("every", formulas[i], _INTEGERS)  # n >= 3 of integers, which goes without saying
        told = name in _WHOLE and "whole" in kinds(formulas[1 - i])
        formulas[i] = part if told and not regions.same_region(part, _INTEGERS) else formulas[i]
    return regions.same_region(*formulas)


# -- names, equations, solutions
def labels_agree(a: str, b: str) -> bool:
    """Whether two names can be of one thing: those of unknowns (x, k) must be the same, those of quantities need not.

    What is alike but for a mark differs: f and its inverse, dy/dx and dx/dy, two angles. But y and y(x) are one.
    """
    same = a.rstrip("()") == b.rstrip("()")
    heads = [name.partition("_")[0] for name in (a, b)]
    marked = heads[0] != heads[1] and a[0] == b[0] and not a.startswith(("words ", "of "))
    strict = marked or a[:3] == b[:3] == "of " or any(n.startswith("words (") for n in (a, b))
    return same or not (strict or all(len(head) == 1 and head.islower() for head in heads))


def equations(a: typed.Relation, b: typed.Relation) -> Said:
    """The same sides, a factor of each other (a positive one for inequalities), or the same solutions."""
    if a.operator != b.operator:
        return False
    said = every((identical(a.left, b.left), identical(a.right, b.right)))
    if said or a.operator not in ("=", "ne", "<", "le"):
        return said
    x, y = (opaque(("add", r.left, ("neg", r.right))) for r in (a, b))
    factor = proportional(x, y)
    if a.operator in ("<", "le"):
        return said if factor is None else bool(not context().im(factor) and context().re(factor) > 0)
    return factor is not None or (symbols(x) == symbols(y) and same_roots(x, y)) or said


def solutions(a: typed.Solutions, b: typed.Solutions) -> Said:
    """The same rows of values under names that can be of one thing, or the same equation."""
    if len(a.names) != len(b.names):
        x, y = (a, b) if len(a.names) > len(b.names) else (b, a)
        return typed.stem(x) == y.names[0] and in_any_order(x.rows[0], [row[0] for row in y.rows])
    unknowns = set(a.names) == set(b.names) or not set(a.names) & set(b.names)
    agree = unknowns if len(a.names) > 1 else labels_agree(a.names[0], b.names[0])
    ours, theirs = distinct(typed.row_values(a)), distinct(typed.row_values(b, a.names))
    said = in_any_order(ours, theirs) if agree else False
    if said or not (a.relation and b.relation):
        return said
    p, q = a.relation, b.relation
    right, argument = q.right, ""
    applied = all(r.left[0] == "apply" and [part[0] for part in r.left[2]] == ["sym"] for r in (p, q))
    if agree and applied:  # f(n) = n and f(x) = x
        right, argument = substitute(right, q.left[2][0], p.left[2][0]), p.left[2][0][1]
        said = identical(p.right, right)
    if not symbols((p.right, q.right)):
        return said
    lefts = tuple(r.left for r in (p, q) if not symbols(r.left) & symbols(r.right))
    argument = "\0" if ("sym", "y") in lefts and "apply" in kinds(lefts) else argument  # f(x) = c and y = C
    return some((said, equations(p, q), agree and families.constants_renamed(p.right, right, argument)))


def solutions_bare(a: typed.Solutions, b: Value) -> Said:
    """The names are left out: values, tuples in the order of the names, or the values of one solution side by side."""
    if isinstance(b, typed.Relation):  # an equation with a name alone on one side, and one without
        return equations(a.relation, b) if a.relation else False
    if isinstance(b, typed.Region) and b.name and not labels_agree(a.names[0], b.name):
        return False
    pair = a.names == ("point C",) and len(a.rows[0][0].items) == 2  # C(10, 3) may be ten choose three
    if pair and isinstance(b, typed.Expression):
        arguments = tuple(getattr(v, "node", num(-1)) for v in a.rows[0][0].items)
        return identical(("fn", "binom", arguments, None), b.node)
    if isinstance(b, typed.Items) and any(isinstance(item, typed.Relation) for item in b.items):
        rows = [typed.Relation("=", ("sym", a.names[0]), getattr(row[0], "node", ())) for row in a.rows]
        return len(a.names) == 1 and in_any_order(rows, b.items)  # two lines
    found = distinct(typed.row_values(a))
    if len(a.names) == 1:
        return equal(a.rows[0][0] if len(found) == 1 else typed.Items("", tuple(row[0] for row in a.rows)), b)
    if not isinstance(b, typed.Items) or b.brackets not in ("", "{}", "()"):
        return False
    if b.brackets == "()":
        return equal(found[0], b) if len(found) == 1 else False
    if all(isinstance(item, typed.Items) for item in b.items):
        return in_any_order(found, distinct(b.items))
    roots = typed.stem(a) in ("x", "y", "z", "t")  # in any order
    order = in_any_order if roots else in_order
    return order(a.rows[0], b.items) if len(found) < 2 and (roots or is_list(b)) else False


def family_other(a: typed.Family, b: Value) -> Said:
    """The other side has the same members, its free letter running as the parameter does."""
    if a.domains == families.RESIDUES and not a.label and isinstance(b, typed.Expression):  # 7 (mod 11) and 7
        return len(a.items) == 1 and identical(a.items[0][0][1], b.node)
    other = b if isinstance(b, typed.Family) else families.as_family(b, a)
    if other is None or (a.label and other.label and not labels_agree(a.label, other.label)):
        return False
    bare = not isinstance(b, (typed.Family, typed.Solutions))
    return families.same_family(a, other, bare)


# -- ratios, times, pieces, names
def ratios(a: typed.Ratio, b: typed.Ratio | typed.Expression) -> Said:
    """Proportional; a ratio of two and its quotient."""
    quotient = (b, typed.Expression(num(1)))
    both = (a.items, quotient if isinstance(b, typed.Expression) else b.items)
    nodes = [[getattr(v, "node", None) for v in items] for items in both]
    if len(nodes[0]) != len(nodes[1]) or None in nodes[0] + nodes[1]:
        return in_order(a.items, b.items) if isinstance(b, typed.Ratio) else False
    pairs = pairwise(zip(*nodes, strict=True))
    return every(identical(("mul", p, y), ("mul", x, q)) for (p, q), (x, y) in pairs)


def clocks(a: typed.Clock, b: typed.Clock | typed.Expression) -> Said:
    """The same time of day, am and pm may be left out; it may be a ratio, but only to the fraction of the same two numbers."""
    if isinstance(b, typed.Expression):
        return not a.half and b.node == ("div", *map(num, divmod(a.minutes, 60)))
    times = [c.minutes % 720 + 720 * (c.half == "pm") if c.half else c.minutes for c in (a, b)]
    return times[0] == times[1] or (not (a.half and b.half) and a.minutes == b.minutes)


def piecewise(a: typed.Cases, b: typed.Cases | typed.Items | typed.Expression) -> Said:
    """The same pieces in any order; one piece may be said to be all the rest; the domain of a single one may be left out."""
    if not isinstance(b, typed.Cases):  # x+1, x > 2 and x+1; y = x+1, x > 2
        whole = a.rows[0][0] if isinstance(b, typed.Expression) else typed.Items("", a.rows[0])
        return len(a.rows) == 1 and equal(whole, b)

    def same(x: tuple[Value, Value], y: tuple[Value, Value]) -> Said:
        return every((equal(x[0], y[0]), (one and _OTHERWISE in (x[1], y[1])) or equal(x[1], y[1])))

    one = len(a.rows) > 1 and all(sum(row[1] == _OTHERWISE for row in v.rows) < 2 for v in (a, b))
    ordered = sorted(a.rows, key=lambda row: row[1] == _OTHERWISE)
    return in_any_order(ordered, b.rows, same) if len(a.rows) == len(b.rows) else False


def named_sets(a: typed.Named, b: Value) -> Said:
    """The same set by name, or the same operation on the same sets; digits without their base."""
    if isinstance(b, typed.Expression):
        digits = a.operands[0].words if a.name.startswith("base ") else ""
        return digits.isdigit() and len(digits) < 60 and rational(b.node) == int(digits)
    order = in_order if a.name in ("setminus", "modulo") else in_any_order
    return a.name == b.name and order(a.operands, b.operands)


def texts(a: typed.Text, b: Value) -> Said:
    """The same words; words for infinity."""
    if isinstance(b, typed.Expression):
        return a.words in words.INFINITE and b.node == ("const", "infty")
    return words.same(a.words, b.words) or {a.words, b.words} <= {*words.INFINITE}


_OTHERS = tuple(t for t in typed.TYPES if t not in (typed.About, typed.Solutions, typed.Family, typed.Unread))
_TABLE: tuple[tuple[Any, ...], ...] = (  # a rule, a type, and the types that it is compared with
    (expressions, typed.Expression, typed.Expression),
    (quantities, typed.Quantity, typed.Quantity),
    (quantity_bare, typed.Quantity, typed.Expression),
    (about, typed.About, typed.About, typed.Expression, typed.Quantity, typed.Solutions, typed.Ratio),
    (items, typed.Items, typed.Items),
    (one_item, typed.Items, typed.Expression, typed.Quantity),
    (sets_of_reals, typed.Region, typed.Region, typed.Items, typed.Relation),
    (equations, typed.Relation, typed.Relation),
    (solutions, typed.Solutions, typed.Solutions),
    (solutions_bare, typed.Solutions, *_OTHERS),
    (family_other, typed.Family, typed.Family, typed.Expression, typed.Items, typed.Solutions),
    (ratios, typed.Ratio, typed.Ratio, typed.Expression),
    (clocks, typed.Clock, typed.Clock, typed.Expression),
    (piecewise, typed.Cases, typed.Cases, typed.Items, typed.Expression),
    (named_sets, typed.Named, typed.Named, typed.Expression),
    (texts, typed.Text, typed.Text, typed.Expression),
    (lambda a, b: None, typed.Unread, *typed.TYPES),  # computer algebra has to tell
)
RULES: dict[tuple[Any, Any], Rule] = { (first, second): rule for rule, first, *others in _TABLE for second in others}  # fmt: skip
