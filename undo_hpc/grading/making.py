"""From nodes to values: expressions, quantities, brackets, sets, matrices, pieces. Lists and relations are in `relations`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from undo_hpc.grading import regions
from undo_hpc.grading import values as typed
from undo_hpc.grading.tables import SCALES, word_set
from undo_hpc.grading.tokens import SyntaxProblem
from undo_hpc.grading.values import Node, Value, kinds, num

STRUCTURES = word_set("bracket list rel setop named ratio clock modulo given builder cases told words about ldots quantity base matrix")  # fmt: skip
MAKERS: dict[str, Callable[[Node], Value]] = {}  # filled here and in `relations`
_SETS: dict[str, Node] = {
    "R": regions.REALS,
    "R+": regions.between(num(0), regions.INFINITY, "()"),
    "R0+": regions.between(num(0), regions.INFINITY, "[)"),
    "R-": regions.between(regions.MINUS_INFINITY, num(0), "()"),
    "Z": ("whole", float("-inf")), "Z+": ("whole", 1), "N": ("whole", 1), "N0": ("whole", 0),
}  # fmt: skip


def value_of(node: Node) -> Value:
    """The value of a node. Raises SyntaxProblem where its parts make no sense together."""
    return MAKERS.get(node[0], expression)(node)


def expression(node: Node) -> Value:
    """An expression, an angle, a percentage, a matrix, or the values of a plus-minus."""
    held = kinds(node)
    if node[0] == "apply" and len(node[2]) > 1 and node[1][0].isupper():  # the point P(3, 4)
        point = typed.Items("()", tuple(map(value_of, node[2])))
        return typed.Solutions((f"point {node[1]}",), ((point,),), None)
    if held & {"pm", "mp"}:
        return typed.Items("", tuple(map(value_of, branches(node))))
    if "matrix" in held:
        rows = matrix(node)
        if not isinstance(rows, list):
            return expression(rows)
        return typed.Items("matrix", tuple(typed.Items("()", tuple(map(expression, row))) for row in rows))
    if node[0] == "neg" and (node[1][0] in ("quantity", "percent") or node[1][2:] == (("const", "degree"),)):
        return value_of((node[1][0], ("neg", node[1][1]), *node[1][2:]))
    if node[0] in ("neg", "mul") and (multiple := vector(node)):
        return value_of(multiple)
    if held & STRUCTURES:
        raise SyntaxProblem("a structure inside of an expression")
    if node[0] == "percent" or (node[0] == "mul" and node[2] == ("const", "degree")):
        return typed.Quantity(expression(node[1]), "%" if node[0] == "percent" else "°")
    return typed.Expression(node)


def vector(node: Node) -> Node | None:
    """A tuple with the factors before it taken into it: -2(1, 3)."""
    if node[0] not in ("neg", "mul"):
        return node if node[:3] == ("bracket", "(", ")") and len(node[3]) > 1 else None
    inner = vector(node[-1])
    return inner and (*inner[:3], tuple((*node[:-1], item) for item in inner[3]))


def branches(node: Node) -> list[Node]:
    """The expressions that plus-minus signs stand for: linked where a minus-plus is among them, else each on its own."""
    linked = "mp" in kinds(node)
    count = 1 if linked else str(node).count("'pm'")
    if count > 4:
        raise SyntaxProblem("many plus-minus signs")

    def choose(part: Any, signs: list[int]) -> Any:
        if not isinstance(part, tuple) or not part or part[0] not in ("pm", "mp"):
            return tuple(choose(item, signs) for item in part) if isinstance(part, tuple) else part
        minus = (signs[0] if linked else signs.pop()) ^ (part[0] == "mp")
        return ("neg", choose(part[1], signs)) if minus else choose(part[1], signs)

    return list(dict.fromkeys(choose(node, [c >> i & 1 for i in range(count)]) for c in range(2**count)))


def quantity(node: Node) -> Value:
    """An amount with its unit; words that scale it (`2.5 million`) are taken in."""
    inner, unit = node[1], node[2]
    first, _, rest = unit.partition(" ")
    if scale := SCALES.get(first.lower()):
        scaled = ("mul", inner[1] if inner[0] == "quantity" else inner, num(scale))
        inner = ("quantity", scaled, inner[2]) if inner[0] == "quantity" else scaled  # $2.5 million
        return quantity(("quantity", inner, rest)) if rest else value_of(inner)
    value = value_of(inner)
    if isinstance(value, typed.Items) and value.brackets == "":
        return typed.Items("", tuple(typed.Quantity(item, unit) for item in value.items))
    inner, before = (value.value, f"{value.unit} ") if isinstance(value, typed.Quantity) else (value, "")
    return typed.Quantity(inner, before + unit)


def bracket(node: Node) -> Value:
    """A tuple or a set."""
    _, opening, closing, items = node
    if opening == "(" and kinds(items) & {"pm", "mp"}:  # (\pm 1, 0)
        return typed.Items("", tuple(map(value_of, branches(node))))
    values = list(map(value_of, items))
    if len(items) == 1 and items[0][0] == "rel" and (opening == "(" or items[0][1] != ("=",)):
        return values[0]  # a condition
    braces = opening == "\\{"
    if braces and values and all(isinstance(value, typed.Solutions) for value in values):
        return value_of(("list", (",",) * (len(items) - 1), items))  # {x = 2, y = 3}
    rows = [getattr(value, "brackets", "") == "[]" for value in values]
    if opening + closing == "[]" and rows and all(rows):  # [[1, 2], [3, 4]]
        return typed.Items("matrix", tuple(value._replace(brackets="()") for value in values))
    return typed.Items("{}" if braces else opening + closing, flat(values) if braces else tuple(values))


def is_list(value: Value) -> bool:
    """Whether a value is a list of items without brackets."""
    return isinstance(value, typed.Items) and value.brackets == ""


def flat(values: list[Value]) -> tuple[Value, ...]:
    """The items of lists among the values, such as those of a plus-minus, one by one."""
    return tuple(item for value in values for item in (value.items if is_list(value) else (value,)))


def as_formula(value: Value) -> Node | None:
    """The formula of a value that can be a set of real numbers: an interval, a finite set, intervals side by side."""
    if not isinstance(value, typed.Items) or value.brackets == "matrix":
        return value.formula if isinstance(value, typed.Region) else None
    nodes = [item.node for item in value.items if isinstance(item, typed.Expression)]
    if len(nodes) == len(value.items) and value.brackets == "{}":
        return ("any", *(("rel", ("=",), (regions.VARIABLE, node)) for node in nodes))
    if len(nodes) == len(value.items) == 2 and value.brackets:
        order = ("le" if value.brackets == "[]" else "<",)
        endless = None in map(regions.real, nodes, ({}, {}))
        ordered = endless or regions.holds(("rel", order, tuple(nodes)), {})
        return regions.between(nodes[0], nodes[1], value.brackets) if ordered else None
    return None


def set_operation(node: Node) -> Value:
    """Unions, intersections and differences: of sets of reals carried out, of others kept as operands."""
    values = [value_of(part) for part in node[2:]]
    for i, value in enumerate(values):  # a number among sets; a capital letter is a set
        if isinstance(value, typed.Expression) and not (value.node[0] == "sym" and value.node[1].isupper()):
            values[i] = typed.Items("{}", (value,))
    left, right = map(as_formula, values)
    if left is not None and right is not None:
        right = ("none", right) if node[1] == "setminus" else right
        return typed.Region("", ("any" if node[1] == "cup" else "every", left, right))
    nested = [isinstance(v, typed.Named) and v.name == node[1] != "setminus" for v in values]
    parts = [v.operands if inner else (v,) for v, inner in zip(values, nested, strict=True)]
    return typed.Named(node[1], (*parts[0], *parts[1]))


def named(name: str) -> Value:
    """A set of numbers by its name."""
    return typed.Region("", _SETS[name]) if name in _SETS else typed.Named(name, ())


def cases(node: Node) -> Value:
    """A piecewise function; without conditions it is a list."""
    if any(len(row) != 2 for row in node[1]):
        rows = tuple(item for row in node[1] for item in row)
        return value_of(("list", (",",) * (len(rows) - 1), rows))
    return typed.Cases(tuple((value_of(row[0]), value_of(row[1])) for row in node[1]))


def matrix(node: Node) -> list[list[Node]] | Node:
    """The entries of a matrix expression with its arithmetic carried out, or the node of a scalar."""
    if node[0] == "matrix":
        rows = [list(row) for row in node[2]]
        if not rows or any(len(row) != len(rows[0]) for row in rows) or len(rows) * len(rows[0]) > 100:
            raise SyntaxProblem("rows of different lengths")
        return determinant(rows) if node[1] in ("vmatrix", "Vmatrix") else rows
    if "matrix" not in kinds(node):
        return node
    parts = [matrix(part) for part in (node[2] if node[0] == "fn" else node[1:])]
    grids = [part for part in parts if isinstance(part, list)]
    if not grids:
        return (*node[:2], tuple(parts), *node[3:]) if node[0] == "fn" else (node[0], *parts)
    a, kind = grids[0], node[0]
    if kind == "fn" and node[1] in ("det", "abs"):
        return determinant(a)
    if kind == "neg":
        return [[("neg", cell) for cell in row] for row in a]
    if len(grids) == 2 and kind == "add" and [len(row) for row in a] == [len(row) for row in grids[1]]:
        return [[("add", x, y) for x, y in zip(p, q, strict=True)] for p, q in zip(*grids, strict=True)]
    if len(grids) == 2 and kind == "mul" and len(a[0]) == len(grids[1]):
        columns = list(zip(*grids[1], strict=True))
        return [[total([("mul", *pair) for pair in zip(row, c, strict=True)]) for c in columns] for row in a]
    if len(grids) == 1 and (kind == "mul" or (kind == "div" and a is parts[0])):
        return [[(kind, cell, parts[1] if a is parts[0] else parts[0]) for cell in row] for row in a]
    raise SyntaxProblem("an operation that matrices do not have here")


def total(terms: list[Node]) -> Node:
    """The sum of terms."""
    return reduce(lambda a, b: ("add", a, b), terms)


def determinant(rows: list[list[Node]]) -> Node:
    """The determinant as a node, by the first row."""
    if len(rows) != len(rows[0]) or len(rows) > 5:
        raise SyntaxProblem("a determinant that is not square, or large")
    if len(rows) == 1:
        return rows[0][0]
    signed = [("neg", cell) if j % 2 else cell for j, cell in enumerate(rows[0])]
    minors = (determinant([row[:j] + row[j + 1 :] for row in rows[1:]]) for j in range(len(rows)))
    return total([("mul", c, minor) for c, minor in zip(signed, minors, strict=True)])


MAKERS |= {
    "bracket": bracket,
    "setop": set_operation,
    "named": lambda node: named(node[1]),
    "ratio": lambda node: typed.Ratio(tuple(map(value_of, node[1]))),
    "clock": lambda node: typed.Clock(node[1], node[2]),
    "cases": cases,
    "quantity": quantity,
    "base": lambda node: typed.Named(f"base {node[2]}", (typed.Text(node[1].lstrip("0") or "0"),)),
    "about": lambda node: typed.About((value_of(node[1]),), ""),
    "ldots": lambda node: typed.Named("ldots", ()),
}
