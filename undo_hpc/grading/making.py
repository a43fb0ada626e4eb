"""From nodes to values: expressions, quantities, brackets, sets, matrices, pieces. Lists and relations are in `relations`."""

from __future__ import annotations

from collections.abc import Callable

from undo_hpc.grading import regions
from undo_hpc.grading import values as typed
from undo_hpc.grading.evaluate import kinds
from undo_hpc.grading.nodes import Node, num
from undo_hpc.grading.tables import SCALES, word_set
from undo_hpc.grading.tokens import SyntaxProblem

STRUCTURES = word_set(
    "bracket list rel setop named ratio clock modulo given builder cases words about ldots quantity base matrix"
)
MAX_ITEMS = 200
MAKERS: dict[str, Callable[[Node], typed.Value]] = {}  # filled by `reading`
_SETS: dict[str, Node] = {
    "R": regions.REALS,
    "R+": regions.between(num(0), regions.INFINITY, "()"),
    "R0+": regions.between(num(0), regions.INFINITY, "[)"),
    "R-": regions.between(regions.MINUS_INFINITY, num(0), "()"),
    "Z": ("whole", float("-inf")),
    "Z+": ("whole", 1),
    "N": ("whole", 1),
    "N0": ("whole", 0),
}


def value_of(node: Node) -> typed.Value:
    """The value of a node. Raises SyntaxProblem where its parts make no sense together."""
    maker = MAKERS.get(node[0])
    return maker(node) if maker else expression(node)


def expression(node: Node) -> typed.Value:
    """An expression, an angle, a percentage, a matrix, or the values of a plus-minus."""
    held = kinds(node)
    if node[0] == "apply" and len(node[2]) > 1 and node[1][0].isupper():  # the point P(3, 4)
        return typed.Solutions((f"point {node[1]}",), ((typed.Items("()", tuple(map(value_of, node[2]))),),))
    if held & {"pm", "mp"}:
        return typed.Items("", tuple(map(value_of, branches(node))))
    if "matrix" in held:
        rows = matrix(node)
        if not isinstance(rows, list):
            return expression(rows)
        return typed.Items("matrix", tuple(typed.Items("()", tuple(map(expression, row))) for row in rows))
    if node[0] == "neg" and (node[1][0] in ("quantity", "percent") or node[1][2:] == (("const", "degree"),)):
        return value_of((node[1][0], ("neg", node[1][1]), *node[1][2:]))
    if held & STRUCTURES:
        raise SyntaxProblem("a structure inside of an expression")
    if node[0] == "percent" or (node[0] == "mul" and node[2] == ("const", "degree")):
        return typed.Quantity(expression(node[1]), "%" if node[0] == "percent" else "°")
    return typed.Expression(node)


def branches(node: Node) -> list[Node]:
    """The expressions that plus-minus signs stand for: linked where a minus-plus is among them, else each on its own."""

    def choose(part: Node, signs: list[bool]) -> Node:
        if not isinstance(part, tuple):
            return part
        if part and part[0] in ("pm", "mp"):
            minus = (signs[0] if linked else signs.pop()) ^ (part[0] == "mp")
            inner = choose(part[1], signs)
            return ("neg", inner) if minus else inner
        return tuple(choose(item, signs) for item in part)

    linked = "mp" in kinds(node)
    count = 1 if linked else str(node).count("'pm'")
    if count > 4:
        raise SyntaxProblem("many plus-minus signs")
    choices = ([bool(c >> i & 1) for i in range(count)] for c in range(2**count))
    return list(dict.fromkeys(choose(node, choice) for choice in choices))


def quantity(node: Node) -> typed.Value:
    """An amount with its unit; words that scale it (`2.5 million`) are taken in."""
    inner, unit = node[1], node[2]
    first, _, rest = unit.partition(" ")
    if first.lower() in SCALES:
        inner = ("mul", inner, num(SCALES[first.lower()]))
        return quantity(("quantity", inner, rest)) if rest else value_of(inner)
    value = value_of(inner)
    if isinstance(value, typed.Items) and value.brackets == "":
        return typed.Items("", tuple(typed.Quantity(item, unit) for item in value.items))
    if isinstance(value, typed.Quantity):
        return typed.Quantity(value.value, f"{value.unit} {unit}")
    return typed.Quantity(value, unit)


