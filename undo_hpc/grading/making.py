"""From nodes to values: numbers, quantities, brackets, matrices, ratios, sets of reals, pieces."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from undo_hpc.grading import sets, words
from undo_hpc.grading.evaluate import Undefined, kinds, rational
from undo_hpc.grading.matrices import entries
from undo_hpc.grading.names import word_set
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.tokens import SyntaxProblem
from undo_hpc.grading.values import (
    Cases,
    Expression,
    Labelled,
    List,
    Matrix,
    Named,
    Number,
    Quantity,
    Ratio,
    Reals,
    Set,
    Text,
    Tuple,
    Value,
)

ORDERS = frozenset(("<", ">", "le", "ge", "ne"))
STRUCTURES = word_set(
    "bracket list rel setop named ratio modulo given builder cases words about ldots quantity base matrix"
)
MAX_ITEMS = 200
MAKERS: dict[str, Callable[[Node], Value]] = {}  # filled by `reading`


def value_of(node: Node) -> Value:
    """The value of a node. Raises SyntaxProblem where its parts make no sense together."""
    maker = MAKERS.get(node[0])
    return maker(node) if maker else expression(node)


def expression(node: Node) -> Value:
    """A number, an expression, or the two values of a plus-minus."""
    if node[0] == "apply" and len(node[2]) > 1 and node[1][0].isupper():  # the point P(3, 4)
        return Labelled(f"point {node[1]}", Tuple("(", ")", tuple(value_of(item) for item in node[2])))
    held = kinds(node)
    if held & {"pm", "mp"}:
        return List(tuple(value_of(branch) for branch in branches(node)))
    if "matrix" in held:
        return matrix(node)
    if node[0] == "neg" and node[1][0] in ("quantity", "percent"):
        inner = value_of(node[1])
        assert isinstance(inner, Quantity)
        return Quantity(
            value_of(("neg", inner.value.node)) if hasattr(inner.value, "node") else inner.value, inner.unit
        )
    if held & STRUCTURES:
        raise SyntaxProblem("a structure inside of an expression")
    degrees = _in_degrees(node)
    if degrees is not None:
        return Quantity(expression(degrees), "°")
    if node[0] == "percent":
        return Quantity(expression(node[1]), "%")
    value = rational(node)
    if value is None:
        return Expression(node)
    bare = node[1] if node[0] == "neg" else node
    return Number(node, value, bare[2] if bare[0] == "num" else None)


def _in_degrees(node: Node) -> Node | None:
    """The number of degrees, where the whole of a node is an angle in degrees."""
    if node[0] == "mul" and node[2] == ("const", "degree"):
        return node[1]
    if node[0] == "neg" and (inner := _in_degrees(node[1])):
        return ("neg", inner)
    return None


def branches(node: Node) -> list[Node]:
    """The expressions that plus-minus signs stand for: linked where a minus-plus is among them, else each on its own."""
    signs = _signs(node)
    if signs > 4:
        raise SyntaxProblem("many plus-minus signs")
    linked = "mp" in kinds(node)
    choices = (
        [tuple(bool(c >> i & 1) for i in range(signs)) for c in range(2**signs)]
        if not linked
        else [(False,) * signs, (True,) * signs]
    )
    return list(dict.fromkeys(_choose(node, iter(choice)) for choice in choices))


def _signs(node: Node) -> int:
    return (node[0] in ("pm", "mp")) + sum(_signs(part) for part in node if isinstance(part, tuple) and part)


def _choose(node: Node, choice: object) -> Node:
    if node[0] in ("pm", "mp"):
        minus = next(choice) ^ (node[0] == "mp")  # type: ignore[call-overload]
        inner = _choose(node[1], choice)
        return ("neg", inner) if minus else inner
    return tuple(_choose(part, choice) if isinstance(part, tuple) and part else part for part in node)


def quantity(node: Node) -> Value:
    """An amount with its unit; words that scale it (`2.5 million`) are taken in."""
    unit = node[2]
    first, _, rest = unit.partition(" ")
    if first.lower() in words.SCALES:
        inner: Node = ("mul", node[1], ("num", Fraction(words.SCALES[first.lower()]), None))
        return quantity(("quantity", inner, rest)) if rest else expression(inner)
    if node[1][0] == "quantity":  # $5 million, 5 dollars
        return Quantity(value_of(node[1][1]), f"{node[1][2]} {unit}")
    inner_value = value_of(node[1])
    if isinstance(inner_value, List):
        return List(tuple(Quantity(item, unit) for item in inner_value.items))
    if isinstance(inner_value, Quantity) and inner_value.unit == "°":
        return Quantity(inner_value.value, "° " + unit)
    return Quantity(inner_value, unit)


def matrix(node: Node) -> Value:
    """A matrix, with the arithmetic in it carried out; a determinant is a number."""
    rows = entries(node)
    if not isinstance(rows, list):
        return expression(rows)
    return Matrix(tuple(tuple(expression(cell) for cell in row) for row in rows))


def bracket(node: Node) -> Value:
    """A tuple or a set."""
    _, opening, closing, items = node
    if len(items) == 1 and items[0][0] == "rel" and opening == "(":
        return value_of(items[0])
    if len(items) > MAX_ITEMS:
        raise SyntaxProblem("too many items")
    values = [value_of(item) for item in items]
    if opening == "\\{":
        if len(items) == 1 and items[0][0] == "rel" and items[0][1][0] in ORDERS | {"in"}:
            return values[0]
        return Set(tuple(flat(values)))
    return Tuple(opening, closing, tuple(values))


def flat(values: list[Value]) -> list[Value]:
    """The items of lists among the values, such as those of a plus-minus, one by one."""
    return [item for value in values for item in (value.items if isinstance(value, List) else (value,))]


def ratio(node: Node) -> Value:
    """`a:b:c`, or a time of day."""
    clock = None
    if len(node[1]) == 2 and all(
        side[0] == "num" and side[1].denominator == 1 and side[2] is None for side in node[1]
    ):
        hour, minute = (int(side[1]) for side in node[1])
        clock = (hour, minute) if node[2] and hour < 25 and minute < 60 else None
    return Ratio(tuple(value_of(side) for side in node[1]), clock, node[2].strip(":"))


def reals(value: Value) -> tuple[sets.Piece, ...] | None:
    """A value as a set of real numbers, if it can be one: an interval, a finite set of numbers, the line."""
    if isinstance(value, Reals):
        return value.pieces
    if isinstance(value, Named) and not value.operands:
        zero: Node = ("num", Fraction(0), None)
        return {
            "R": (sets.piece(sets.MINUS, sets.INFINITY, False, False),),
            "R+": (sets.piece(zero, sets.INFINITY, False, False),),
            "R0+": (sets.piece(zero, sets.INFINITY, True, False),),
            "R-": (sets.piece(sets.MINUS, zero, False, False),),
        }.get(value.name)
    if (
        isinstance(value, Tuple)
        and len(value.items) == 2
        and all(isinstance(v, (Number, Expression)) for v in value.items)
    ):
        low, high = (_end(v) for v in value.items)
        return sets.normal([sets.piece(low, high, value.opening == "[", value.closing == "]")])
    if isinstance(value, Set) and all(isinstance(v, (Number, Expression)) for v in value.items):
        ends = [_end(v) for v in value.items]
        return sets.normal([sets.piece(end, end, True, True) for end in ends])
    return None


def _end(value: Value) -> Node:
    assert isinstance(value, (Number, Expression))
    return value.node


def set_operation(node: Node) -> Value:
    """Unions, intersections and differences: of real sets carried out, of others kept as operands."""
    left, right = (
        Set((v,)) if isinstance(v, (Number, Expression)) else v
        for v in (value_of(node[2]), value_of(node[3]))
    )
    a, b = reals(left), reals(right)
    if a is not None and b is not None:
        try:
            if node[1] == "cup":
                return Reals(sets.normal([*a, *b]))
            found = sets.intersection(a, b if node[1] == "cap" else sets.complement(b))
            return Reals(found) if found else Set(())
        except Undefined:
            pass
    if isinstance(left, Set) and isinstance(right, Set) and node[1] == "cup":
        return Set(tuple(dict.fromkeys((*left.items, *right.items))))
    operands: list[Value] = []
    for value in (left, right):
        same = isinstance(value, Named) and value.name == node[1] and node[1] != "setminus"
        operands.extend(value.operands if same and isinstance(value, Named) else (value,))
    return Named(node[1], tuple(operands))


def cases(node: Node) -> Value:
    """A piecewise function."""
    if any(len(row) != 2 for row in node[1]):
        rows = [item for row in node[1] for item in row]
        return value_of(("list", (",",) * (len(rows) - 1), tuple(rows)))
    return Cases(
        tuple(
            (value_of(row[0]), Text(row[1][1]) if row[1][0] == "words" else value_of(row[1]))
            for row in node[1]
        )
    )
