"""The domains of parameters: what `k in Z` and `where k is a positive integer` say."""

from __future__ import annotations

from undo_hpc.grading.nodes import Node

_DOMAINS = (  # the first whose words are all said
    (("positive", "integer"), "Z+"), (("natural",), "Z+"), (("nonnegative", "integer"), "N"), (("non-negative", "integer"), "N"),
    (("whole",), "N"), (("integer",), "Z"), (("real",), "R"), (("constant",), "R"), (("rational",), "Q"),
    (("complex",), "C"), (("all",), "R"), (("any",), "R"), (("every",), "R"), (("arbitrary",), "R"),
)  # fmt: skip


def said_domain(stems: list[str]) -> str | None:
    """The domain that words (without a final s) name; None where they name none."""
    return next((name for wanted, name in _DOMAINS if all(word in stems for word in wanted)), None)


def domain_of(node: Node) -> list[tuple[str, str]] | None:
    """The names and their set, where a relation only says that parameters are numbers of a kind: `k, m in Z`."""
    if node[0] != "rel" or node[1] != ("in",) or node[2][1][0] != "named":
        return None
    left, name = node[2][0], node[2][1][1]
    items = left[2] if left[0] == "list" else left[3] if left[0] == "bracket" else (left,)
    found = [item[1] if item[0] == "sym" else "i" if item == ("const", "i") else None for item in items]
    kinds = {"N": "Z+", "Z+": "Z+", "N+": "Z+", "N*": "Z+", "N0+": "N", "Z0+": "N", "Z": "Z"}
    return None if None in found else [(str(item), kinds.get(name, name)) for item in found]
