"""From relations, lists and whole answers to values: named values, solutions, sets of reals, equations, congruences, families of values."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise, permutations

from undo_hpc.grading import families, regions, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.grammar import domain_of, parse
from undo_hpc.grading.identity import identical
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.making import MAKERS, STRUCTURES, as_formula, branches, flat, named, value_of
from undo_hpc.grading.tables import MULTI_ARGUMENT, NUMBER_WORDS, word_set
from undo_hpc.grading.tokens import SyntaxProblem, Wordy
from undo_hpc.grading.values import Node, Value, kinds, num, substitute, symbols, walk

_BASED = re.compile(r"\(?([0-9A-F]+)\)?\s*(?:_\s*\{?\s*(\d{1,2})\s*\}?|\\?[,~ ]\s*\(?(?:\\text\s*\{)?\s*\(?(?:in )?base[\s-]*(\w+)\)?\s*\}?\)?)")  # fmt: skip
_SPLIT = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_PART = re.compile(r"(?:^|(?<=[\s;,.]))(?:\\text\s*\{)?\(?([1-5a-e])\)\s*\}?(?=\s*[-\\$\w(])")
_PERMUTED = re.compile(
    r"\(?(?:\\text ?\{ ?)?,? ?\(?(?:\b(?:and|or|with|all|its|their|any|of|the|other|permutations?|thereof|it|them|these)\b ?)+\)? ?\}?\)?"
)
_WORDS = (typed.Text, typed.Unread)
_FLIPPED = {">": "<", "ge": "le", "<": "<", "le": "le", "ne": "ne", "=": "="}
_MEASURED = word_set("add mul div ratio fn pow")
_NO_MEASURES = word_set("sqrt abs max min gcd lcm floor ceil log ln")
_UNKNOWNS = frozenset("xyz")
_WHOLE = {"Z": float("-inf"), "N": 0, "Z+": 1}


def label_of(left: Node, right: Node) -> str:
    """The name that the left side is for the right one; an empty string where it is part of an equation.

    Symbols and applied names are labels where they do not come again; so are words, limits and integrals, and, of a closed value,
    segments (AB), marked letters, ratios, and measures of them (sin A).
    """
    kind = left[0]
    if kind in ("opaque", "big") and kind not in kinds(right):
        return f"of {left[1:]}"
    if kind == "words":
        return "words " + words.plain(left[1])
    if kind == "sym" and left[1] not in symbols(right):
        return str(left[1])
    if kind == "apply" and not any(part[:2] == left[:2] for part in walk(right)):
        return f"{left[1]}()"
    if kind == "setop":
        return f"of {left}"
    names = symbols(left)
    closed = not symbols(right) and "apply" not in kinds(right)
    if not closed or not names or kind not in _MEASURED or "num" in kinds(left):
        return ""
    parts = kind == "ratio" or all(name[0].isupper() or ":" in name for name in names)
    if parts or (kind == "add" and not names & _UNKNOWNS):
        return "of " + ("".join(sorted(names)) if kind == "mul" else repr(left))
    measure = kind == "fn" and left[1] not in _NO_MEASURES and len(names) == 1
    several = kind == "fn" and left[1] in MULTI_ARGUMENT and {n[0] for n in left[2]} <= {"sym", "apply"}
    return f"of {left[1]} {sorted(names)}" if measure or several else ""


def solved(label: str, value: Value, relation: typed.Relation | None = None) -> typed.Solutions:
    """A value with its name; the items of a list are its values one by one."""
    return typed.Solutions((label,), tuple((item,) for item in flat([value])), relation)


def relation(node: Node) -> Value:
    """What a chain of relations says: a named value, solutions, a set of reals, or an equation."""
    operators, sides = node[1], node[2]
    said = set(operators)
    plain = not kinds(sides) & STRUCTURES
    if said <= {"approx", "="} and "approx" in said:  # `x \approx 1.5`: the label is no value
        label = label_of(sides[0], sides[-1])
        held = sides[1:] if label else sides
        if len({bool(symbols(side)) for side in held}) == 1:
            return typed.About(tuple(value_of(side) for side in held if side[0] != "words"), label)
    elif said == {"="}:
        return equation(sides)
    elif operators == ("in",):
        return membership(*sides)
    elif operators == ("equiv",) and sides[1][0] == "mod":  # n \equiv 3 \bmod 7
        return modulo(("modulo", ("rel", operators, (sides[0], sides[1][1])), sides[1][2]))
    elif operators == ("equiv",) and sides[0][0] == "apply":  # f(x) \equiv 0
        return equation(sides)
    elif operators == ("ne",) and kinds(sides) & {"pm"} and plain:  # x \\ne \\pm 1
        return narrowed({"and"}, [inequality(operators, part) for part in branches(sides)])
    elif said <= _FLIPPED.keys() and plain:
        return inequality(operators, sides)
    elif len(sides) == 2 and plain:
        return typed.Relation(operators[0], sides[0], sides[1])
    raise SyntaxProblem("a chain of relations")


def equation(sides: tuple[Node, ...]) -> Value:
    """A chain of equal signs."""
    left, last = sides[0], sides[-1]
    names = [str(side[-1]) for side in sides[:-1]]
    if len(sides) > 2 and all(s[0] == "sym" for s in sides[:-1]) and len(set(names)) == len(names):
        return typed.Solutions(tuple(names), ((value_of(last),) * len(names),), None)  # x = y = z = 1
    if left[0] == "bracket" and left[1] == "(" and all(n[0] in ("sym", "const", "apply") for n in left[3]):
        unknowns, value = tuple(str(n[1]) for n in left[3]), value_of(last)  # (x, y) = (1, 2), (2, 1)
        plain = isinstance(value, typed.Items) and value.brackets in ("", "{}")
        rows = tuple(getattr(row, "items", ()) for row in (value.items if plain else (value,)))
        fitting = all(len(row) == len(unknowns) for row in rows)
        return typed.Solutions(unknowns, rows, None) if fitting else solved(f"({', '.join(unknowns)})", value)
    whole = typed.Relation("=", left, last) if len(sides) == 2 and not kinds(sides) & STRUCTURES else None
    if label := label_of(left, last):
        return solved(label, value_of(last), whole)
    if len(sides) == 2 and last[0] in ("sym", "apply") and not symbols(left):  # 3 = x
        return solved(label_of(last, left), value_of(left), whole)
    if not symbols(sides) and not kinds(sides) & (STRUCTURES - {"ratio", "quantity"} | {"apply", "big"}):
        bare = [side[1] if side[0] == "quantity" else side for side in sides]
        holds = all(identical(bare[0], side) for side in bare[1:])
        return solved("=", value_of(last)) if holds else typed.Relation("=", left, last)  # 6 + 7 = 13
    if whole:
        return whole
    raise SyntaxProblem("an equation between structures")


def membership(left: Node, right: Node) -> Value:
    """`x \\in [1, 2)`: the set, for a name."""
    value = value_of(right)
    if left[0] == "bracket" and isinstance(value, typed.Items) and value.brackets == "{}":
        items = ("list", (",",) * (len(right[3]) - 1), right[3])  # (a, b) \\in {(1, 2), (2, 1)}
        return equation((left, items))
    label = label_of(left, num(0)) if left[0] in ("sym", "apply", "words") else ""
    if isinstance(value, typed.Region):
        return typed.Region(label, value.formula)
    if not label:
        raise SyntaxProblem("membership of something that is no name")
    braces = isinstance(value, typed.Items) and value.brackets == "{}"
    return solved(label, typed.Items("", value.items) if braces else value)


def inequality(operators: tuple[str, ...], sides: tuple[Node, ...]) -> Value:
    """A chain of inequalities as the set of reals that it describes for one name, or as relations of several."""
    chain = zip(operators, pairwise(sides), strict=True)
    turned = ((_FLIPPED[o], *(pair[::-1] if o in (">", "ge") else pair)) for o, pair in chain)
    pairs = [p for p in turned if p[1] != regions.MINUS_INFINITY and p[2] != regions.INFINITY]
    lone = [side for side in sides if side[0] in ("sym", "apply")]
    names = symbols(sides)
    target = lone[0] if len(lone) == 1 else sides[1] if len(sides) == 3 and sides[1] in lone else None
    if target is None and len(names) == 1:
        target = ("sym", min(names))
    if target is None:
        found = tuple(typed.Relation(*pair) for pair in pairs)
        return found[0] if len(found) == 1 else typed.Items("", found)
    held = (("rel", (o,), substitute((a, b), target, regions.VARIABLE)) for o, a, b in pairs)
    return typed.Region(target[1], ("every", *held))


# -- lists
def listing(node: Node) -> Value:
    """A list: solutions, conditions on one variable, families, or values in any order."""
    separators, items = node[1], node[2]
    domains = [domain_of(item, items[:i]) for i, item in enumerate(items)]
    for i in range(len(items) - 1, 0, -1):  # `k` of `k, n \\in Z`
        if (told := domains[i]) and items[i - 1][0] == "sym" and items[i - 1][1] in symbols(items[: i - 1]):
            domains[i - 1] = [(items[i - 1][1], told[0][1])]
    if any(domains) and not all(domains):
        rest = tuple(item for item, found in zip(items, domains, strict=True) if not found)
        inner = rest[0] if len(rest) == 1 else ("list", separators[: len(rest) - 1], rest)
        return given(("given", inner, tuple(pair for found in domains for pair in found or ())))
    if ";" in separators and len(set(separators)) > 1:
        groups = [[items[0]]]
        for separator, item in zip(separators, items[1:], strict=True):
            if separator == ";":
                groups.append([])
            groups[-1].append(item)
        nodes = (("list", (",",) * (len(g) - 1), tuple(g)) if len(g) > 1 else g[0] for g in groups)
        return joined({";"}, [value_of(part) for part in nodes])
    last = items[-1]
    if last[0] in ("modulo", "given") and all(item[0] != last[0] for item in items[:-1]):
        return value_of((last[0], ("list", separators, (*items[:-1], last[1])), last[2]))
    values = [value_of(item) for item in items]
    part = narrowed(set(separators[1:]), values[1:]) if separators[:1] == (",",) else None
    return (part and partly(values[0], part)) or joined(set(separators), values)


def partly(head: Value, part: Value) -> Value:
    r"""A function that is told on a part of the reals, `x+1, x \ne 2` or `f(x) = x+1, x > 0`; None where it is none, or of integers."""
    name = ("sym", getattr(part, "name", ""))
    if name[1] in "kmnN":
        return None
    if isinstance(head, typed.Expression) and head.node != name and name in walk(head):
        return typed.Cases(((head, part),))
    function = isinstance(head, typed.Solutions) and head.relation and head.relation.left[0] == "apply"
    inner = partly(head.rows[0][0], part) if function and head.relation.left[2] == (name,) else None
    return inner and solved(head.names[0], inner)


def clause(node: Node) -> Value:
    """An expression and the condition that words put behind it."""
    if (value := partly(value_of(node[1]), value_of(node[2]))) is None:
        raise Wordy("a condition")
    return value


def joined(separators: set[str], values: list[Value]) -> Value:
    """What values side by side mean together."""
    head, *rest = values
    whole: Value = None
    if all(isinstance(v, typed.Solutions) for v in values):
        whole = merged(values)
    elif any(isinstance(v, typed.Region) for v in values):
        whole = narrowed(separators, list(map(as_region, values)) if "or" in separators else values)
    elif all(isinstance(v, typed.Family) and v.domains == head.domains for v in values):
        whole = typed.Family(tuple(item for v in values for item in v.items), head.domains, head.label)
    elif isinstance(head, typed.Solutions) and not head.names[0].startswith("words ("):  # x = 2, 3
        bare = not any(isinstance(v, (typed.Solutions, typed.Relation, typed.Region)) for v in rest)
        rows = [(v,) for v in flat(rest)] if len(head.names) == 1 else [getattr(v, "items", ()) for v in rest]
        if bare and all(len(row) == len(head.names) for row in rows):
            whole = typed.Solutions(head.names, (*head.rows, *rows), None)
    return whole or typed.Items("", flat(values))


def merged(values: list[typed.Solutions]) -> typed.Solutions | None:
    """Assignments one after the other: a name that comes again begins a new solution."""
    rows: list[dict[str, Value]] = [{}]
    for value in values:
        for row in value.rows:
            part = dict(zip(value.names, row, strict=True))
            if rows[-1] and (part.keys() & rows[-1].keys() or len(part) > 1):
                rows.append({})
            rows[-1] |= part
    names = tuple(sorted(rows[0]) if rows[0].keys() <= _UNKNOWNS else rows[0])
    if "=" in names or any(row.keys() != rows[0].keys() for row in rows):
        return None
    return typed.Solutions(names, tuple(tuple(row[name] for name in names) for row in rows), None)


def as_region(value: Value) -> Value:
    """Solutions of one name as the set of reals that they are; any other value as it is."""
    single = isinstance(value, typed.Solutions) and len(value.names) == 1
    formula = as_formula(typed.Items("{}", tuple(row[0] for row in value.rows))) if single else None
    return value if formula is None else typed.Region(value.names[0], formula)


def narrowed(separators: set[str], values: list[Value]) -> typed.Region | None:
    """Inequalities side by side: `or` joins, `and` and commas narrow down; a comma joins where nothing would be left."""
    if not all(isinstance(v, typed.Region) for v in values):
        return None
    names = {v.name for v in values} - {""}
    both: Node = ("every", *(v.formula for v in values))
    closed = symbols(both) <= {regions.VARIABLE[1]}
    joins = "or" in separators or (
        "and" not in separators and closed and regions.same_region(both, regions.NOTHING)
    )
    whole = typed.Region(max(names, default=""), ("any", *both[1:]) if joins else both)
    return None if len(names) > 1 else whole


# -- parameters and their domains
def given(node: Node) -> Value:
    """All values of a node as its parameters run; the node itself where the domains say nothing (all reals, a label)."""
    inner, domains = node[1], node[2]
    names = symbols(inner) - labels(inner)
    if domains and domains[0][0] == "":
        domains = tuple((name, domains[0][1]) for name in sorted(names - {*"xyz"}))  # those are unknowns
    value = value_of(inner)
    if isinstance(value, typed.Region):
        least = _WHOLE.get(domains[0][1]) if [name for name, _ in domains] == [value.name] else None
        formula = value.formula if least is None else ("every", value.formula, ("whole", least))
        return typed.Region(value.name, formula)
    running = tuple(pair for pair in domains if pair[0] in names)
    found = families.members(value)
    tuples = found is not None and len(found[1][:1]) and len(found[1][0]) > 1
    unknown = any(name in "xyz" for name, _ in running)
    constants = isinstance(value, typed.Solutions) and not unknown  # f(x) = cx
    if not running or (all(domain in ("R", "C", "Q") for _, domain in running) and not (tuples or constants)):
        return value
    if not found:
        raise SyntaxProblem("a family of structures")
    label, items = found
    names = frozenset(name for name, _ in running)
    if len({domain for _, domain in running}) == 1 and all(len(symbols(item) & names) < 2 for item in items):
        for name in sorted(names):  # k \\pi, \\pi/4 + n \\pi: one parameter would do
            items = substitute(items, ("sym", name), ("sym", running[0][0]))
        running = running[:1]
    return typed.Family(items, running, label)


def labels(node: Node) -> frozenset[str]:
    """The names on the left of equations, and their indices: they are not parameters."""
    if node[0] == "rel":
        return frozenset(part for name in symbols(node[2][0]) for part in (name, *name.split("_")[1:]))
    return frozenset().union(*map(labels, node[-1])) if node[0] in ("list", "bracket") else frozenset()


def builder(node: Node) -> Value:
    """`{x | x > 3}`: the condition, or a family `{2k | k in Z}`."""
    what, condition = node[1], node[2]
    domains, within = domain_of(condition), domain_of(what)
    if domains and not within:
        return given(("given", what, tuple(domains)))
    value = given(("given", condition, tuple(within))) if within else value_of(condition)
    name = what[2][0] if what[0] == "rel" else what
    if not isinstance(value, typed.Region) or name != ("sym", value.name):
        raise SyntaxProblem("a set by a condition")
    return value


def modulo(node: Node) -> Value:
    """`x \\equiv 1, 4 \\pmod 5` as a family of integers; a congruence of letters as it stands."""
    inner, modulus = node[1], node[2]
    if kinds(modulus) & STRUCTURES:
        raise SyntaxProblem("a modulus that is no expression")
    label, items = families.members(value_of(substitute(inner, "equiv", "="))) or ("", ())  # type: ignore[arg-type]
    if (not items or symbols((modulus, items))) and inner[0] == "rel":
        return typed.Named("modulo", tuple(map(value_of, (*inner[2], modulus))))
    if not items or symbols((modulus, items)) or {len(item) for item in items} != {1}:
        raise SyntaxProblem("a modulus without a congruence")
    step: Node = ("mul", modulus, ("sym", "\0k"))
    return typed.Family(tuple((("add", item[0], step),) for item in items), families.RESIDUES, label)


MAKERS |= {
    "list": listing, "rel": relation, "told": clause, "given": given, "builder": builder, "modulo": modulo,
    "words": lambda node: typed.Text(words.plain(node[1])),
}  # fmt: skip


# -- whole answers
def readings(text: str) -> tuple[typed.Value, ...]:
    """The values that a text may have; more than one only where a comma may part thousands or items."""
    first = read(text)
    if not _SPLIT.search(text) or re.search(r"\d,0\d\d", text) or isinstance(first, _WORDS):
        return (first,)
    second = read(text, False)
    return (first,) if second == first or isinstance(second, _WORDS) else (first, second)


def _lettered(text: str) -> str:
    """The text with numbered parts, `1) 5; 2) 7` or `(1) 5 (2) 7`, lettered as `(a) 5; (b) 7` is read."""
    marks = [m[1] for m in _PART.finditer(text)] if text.count(")") > 1 else []
    if len(marks) < 2 or "".join(marks) not in ("12", "123", "1234", "12345", "ab", "abc", "abcd", "abcde"):
        return text
    return _PART.sub(lambda m: rf"; \text{{({chr(ord(m[1]) + 48 * m[1].isdigit())})}} ", text).lstrip("; ")


@lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> typed.Value:
    """The value of an answer. Never raises: words become Text, what the grammar does not know becomes Unread."""
    plain = _lettered(unify(text))
    if (based := _BASED.fullmatch(plain.strip().strip("$ "))) and (based[2] or based[3]):
        base = NUMBER_WORDS.get((based[2] or based[3]).lower(), based[2] or based[3])
        if str(base).isdigit():
            return value_of(("base", based[1], int(base)))
    around = [m for m in _PERMUTED.finditer(plain) if "permutation" in m[0]] if "permutation" in plain else []
    if len(around) == 1 and around[0].start() * (len(plain) - around[0].end()) == 0:
        value = read(plain[: around[0].start()] + plain[around[0].end() :], thousands)
        rows = getattr(value, "rows", [getattr(v, "items", ()) for v in flat([value])])
        if all(1 < len(row) < 5 for row in rows):
            return typed.Items("", tuple(typed.Items("()", p) for row in rows for p in permutations(row)))
    try:
        return value_of(parse(plain, thousands))
    except (SyntaxProblem, RecursionError) as error:
        longer = len(re.findall(r"[^\W\d_]{3,}", re.sub(r"\\[a-zA-Z]+", " ", plain))) > 2
        if not isinstance(error, Wordy) and not longer and words.plain(plain) != words.EMPTY:
            return typed.Unread(plain)
    if spelled := words.spelled(plain):
        value = typed.Expression(typed.num(spelled[0]))
        return typed.Quantity(value, spelled[1]) if spelled[1] else value
    said = words.plain(plain)
    if said in words.SETS:
        return named(said)
    return typed.Items("{}", ()) if said == words.EMPTY else typed.Text(said)
