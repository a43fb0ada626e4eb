"""Rules for numbers, expressions, quantities and approximations."""

from __future__ import annotations

from fractions import Fraction

from undo_hpc.grading import families, units
from undo_hpc.grading.compare import Said, equal, in_order, some
from undo_hpc.grading.evaluate import kinds, symbols
from undo_hpc.grading.identity import approximates, context, identical, number
from undo_hpc.grading.labels import labels_agree
from undo_hpc.grading.names import word_set
from undo_hpc.grading.nodes import Node, replace
from undo_hpc.grading.values import About, Expression, Labelled, Number, Quantity, Value

_TRIGONOMETRY = word_set("sin cos tan cot sec csc")


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
            n if kinds(n) & _TRIGONOMETRY else replace(n, ("const", "degree"), one) for n in (a.node, b.node)
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
