r"""What the grammar makes of an answer: nodes, which are plain tuples. Nothing here evaluates anything.

Nodes: ('num', Fraction, decimal places or None), ('sym', name), ('const', name), ('neg', a), ('pm', a), ('mp', a), ('add', a, b),
('mul', a, b), ('div', a, b), ('pow', a, b), ('mod', a, b), ('fact', a), ('fact2', a), ('percent', a), ('fn', name, args, degree),
('apply', name, args), ('big', 'sum' or 'prod', variable, low, high, body), ('base', digits, base), ('quantity', a, unit),
('matrix', kind, rows), and from `grammar`: ('bracket', open, close, items), ('list', separators, items), ('rel', operators, sides),
('setop', operator, a, b), ('named', set), ('ratio', sides), ('clock', minutes, half), ('modulo', a, m), ('given', a, domains),
('builder', a, condition), ('cases', rows), ('words', text), ('about', a), ('ldots',), ('opaque', text): a limit or an integral.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]


def num(value: Fraction | int) -> Node:
    """An exact number."""
    return ("num", Fraction(value), None)


def substitute(node: Any, old: Node, new: Node) -> Any:
    """The node with another one in the place of one that it holds."""
    if node == old:
        return new
    return tuple(substitute(part, old, new) for part in node) if isinstance(node, tuple) else node


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
