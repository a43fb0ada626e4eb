"""From the text of an answer to its typed value: the meaning of lists, labels, relations, brackets and parameters."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from undo_hpc.grading import sets, units, words
from undo_hpc.grading.evaluate import Undefined, kinds, symbols
from undo_hpc.grading.grammar import domain_of, parse
from undo_hpc.grading.identity import identical, rational
from undo_hpc.grading.labels import label_of
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.names import BIG
from undo_hpc.grading.terms import Node
from undo_hpc.grading.tokens import SyntaxProblem, Wordy
from undo_hpc.grading.values import (
    About, Base, Cases, Condition, Dots, Expression, Family, Labelled, List, Matrix, Named, Number, Quantity, Ratio, Reals, Relation,
    Set, Solutions, Text, Tuple, Unread, Value,
)  # fmt: skip

_ORDERS = frozenset(("<", ">", "le", "ge", "ne"))
_STRUCTURES = frozenset(
    "bracket list rel setop named ratio modulo given builder cases words about ldots quantity base matrix".split()
)
_BASED = re.compile(
    r"\(?([0-9A-F]+)\)?\s*(?:_\s*\{?\s*(\d{1,2})\s*\}?|\\?[,~ ]\s*\(?(?:\\text\s*\{)?\s*\(?(?:in )?base[\s-]*(\w+)\)?\s*\}?\)?)"
)
MAX_ITEMS = 200
_LEAST = {"Z": float("-inf"), "N": 0.0, "Z+": 1.0}
_SPLIT = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")


def readings(text: str) -> tuple[Value, ...]:
    """The values that a text may have; more than one only where a comma may part thousands or items."""
    first = read(text)
    if not _SPLIT.search(text) or re.search(r"\d,0\d\d", text) or isinstance(first, (Text, Unread)):
        return (first,)
    second = read(text, False)
    return (first,) if second == first or isinstance(second, (Text, Unread)) else (first, second)


@lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> Value:
    """The value of an answer. Never raises: words become Text, what the grammar does not know becomes Unread."""
    plain = unify(text)
    if (based := _BASED.fullmatch(plain.strip().strip("$ "))) and (based[2] or based[3]):
        from undo_hpc.grading.names import NUMBER_WORDS

        base = NUMBER_WORDS.get((based[2] or based[3]).lower(), based[2] or based[3])
        if str(base).isdigit():
            return Base(based[1].lstrip("0") or "0", int(base))
    try:
        return value_of(parse(plain, thousands))
    except Wordy:
        return in_words(plain)
    except (SyntaxProblem, Undefined, RecursionError):
        said = words.plain(plain)
        wordy = len(re.findall(r"[^\W\d_]{3,}", re.sub(r"\\[a-zA-Z]+", " ", plain))) > 2
        return in_words(plain) if wordy or (said == words.EMPTY) else Unread(plain)


def in_words(text: str) -> Value:
    """Words: a number spelled out, the empty set, or a text."""
    number = words.spelled(text)
    if number:
        value = Number(("num", number[0], None), number[0])
        return Quantity(value, number[1]) if number[1] else value
    said = words.plain(text)
    if said in words.SETS:
        return Named(words.SETS[said])
    return Set(()) if said == words.EMPTY else Text(said)


# -- one node
def value_of(node: Node) -> Value:
    """The value of a node. Raises SyntaxProblem where its parts make no sense together."""
    maker = _MAKERS.get(node[0])
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
    if held & _STRUCTURES:
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


def bracket(node: Node) -> Value:
    """A tuple or a set."""
    _, opening, closing, items = node
    if len(items) == 1 and items[0][0] == "rel" and opening == "(":
        return value_of(items[0])
    if len(items) > MAX_ITEMS:
        raise SyntaxProblem("too many items")
    values = [value_of(item) for item in items]
    if opening == "\\{":
        if len(items) == 1 and items[0][0] == "rel" and items[0][1][0] in _ORDERS | {"in"}:
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


# -- sets of reals
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


# -- relations
def relation(node: Node) -> Value:
    """What a chain of relations says: a labelled value, solutions, a set of reals, or an equation."""
    operators, sides = node[1], node[2]
    kinds_of = set(operators)
    if kinds_of <= {"approx", "="} and "approx" in kinds_of:
        return approximation(sides)
    if kinds_of == {"="}:
        return equation(sides)
    if operators == ("in",):
        return membership(sides[0], sides[1])
    if kinds_of <= _ORDERS | {"="}:
        return inequality(node)
    if len(sides) == 2 and not (kinds(sides[0]) | kinds(sides[1])) & {"bracket", "list", "rel", "words"}:
        return Relation(operators[0], sides[0], sides[1])
    raise SyntaxProblem("a chain of relations")


def approximation(sides: tuple[Node, ...]) -> Value:
    """`x \\approx 1.5`, `\\ln 3 \\approx 1.0986`: the label is no value."""
    label = label_of(sides[0], sides[-1])
    held = sides[1:] if label else sides
    if any(symbols(side) for side in held) and not all(symbols(side) for side in held):
        raise SyntaxProblem("an approximation of an expression")
    return About(tuple(value_of(side) for side in held if side[0] != "words"), label)


def equation(sides: tuple[Node, ...]) -> Value:
    """A chain of equal signs."""
    *names, last = sides
    if (
        len(names) > 1
        and all(name[0] == "sym" for name in names)
        and len({n[1] for n in names}) == len(names)
    ):
        value = value_of(last)
        return Solutions((tuple((str(name[1]), value) for name in names),))
    left = sides[0]
    if left[0] == "bracket" and left[1] == "(" and all(n[0] in ("sym", "const", "apply") for n in left[3]):
        return assigned([str(n[1]) for n in left[3]], value_of(last))
    label = label_of(left, last)
    if label:
        pure = not (kinds(left) | kinds(last)) & _STRUCTURES
        return Labelled(
            label, value_of(last), Relation("=", left, last) if pure and len(sides) == 2 else None
        )
    if (
        len(sides) == 2
        and (label := label_of(last, left))
        and last[0] in ("sym", "apply")
        and not symbols(left)
    ):
        return Labelled(label, value_of(left), Relation("=", left, last))
    if all(not symbols(side) for side in sides) and not kinds(("", *sides)) & (
        _STRUCTURES - {"ratio", "quantity"} | BIG | {"apply"}
    ):
        bare = [side[1] if side[0] == "quantity" else side for side in sides]
        holds = all(identical(bare[0], side) for side in bare[1:])
        return Labelled("=", value_of(last)) if holds else Relation("=", left, last)
    if len(sides) == 2 and not (kinds(left) | kinds(last)) & _STRUCTURES:
        return Relation("=", left, last)
    raise SyntaxProblem("an equation between structures")


def assigned(names: list[str], value: Value) -> Value:
    """`(x, y) = (1, 2)`, `(x, y) = (1, 2), (2, 1)`."""
    tuples = value.items if isinstance(value, (List, Set)) else (value,)
    if not all(isinstance(t, Tuple) and len(t.items) == len(names) for t in tuples):
        return Labelled(f"({', '.join(names)})", value)
    return Solutions(tuple(tuple(zip(names, t.items, strict=True)) for t in tuples if isinstance(t, Tuple)))


def membership(left: Node, right: Node) -> Value:
    """`x \\in [1, 2)`: the set, for a name."""
    value = value_of(right)
    label = label_of(left, ("num", Fraction(0), None)) if left[0] in ("sym", "apply", "words") else ""
    pieces = reals(value) if not isinstance(value, Set) else None
    if pieces is not None:
        return Reals(pieces, label)
    if isinstance(value, Set) and label:
        return Labelled(label, List(value.items))
    return Labelled(label, value) if label else _refuse()


def _refuse() -> Value:
    raise SyntaxProblem("membership of something that is no name")


def inequality(node: Node) -> Value:
    """A chain of inequalities as the set of reals that it describes, or as a condition."""
    operators, sides = node[1], node[2]
    names = set().union(*(symbols(side) for side in sides))
    if any(kinds(side) & _STRUCTURES for side in sides):
        raise SyntaxProblem("an inequality of structures")
    target = [side for side in sides if side[0] in ("sym", "apply")]
    name = str(target[0][1]) if len(target) == 1 else names.copy().pop() if len(names) == 1 else ""
    if name:
        found: tuple[sets.Piece, ...] | None = (sets.piece(sets.MINUS, sets.INFINITY, False, False),)
        for operator, a, b in zip(operators, sides, sides[1:], strict=False):
            a, b = (("sym", name) if side[0] == "apply" and side[1] == name else side for side in (a, b))
            solved = sets.solve(operator, a, b, name)
            found = _both(found, solved)
            if found is None:
                break
        if found is not None:
            return Reals(found, name)
    return (
        Condition((node,)) if len(sides) > 2 or operators[0] != "ne" else Relation("ne", sides[0], sides[1])
    )


def _both(
    a: tuple[sets.Piece, ...] | None, b: tuple[sets.Piece, ...] | None
) -> tuple[sets.Piece, ...] | None:
    """The intersection; rays with endpoints that hold variables are joined to one piece."""
    if a is None or b is None:
        return None
    try:
        return sets.intersection(a, b)
    except Undefined:
        if len(a) == len(b) == 1:
            low, left = (b[0].low, b[0].closed[0]) if a[0].low == sets.MINUS else (a[0].low, a[0].closed[0])
            high, right = (
                (b[0].high, b[0].closed[1]) if a[0].high == sets.INFINITY else (a[0].high, a[0].closed[1])
            )
            return (sets.Piece(low, high, (left, right)),)
        return None


def builder(node: Node) -> Value:
    """`{x | x > 3}`: the condition, or a family `{2k | k in Z}`."""
    domains = domain_of(node[2])
    if node[1][0] in ("rel", "sym") and not (domains and node[1][0] == "rel" and node[1][1] != ("in",)):
        value = value_of(node[2])
        if isinstance(value, (Reals, Condition)):
            return value
    if domains:
        return family(node[1], tuple(domains))
    raise SyntaxProblem("a set by a condition")


def modulo(node: Node) -> Value:
    """`x \\equiv 1, 4 \\pmod 5` as a family of integers."""
    inner = node[1]
    items = inner[2] if inner[0] == "list" else (inner,)
    label, residues = "", []
    for item in items:
        if item[0] == "rel":
            if item[1] != ("equiv",):
                raise SyntaxProblem("a modulus without a congruence")
            label, item = label_of(item[2][0], item[2][1]) or _refused(), item[2][1]
        residues.extend(branches(item) if kinds(item) & {"pm", "mp"} else [item])
    if kinds(node[2]) & _STRUCTURES or symbols(node[2]):
        raise SyntaxProblem("a modulus that is no number")
    k: Node = ("mul", node[2], ("sym", "\0k"))
    return Family(tuple((("add", residue, k),) for residue in residues), (("\0k", "Z"),), label)


def _refused() -> str:
    raise SyntaxProblem("a congruence of expressions")


def cases(node: Node) -> Value:
    """A piecewise function."""
    if any(len(row) != 2 for row in node[1]):
        rows = [item for row in node[1] for item in row]
        return listing(("list", (",",) * (len(rows) - 1), tuple(rows)))
    return Cases(
        tuple(
            (value_of(row[0]), Text(row[1][1]) if row[1][0] == "words" else value_of(row[1]))
            for row in node[1]
        )
    )


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
        and domains[0][1] in _LEAST
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
        low, high = max(min(ends), _LEAST[domain[1]]), max(ends)
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
    if kinds(node) & _STRUCTURES:
        raise SyntaxProblem("a family of structures")
    return "", [(branch,) for branch in (branches(node) if kinds(node) & {"pm", "mp"} else [node])]


# -- lists
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
        return modulo(("modulo", ("list", separators, (*items[:-1], items[-1][1])), items[-1][2]))
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
    read = [
        units.read(v.unit) if isinstance(v, Quantity) and isinstance(v.value, Number) else None
        for v in values
    ]
    if (
        any(
            u is None or not u.dimension or u.words or u.dimension != read[0].dimension
            for u in read
            if read[0]
        )
        or None in read
    ):
        return None
    sizes = [u.size for u in read if u]
    if sorted(set(sizes), reverse=True) != sizes:
        return None
    total = (
        sum((v.value.value * size for v, size in zip(values, sizes, strict=True)), Fraction(0)) / sizes[-1]
    )  # type: ignore[attr-defined]
    return Quantity(Number(("num", total, None), total), values[-1].unit)  # type: ignore[attr-defined]


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


_MAKERS = {
    "bracket": bracket,
    "list": listing,
    "rel": relation,
    "setop": set_operation,
    "named": lambda node: Named(node[1]),
    "ratio": ratio,
    "modulo": modulo,
    "given": given,
    "builder": builder,
    "cases": cases,
    "matrix": matrix,
    "quantity": quantity,
    "base": lambda node: Base(node[1].lstrip("0") or "0", node[2]),
    "about": lambda node: About((value_of(node[1]),)),
    "ldots": lambda node: Dots(),
    "words": lambda node: Text(words.plain(node[1])),
}
