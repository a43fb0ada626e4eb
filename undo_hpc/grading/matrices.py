"""Arithmetic of matrices on nodes: sums, products, scalar factors, determinants."""

from __future__ import annotations

from fractions import Fraction

from undo_hpc.grading.evaluate import kinds
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.tokens import SyntaxProblem


def entries(node: Node) -> list[list[Node]] | Node:
    """The entries of a matrix expression, or the node of a scalar."""
    if node[0] == "matrix":
        rows = [list(row) for row in node[2]]
        if not rows or any(len(row) != len(rows[0]) for row in rows) or len(rows) * len(rows[0]) > 100:
            raise SyntaxProblem("rows of different lengths")
        return determinant(rows) if node[1] in ("vmatrix", "Vmatrix") else rows
    if "matrix" not in kinds(node):
        return node
    if node[0] == "fn" and node[1] in ("det", "abs") and isinstance(inner := entries(node[2][0]), list):
        return determinant(inner)
    if node[0] == "neg":
        inner = entries(node[1])
        return (
            [[("neg", cell) for cell in row] for row in inner] if isinstance(inner, list) else ("neg", inner)
        )
    if node[0] not in ("add", "mul", "div"):
        raise SyntaxProblem("an operation that matrices do not have here")
    a, b = entries(node[1]), entries(node[2])
    if isinstance(a, list) and isinstance(b, list):
        if node[0] == "add" and (len(a), len(a[0])) == (len(b), len(b[0])):
            return [[("add", x, y) for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]
        if node[0] == "mul" and len(a[0]) == len(b):
            return [[_dot(row, [r[j] for r in b]) for j in range(len(b[0]))] for row in a]
        raise SyntaxProblem("matrices that do not fit")
    if isinstance(b, list):
        a, b = b, a
        if node[0] != "mul":
            raise SyntaxProblem("a scalar and a matrix")
    if not isinstance(a, list):
        return (node[0], a, b)
    if node[0] == "add":
        raise SyntaxProblem("a scalar and a matrix")
    return [[(node[0], cell, b) for cell in row] for row in a]


def _dot(row: list[Node], column: list[Node]) -> Node:
    total: Node = ("mul", row[0], column[0])
    for x, y in zip(row[1:], column[1:], strict=True):
        total = ("add", total, ("mul", x, y))
    return total


def determinant(rows: list[list[Node]]) -> Node:
    """The determinant as a node, by the first row."""
    if len(rows) != len(rows[0]) or len(rows) > 5:
        raise SyntaxProblem("a determinant that is not square, or large")
    if len(rows) == 1:
        return rows[0][0]
    total: Node = ("num", Fraction(0), None)
    for j, cell in enumerate(rows[0]):
        minor = determinant([row[:j] + row[j + 1 :] for row in rows[1:]])
        term: Node = ("mul", cell, minor)
        total = ("add", total, ("neg", term) if j % 2 else term)
    return total
