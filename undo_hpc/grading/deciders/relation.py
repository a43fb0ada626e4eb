"""Equations and inequalities: y = 2x + 3 against 2x - y + 3 = 0, x = 5 against 5, a chain of equalities."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare, expression
from undo_hpc.grading.scan import encloses
from undo_hpc.grading.syntax import Node, parse, symbols

_RELATION = re.compile(r"\\(?:le|ge|ne|approx|equiv|in|notin|to|Rightarrow|implies)\b|[=<>]")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}
_PROBABILITY = re.compile(r"(?:\\mathbb\s*\{?\s*)?(?:P|Pr|E|Var|\\Pr)\s*\}?\s*[(\[][^()\[\]]{1,40}[)\]]")
_SYMBOLIC = re.compile(r"[A-Za-z\\_{}()\d\s,'|/:\u27e6\u27e7\^-]+")


def split_relation(text: str) -> tuple[list[str], list[str]]:
    """Sides and signs of a chain: `a < b \\le c` gives ([a, b, c], ['<', '\\le']). One side where there is no relation."""
    depth, sides, signs, last = 0, [], [], 0
    for match in re.finditer(r"\\(?:le|ge|ne|approx|in|notin|equiv)(?![a-zA-Z])|[=<>]|[(\[{]|[)\]}]", text):
        piece = match.group()
        if piece in "([{":
            depth += 1
        elif piece in ")]}":
            depth -= 1
        elif depth <= 0:
            sides.append(text[last : match.start()].strip())
            signs.append(piece)
            last = match.end()
    sides.append(text[last:].strip())
    return sides, signs


def is_label(text: str) -> bool:
    r"""Whether a left side only names the value: `x`, `f(x)`, `a_{37}`, `\frac{NO}{BO}`, `(x, y)`, `V_1:V_2`, `AB`; not `2x`, `a + c`."""
    if _PROBABILITY.fullmatch(text):
        return True
    if not text or len(text) > 60 or not _SYMBOLIC.fullmatch(text):
        return False
    bare = re.sub(r"_\s*(?:\{[^{}]*\}|\w)", "", text)
    bare = re.sub(r"(?<=[A-Za-z'}])\s*\(\s*-?[\w\s,.\\]*\)", "", bare)
    bare = re.sub(
        r"\\(?:frac|overline|angle|triangle|mathrm|vec|hat|bar|overrightarrow|measuredangle|text)\b", "", bare
    )
    bare = re.sub(r"\^\{?-1\}?", "", bare)
    return not re.search(r"[\d^-]", bare) and bool(re.search(r"[A-Za-z]", text))


def value_of(text: str) -> str | None:
    """The value behind a label or at the end of a chain of plain numbers; None where the relation is a true equation."""
    sides, signs = split_relation(text)
    if len(sides) < 2 or any(sign != "=" for sign in signs):
        return None
    if is_label(sides[0]):
        return sides[-1]
    first = parse(sides[0])
    last = parse(sides[-1])
    if ((first is not None and not symbols(first)) or _of_quantities(sides[0])) and Answer(
        sides[-1]
    ).quantity is not None:
        return sides[-1]
    if len(sides) > 2 and last is not None and not symbols(last):
        return sides[-1]
    if first is not None and not symbols(first) and last is not None and not symbols(last):
        return sides[-1]
    return None


def _of_quantities(text: str) -> bool:
    """`60 miles + 60 miles`."""
    terms = [term.strip(" ()") for term in re.split(r"[-+*/]|\\(?:times|cdot|div)(?![a-zA-Z])", text)]
    return 1 < len(terms) <= 20 and all(Answer(term, part=True).quantity is not None for term in terms)


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Equations up to a constant factor, inequalities up to a positive one; a label is taken away where one side has none."""
    a, b = (
        text[1:-1].strip() if encloses(text) and text[0] in "({" else text
        for text in (gold.clean, pred.clean)
    )
    if not _RELATION.search(a) and not _RELATION.search(b):
        return None
    approximate = _approximate(a, b, compare)
    if approximate is not None:
        return approximate
    left, right = split_relation(a), split_relation(b)
    if len(left[0]) == 1 and len(right[0]) == 1:
        return None
    if len(left[0]) == 1:
        value = value_of(b)
        return compare(a, value) if value else False
    if len(right[0]) == 1:
        value = value_of(a)
        return compare(value, b) if value else (False if set(left[1]) == {"="} else None)
    return _both(left, right, compare)


def _approximate(a: str, b: str, compare: Compare) -> bool | None:
    r"""`9.5/3.14 \approx 3.03` stands for its exact side, and for its rounded side."""
    if "\\approx" in a:
        return any(compare(part.strip(), b) for part in a.split("\\approx") if part.strip())
    if "\\approx" in b:
        return any(compare(a, part.strip()) for part in b.split("\\approx") if part.strip())
    return None


def _both(
    left: tuple[list[str], list[str]], right: tuple[list[str], list[str]], compare: Compare
) -> bool | None:
    (a, signs_a), (b, signs_b) = left, right
    if (
        len(a) == len(b)
        and signs_a == signs_b
        and all(x.replace(" ", "") == y.replace(" ", "") for x, y in zip(a, b, strict=True))
    ):
        return True
    if set(signs_a) == {"="} and set(signs_b) == {"="}:
        labels = is_label(a[0]), is_label(b[0])
        if all(labels) and _same_name(_name(a[0]), _name(b[0])):
            return compare(a[-1], b[-1])
        if _of_numbers(a) and _of_numbers(b):  # both may hold, and state different things
            return compare(a[-1], b[-1])
        if len(a) == len(b) == 2:
            return _proportional(a, "=", b, "=")
        return None
    if len(a) == len(b) == 2 and signs_a[0][0] in "=<>\\" and signs_b[0][0] in "=<>\\":
        return _proportional(a, signs_a[0], b, signs_b[0])
    return None


def _of_numbers(sides: list[str]) -> bool:
    nodes = [parse(side) for side in sides]
    return all(node is not None and not symbols(node) for node in nodes)


def _same_name(x: str, y: str) -> bool:
    """One name, or y and f(x), which name the same thing."""
    return x == y or (x == "y" and bool(_OF_X.fullmatch(y))) or (y == "y" and bool(_OF_X.fullmatch(x)))


_OF_X = re.compile(r"[a-zA-Z]\([a-z]\)")


def _name(label: str) -> str:
    return re.sub(r"[\s{}]", "", label)


def _proportional(a: list[str], sign_a: str, b: list[str], sign_b: str) -> bool | None:
    if sign_a not in FLIPPED or sign_b not in FLIPPED:
        return None
    nodes: list[Node | None] = [parse(side) for side in (*a, *b)]
    if any(node is None for node in nodes):
        return None
    ratio = expression.constant_ratio(
        ("add", nodes[0], ("neg", nodes[1])), ("add", nodes[2], ("neg", nodes[3]))
    )
    if ratio is None:
        return None
    if ratio == 0:
        return False
    return sign_b == (sign_a if ratio > 0 or sign_a in ("=", "\\ne") else FLIPPED[sign_a])
