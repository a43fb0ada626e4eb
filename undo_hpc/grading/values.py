r"""What an answer is: nodes, which the grammar makes of its text, and typed values, which are compared. Nothing here evaluates anything.

Nodes are plain tuples: ('num', Fraction, decimal places or None), ('sym', name), ('const', name), ('neg', a), ('pm', a), ('mp', a),
('add', a, b), ('mul', a, b), ('div', a, b), ('pow', a, b), ('mod', a, b), ('fact', a), ('fact2', a), ('percent', a),
('fn', name, args, degree), ('apply', name, args), ('big', 'sum' or 'prod', variable, low, high, body), ('base', digits, base),
('quantity', a, unit), ('matrix', kind, rows), ('bracket', open, close, items), ('list', separators, items), ('rel', operators, sides),
('setop', operator, a, b), ('named', set), ('ratio', sides), ('clock', minutes, half), ('modulo', a, m), ('given', a, domains),
('builder', a, condition), ('cases', rows), ('words', text), ('about', a), ('ldots',), ('opaque', text): a limit or an integral.
"""
# ruff: noqa: UP014 - one line a type, so that all are seen at once

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

Node = tuple[Any, ...]
Value = Any  # one of the types below
Values = tuple[Any, ...]
# numbers, surds, complex numbers, infinity, anything with variables
Expression = NamedTuple("Expression", [("node", Node)])
# an expression with a unit phrase; `%` and `°` are units
Quantity = NamedTuple("Quantity", [("value", Value), ("unit", str)])
# a value said to be approximate, or a chain of approximations: the sides that hold a value
About = NamedTuple("About", [("values", Values), ("label", str)])
# items and their brackets: "" a list in any order, "{}" a set, "()", "[)" ... a tuple or an interval, "matrix" rows
Items = NamedTuple("Items", [("brackets", str), ("items", Values)])
# the real numbers for which a formula holds (see `regions`), and their name, if one was given: `x > 3`
Region = NamedTuple("Region", [("name", str), ("formula", Node)])
# an equation or another relation between two sides
Relation = NamedTuple("Relation", [("operator", str), ("left", Node), ("right", Node)])
# values with names (`x = 3`, `f(x) = 2x`, `p=5, q=2; p=7, q=2`): a row has one for each;
# the whole equation where there is but one
Solutions = NamedTuple("Solutions", [("names", tuple[str, ...]), ("rows", tuple[Values, ...]), ("relation", Relation | None)])  # fmt: skip
Ratio = NamedTuple("Ratio", [("items", Values)])
# a time of day in minutes; `half` is am, pm, or empty where it is not said
Clock = NamedTuple("Clock", [("minutes", int), ("half", str)])
# all values of expressions (or tuples of them) as parameters run through their domains
Family = NamedTuple("Family", [("items", tuple[tuple[Node, ...], ...]), ("domains", tuple[tuple[str, str], ...]), ("label", str)])  # fmt: skip
# a piecewise function: (value, condition) in any order
Cases = NamedTuple("Cases", [("rows", tuple[tuple[Value, Value], ...])])
# a set with a name of its own, such as Q, an operation on sets that is not carried out, a numeral of another base, the dots of a list
Named = NamedTuple("Named", [("name", str), ("operands", Values)])
# words, in lower case, without punctuation and articles
Text = NamedTuple("Text", [("words", str)])
# what the grammar does not know: only computer algebra can tell
Unread = NamedTuple("Unread", [("text", str)])
TYPES = (Expression, Quantity, About, Items, Region, Relation, Solutions, Ratio, Clock, Family, Cases, Named, Text, Unread)  # fmt: skip


def row_values(a: Solutions, names: tuple[str, ...] = ()) -> list[Value]:
    """The solutions: values of one name, or tuples of the values of several, in the order of `names` where these are the same ones."""
    order = list(map(a.names.index, names)) if set(names) == set(a.names) else range(len(a.names))
    parts = (tuple(row[i] for i in order) for row in a.rows)
    return [part[0] if len(a.names) == 1 else Items("()", part) for part in parts]


def stem(a: Solutions) -> str:
    """The one letter that the names of a solution have, with indices: `x` of `x_1 = 2, x_2 = 3`."""
    stems = {name.partition("_")[0] for name in a.names}
    return min(stems) if len(stems) == 1 < len(a.names) and len(a.rows) == 1 else ""


def num(value: Fraction | int) -> Node:
    """An exact number."""
    return ("num", Fraction(value), None)


def walk(node: Any) -> Iterator[Node]:
    """All nodes within a node or a value, itself included."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if isinstance(item[0], str):
                yield item
            stack.extend(item)


@lru_cache(maxsize=8192)
def symbols(node: Any) -> frozenset[str]:
    """The names of the free symbols of a node; those bound by a sum are written with its sign."""
    return frozenset(part[1] for part in walk(node) if part[0] == "sym" and part[1].strip("'") != "∑")


@lru_cache(maxsize=8192)
def kinds(node: Any) -> frozenset[str]:
    """The kinds of nodes, and the names of functions and constants, that an expression holds."""
    return frozenset(text for part in walk(node) for text in part[: 1 + (part[0] in ("fn", "const", "big"))])


def substitute(node: Any, old: Node, new: Node) -> Any:
    """The node or value with another node in the place of one that it holds."""
    if node == old or not isinstance(node, tuple):
        return new if node == old else node
    parts = (substitute(part, old, new) for part in node)
    return node._make(parts) if hasattr(node, "_make") else tuple(parts)


def rename_index(node: Any, name: str, index: str) -> Any:
    """The node with the bound name of a sum replaced, in subscripts, too."""
    if not isinstance(node, tuple) or not node:
        return node
    if node in (("const", name), ("sym", name)):
        return ("sym", index)
    if node[0] == "sym":
        head, underscore, subscript = node[1].partition("_")
        return ("sym", head + underscore + subscript.replace(name, index))
    return tuple(rename_index(part, name, index) for part in node)
