"""From lists to values: solutions, conditions on one variable, families with the domains of their parameters."""

from __future__ import annotations

from fractions import Fraction

from undo_hpc.grading import sets, units
from undo_hpc.grading.domains import domain_of
from undo_hpc.grading.evaluate import Undefined, kinds, symbols
from undo_hpc.grading.labels import label_of
from undo_hpc.grading.making import MAX_ITEMS, STRUCTURES, branches, flat, value_of
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.tokens import SyntaxProblem
from undo_hpc.grading.values import (
    Condition,
    Family,
    Labelled,
    List,
    Named,
    Number,
    Quantity,
    Reals,
    Relation,
    Set,
    Solutions,
    Text,
    Tuple,
    Value,
)

LEAST = {"Z": float("-inf"), "N": 0.0, "Z+": 1.0}


def listing(node: Node) -> Value:
    """A list: solutions, conditions on one variable, labelled values, or values in any order."""
    separators, items = node[1], list(node[2])
    if len(items) > MAX_ITEMS:
        raise SyntaxProblem("too many items")
    domains = [(item, domain_of(item)) for item in items]
    if any(found for _, found in domains) and not all(found for _, found in domains):
        rest = [item for item, found in domains if not found]
        inner = rest[0] if len(rest) == 1 else ("list", separators[: len(rest) - 1], tuple(rest))
        return family(inner, tuple(pair for _, found in domains for pair in found or ()))
    if ";" in separators and len(set(separators)) > 1:
        return grouped(separators, items, ";")
    if items[-1][0] == "modulo" and all(item[0] != "modulo" for item in items[:-1]):
        return value_of(("modulo", ("list", separators, (*items[:-1], items[-1][1])), items[-1][2]))
    if items[-1][0] == "given" and all(item[0] != "given" for item in items[:-1]):
        return family(("list", separators, (*items[:-1], items[-1][1])), items[-1][2])
    values = [value_of(item) for item in items]
    return joined(separators, values)


def grouped(separators: tuple[str, ...], items: list[Node], at: str) -> Value:
    """Items parted by a stronger separator, each a list of its own."""
    groups: list[list[Node]] = [[items[0]]]
    inner: list[list[str]] = [[]]
    for separator, item in zip(separators, items[1:], strict=True):
        if separator == at:
            groups.append([item])
            inner.append([])
        else:
            groups[-1].append(item)
            inner[-1].append(separator)
    values = [
        listing(("list", tuple(seps), tuple(group))) if len(group) > 1 else value_of(group[0])
        for seps, group in zip(inner, groups, strict=True)
    ]
    return joined((at,) * (len(values) - 1), values)


def joined(separators: tuple[str, ...], values: list[Value]) -> Value:
    """What values side by side mean together."""
    if all(isinstance(v, (Labelled, Solutions)) for v in values) and (found := solutions(values)):
        return found
    if set(separators) == {"and"} and (whole := compound(values)):
        return whole
    if all(isinstance(v, (Reals, Condition)) for v in values):
        return conditions(separators, values)
    if all(isinstance(v, Family) for v in values):
        families = [v for v in values if isinstance(v, Family)]
        if len({f.domains for f in families}) == 1:
            return Family(
                tuple(item for f in families for item in f.items), families[0].domains, families[0].label
            )
    head = values[0]
    bare = not any(isinstance(v, (Labelled, Solutions, Relation, Reals, Condition)) for v in values[1:])
    if isinstance(head, Labelled) and bare and not head.label.startswith("words ("):
        return Labelled(head.label, List(tuple(flat([head.value, *values[1:]]))))
    if isinstance(head, Solutions) and bare and all(isinstance(v, Tuple) for v in values[1:]):
        names = [name for name, _ in head.rows[0]]
        rest = assigned(names, List(tuple(values[1:])))
        return Solutions((*head.rows, *rest.rows)) if isinstance(rest, Solutions) else List(tuple(values))
    return List(tuple(flat(values)))


def compound(values: list[Value]) -> Value | None:
    """`5 feet and 4 inches` as one quantity in the last unit: units of one dimension, each smaller than the one before."""
    total, last = Fraction(0), None
    for value in values:
        unit = units.read(value.unit) if isinstance(value, Quantity) else None
        if (
            not isinstance(value, Quantity)
            or not isinstance(value.value, Number)
            or not unit
            or not unit.dimension
        ):
            return None
        if unit.words or (last and (unit.dimension != last.dimension or unit.size >= last.size)):
            return None
        total, last, name = total + value.value.value * unit.size, unit, value.unit
    return Quantity(Number(("num", total / last.size, None), total / last.size), name) if last else None


def solutions(values: list[Value]) -> Value | None:
    """Assignments one after the other: a name that comes again begins a new solution."""
    rows: list[dict[str, Value]] = [{}]
    for value in values:
        if isinstance(value, Solutions):
            parts = [dict(row) for row in value.rows]
        elif isinstance(value, Labelled) and value.label != "=":
            many = value.value.items if isinstance(value.value, List) else (value.value,)
            parts = [{value.label: item} for item in many]
        else:
            return None
        for part in parts:
            if rows[-1] and (set(part) & set(rows[-1]) or len(part) > 1):
                rows.append({})
            rows[-1] |= part
    names = {name for row in rows for name in row}
    if len(names) == 1:
        items = tuple(row[name] for row in rows for name in row)
        return Labelled(names.pop(), List(items))
    return (
        Solutions(tuple(tuple(row.items()) for row in rows))
        if all(set(row) == names for row in rows)
        else None
    )