def bracket(node: Node) -> typed.Value:
    """A tuple or a set."""
    _, opening, closing, items = node
    if len(items) > MAX_ITEMS:
        raise SyntaxProblem("too many items")
    single = len(items) == 1 and items[0][0] == "rel"
    condition = single and (opening == "(" or items[0][1][0] in ("<", ">", "le", "ge", "ne", "in"))
    values = [value_of(item) for item in items]
    if condition:
        return values[0]
    found = flat(values) if opening == "\\{" else tuple(values)
    return typed.Items("{}" if opening == "\\{" else opening + closing, found)


def flat(values: list[typed.Value]) -> tuple[typed.Value, ...]:
    """The items of lists among the values, such as those of a plus-minus, one by one."""
    lists = (v.items if isinstance(v, typed.Items) and v.brackets == "" else (v,) for v in values)
    return tuple(item for items in lists for item in items)


def as_formula(value: typed.Value) -> Node | None:
    """The formula of a value that can be a set of real numbers: an interval, a finite set, intervals side by side."""
    if isinstance(value, typed.Region):
        return value.formula
    if not isinstance(value, typed.Items) or value.brackets == "matrix":
        return None
    nodes = [item.node for item in value.items if isinstance(item, typed.Expression)]
    if value.brackets == "{}" and len(nodes) == len(value.items):
        return ("any", *(("rel", ("=",), (regions.VARIABLE, node)) for node in nodes))
    if value.brackets not in ("{}", "") and len(nodes) == len(value.items) == 2:
        return regions.between(nodes[0], nodes[1], value.brackets)
    parts = [as_formula(item) for item in value.items] if value.brackets == "" else [None]
    return None if None in parts else ("any", *parts)


def set_operation(node: Node) -> typed.Value:
    """Unions, intersections and differences: of sets of reals carried out, of others kept as operands."""
    values = [
        typed.Items("{}", (value,)) if isinstance(value, typed.Expression) else value
        for value in map(value_of, node[2:])
    ]
    left, right = map(as_formula, values)
    if left is not None and right is not None:
        if node[1] == "cup":
            return typed.Region("", ("any", left, right))
        return typed.Region("", ("every", left, right if node[1] == "cap" else ("none", right)))
    operands: list[typed.Value] = []
    for value in values:
        nested = isinstance(value, typed.Named) and value.name == node[1] and node[1] != "setminus"
        operands.extend(value.operands if nested else (value,))  # type: ignore[attr-defined]
    return typed.Named(node[1], tuple(operands))


def named(name: str) -> typed.Value:
    """A set of numbers by its name."""
    return typed.Region("", _SETS[name]) if name in _SETS else typed.Named(name)


def cases(node: Node) -> typed.Value:
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
    a = grids[0]
    if node[0] == "fn" and node[1] in ("det", "abs"):
        return determinant(a)
    if node[0] == "neg":
        return [[("neg", cell) for cell in row] for row in a]
    if len(grids) == 2 and node[0] == "add" and [len(row) for row in a] == [len(row) for row in grids[1]]:
        return [[("add", x, y) for x, y in zip(p, q, strict=True)] for p, q in zip(*grids, strict=True)]
    if len(grids) == 2 and node[0] == "mul" and len(a[0]) == len(grids[1]):
        columns = list(zip(*grids[1], strict=True))
        return [[total([("mul", *pair) for pair in zip(row, c, strict=True)]) for c in columns] for row in a]
    if len(grids) == 1 and (node[0] == "mul" or (node[0] == "div" and a is parts[0])):
        scalar = parts[1] if a is parts[0] else parts[0]
        return [[(node[0], cell, scalar) for cell in row] for row in a]
    raise SyntaxProblem("an operation that matrices do not have here")


def total(terms: list[Node]) -> Node:
    """The sum of terms."""
    out = terms[0]
    for term in terms[1:]:
        out = ("add", out, term)
    return out


def determinant(rows: list[list[Node]]) -> Node:
    """The determinant as a node, by the first row."""
    if len(rows) != len(rows[0]) or len(rows) > 5:
        raise SyntaxProblem("a determinant that is not square, or large")
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for j, cell in enumerate(rows[0]):
        minor: Node = ("mul", cell, determinant([row[:j] + row[j + 1 :] for row in rows[1:]]))
        terms.append(("neg", minor) if j % 2 else minor)
    return total(terms)
