"""The names of values, and equations: when a left side only names what stands on the right, and when two equations are the same."""

from __future__ import annotations

from undo_hpc.grading import words
from undo_hpc.grading.evaluate import kinds, symbols
from undo_hpc.grading.identity import identical, opaque, proportional, same_roots
from undo_hpc.grading.names import word_set
from undo_hpc.grading.nodes import Node

_NO_LABEL = word_set("sqrt abs max min gcd lcm floor ceil log ln")
Equation = tuple[str, Node, Node]


def label_of(left: Node, right: Node) -> str:
    """The name that the left side is for the right one; an empty string where it is part of an equation.

    Symbols and applied names are labels where they do not come again; so are words, limits and integrals, and, of a closed value,
    segments (AB), marked letters, ratios, and measures of them (sin A).
    """
    kind = left[0]
    if kind == "opaque" and "opaque" not in kinds(right):
        return "of " + left[1]
    if kind == "words":
        return "words " + words.plain(left[1])
    if kind == "sym" and left[1] not in symbols(right):
        return str(left[1])
    if kind == "apply" and left[1] not in applied(right):
        return f"{left[1]}()"
    if symbols(right) or "apply" in kinds(right):
        return ""
    names = symbols(left)
    measures = kind in ("mul", "div", "ratio", "fn", "pow") and names and "num" not in kinds(left)
    if measures and (kind == "ratio" or all(name[0].isupper() or ":" in name for name in names)):
        return "of " + ("".join(sorted(names)) if kind == "mul" else repr(left))
    return (
        f"of {left[1]} {names.pop()}" if kind == "fn" and left[1] not in _NO_LABEL and len(names) == 1 else ""
    )


def applied(node: Node) -> set[str]:
    """The names that are applied to arguments in a node."""
    found, stack = set(), [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == "apply":
                found.add(str(item[1]))
            stack.extend(item)
    return found


def labels_agree(a: str, b: str) -> bool:
    """Whether two names can be of one thing: those of unknowns (x, k) must be the same, those of quantities need not."""
    if any(n.startswith("words (") for n in (a, b)) or (a.startswith("of ") and b.startswith("of ")):
        return a == b
    return a == b or not all(len(n.partition("_")[0]) == 1 and n.islower() for n in (a, b))


def same_equation(a: Equation, b: Equation) -> bool | None:
    """Whether two relations have the same sides, are a factor of each other, or have the same solutions."""
    said = [identical(a[1], b[1]), identical(a[2], b[2])]
    sides = False if False in said else None if None in said else True
    if a[0] != b[0] or a[0] not in ("=", "ne"):
        return sides if a[0] == b[0] else False
    plain = {name for side in (*a[1:], *b[1:]) for name in symbols(side)}
    x, y = (opaque(("add", left, ("neg", right)), plain) for _, left, right in (a, b))
    if sides or not (symbols(x) or symbols(y)):
        return sides
    factor = proportional(x, y)
    return True if factor else sides if symbols(x) != symbols(y) else same_roots(x, y) or sides