def conditions(separators: tuple[str, ...], values: list[Value]) -> Value:
    """Inequalities side by side: `or` joins, `and` and commas narrow down; a comma joins where nothing would be left."""
    sets_of = [v for v in values if isinstance(v, Reals)]
    names = {v.name for v in sets_of}
    if len(sets_of) == len(values) and len(names - {""}) <= 1:
        every = "or" not in separators
        try:
            narrowed = sets_of[0].pieces
            for value in sets_of[1:]:
                narrowed = sets.intersection(narrowed, value.pieces)
            if every and (narrowed or "and" in separators):
                return Reals(narrowed, max(names))
            return Reals(sets.normal([p for v in sets_of for p in v.pieces]), max(names))
        except Undefined:
            pass
    if len(names - {""}) > 1:
        return List(tuple(values))
    relations = [r for v in values if isinstance(v, Condition) for r in v.relations]
    if len(relations) < len(values):
        return List(tuple(values))
    return Condition(tuple(relations), "or" not in separators)


def given(node: Node) -> Value:
    """A value with the domains of its parameters."""
    return family(node[1], node[2])


def family(node: Node, domains: tuple[tuple[str, str], ...]) -> Value:
    """All values of a node as its parameters run; the node itself where the domains say nothing (all reals, a label)."""
    if domains and domains[0][0] == "":
        domains = tuple((name, domains[0][1]) for name in sorted(symbols(node) - _labels(node)))
    if (
        node[0] in ("rel", "list")
        and len(domains) == 1
        and domains[0][1] in LEAST
        and (whole := _integers(node, domains[0]))
    ):
        return whole
    running = tuple((name, domain) for name, domain in domains if name in symbols(node) - _labels(node))
    tuples = node[0] == "bracket" or (node[0] == "rel" and node[2][-1][0] == "bracket")
    if not running or (all(domain in ("R", "C", "Q") for _, domain in running) and not tuples):
        if domains and any(domain not in ("R", "C") for _, domain in domains) and node[0] == "rel":
            return Named("given", (value_of(node), Text(repr(domains))))
        return value_of(node)
    label, items = _family_items(node)
    return Family(tuple(items), running, label)


def _integers(node: Node, domain: tuple[str, str]) -> Value | None:
    """The integers that a bounded set of reals holds: `3 \\le n \\le 7, n \\in N`."""
    value = value_of(node)
    if not isinstance(value, Reals) or value.name != domain[0]:
        return None
    try:
        ends = [sets.place(end) for here in value.pieces for end in (here.low, here.high)]
        low, high = max(min(ends), LEAST[domain[1]]), max(ends)
        if high - low > MAX_ITEMS:
            return Named("given", (value, Text(domain[1])))
        found = [
            n
            for n in range(int(low) - 1, int(high) + 2)
            if n >= low and sets.contains(value.pieces, Fraction(n))
        ]
    except (Undefined, ValueError, OverflowError):
        return None
    return Labelled(value.name, List(tuple(value_of(("num", Fraction(n), None)) for n in found)))


def _labels(node: Node) -> set[str]:
    """The names on the left of equations: they are not parameters."""
    if node[0] == "rel":
        return symbols(node[2][0])
    if node[0] in ("list", "bracket"):
        return set().union(*(_labels(item) for item in node[-1]))
    return set()


def _family_items(node: Node) -> tuple[str, list[tuple[Node, ...]]]:
    """The label of a family and its members: expressions, or tuples of them."""
    if node[0] == "list":
        parts = [_family_items(item) for item in node[2]]
        labels = [label for label, _ in parts if label]
        if len(parts) > 1 and len(set(labels)) == len(parts):  # x = 2k, y = 3k
            return ",".join(sorted(labels)), [
                tuple(items[0][0] for _, (_, items) in sorted(zip(labels, parts, strict=True)))
            ]
        return labels[0] if labels else "", [item for _, items in parts for item in items]
    if (
        node[0] == "rel"
        and node[1] == ("=",)
        and (label := label_of(node[2][0], node[2][1]) or node[2][0][0] == "bracket")
    ):
        return label if isinstance(label, str) else "", _family_items(node[2][1])[1]
    if node[0] == "bracket" and node[1] == "\\{":
        return "", [item for part in node[3] for item in _family_items(part)[1]]
    if node[0] == "bracket" and node[1] == "(":
        return "", [tuple(node[3])]
    if kinds(node) & STRUCTURES:
        raise SyntaxProblem("a family of structures")
    return "", [(branch,) for branch in (branches(node) if kinds(node) & {"pm", "mp"} else [node])]


def assigned(names: list[str], value: Value) -> Value:
    """`(x, y) = (1, 2)`, `(x, y) = (1, 2), (2, 1)`."""
    tuples = value.items if isinstance(value, (List, Set)) else (value,)
    if not all(isinstance(t, Tuple) and len(t.items) == len(names) for t in tuples):
        return Labelled(f"({', '.join(names)})", value)
    return Solutions(tuple(tuple(zip(names, t.items, strict=True)) for t in tuples if isinstance(t, Tuple)))
