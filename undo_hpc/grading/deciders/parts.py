"""Answers of several parts: lists and sets (order does not matter), tuples (it does), plus-minus, label-to-value pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from undo_hpc.grading import numbers, units
from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare, OutOfBounds
from undo_hpc.grading.deciders.relation import is_label, split_relation
from undo_hpc.grading.scan import encloses, half_open, split_top

MAX_PARTS = 200
_CONNECTIVE = re.compile(
    r"\u27e6\s*,?\s*(?:and|or)\s*,?\s*\u27e7|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\(?:vee|lor|wedge)(?![a-zA-Z])|&(?!amp)"
)
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![a-zA-Z])|\+/-|\+-")
_POINT = re.compile(r"[A-Z]'?\s*(\(.*,.*\))")
_SYSTEM = re.compile(r"(?:\\\{)?\s*\\begin\s*\{(cases|aligned)\}(.*)\\end\s*\{\1\}", re.DOTALL)
_LABELLED_NOUN = re.compile(r"(?<![\d.,/])(-?[\d.,/]+)\s*\u27e6?\s*([A-Za-z]{3,}(?: [A-Za-z]+)*)\s*\u27e7?")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an answer and what held them: '' (list), '{}' (set), '()' (tuple) or other brackets."""

    brackets: str
    items: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the order matters."""
        return self.brackets not in ("", "{}")


def read(text: str) -> Parts:
    """The parts of a cleaned answer; one item where there is no list."""
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}") and _closes_at_end(text):
        return Parts("{}", _split(text[2:-2]))
    if text.startswith("\\langle") and text.endswith("\\rangle"):
        text = f"({text[7:-7].strip()})"
    system = _SYSTEM.fullmatch(text)
    if system and ("&" not in system[2] or system[1] == "aligned"):
        rows = (row.replace("&", "").strip(" ,;") for row in system[2].split("\\\\"))
        return Parts("", tuple(row for row in rows if row))
    if encloses(text):
        inside = _split(text[1:-1])
        if len(inside) > 1:
            return Parts(text[0] + text[-1], inside)
        if text[0] == "{" and text[-1] == "}":
            return read(text[1:-1])
    if "\\begin" in text:
        return Parts("", (text,))
    items = _split(text)
    if len(items) == 1 and half_open(text) and len(_split(text[1:-1])) > 1:
        return Parts(text[0] + text[-1], _split(text[1:-1]))
    return Parts("", items)


def _closes_at_end(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"\\[{}]", text):
        depth += 1 if match.group() == "\\{" else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _split(text: str) -> tuple[str, ...]:
    if "\\begin" in text and "," not in text:
        return (text.strip(),)
    text = _CONNECTIVE.sub(" , ", text)
    spaced = re.search(r",\s", text) and re.search(r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)", text)
    if spaced:
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    pieces = tuple(piece.strip().rstrip(" .\\") for piece in split_top(text, ",;"))
    found = tuple(piece for piece in pieces if piece)
    if len(found) > MAX_PARTS:
        raise OutOfBounds(f"more than {MAX_PARTS} parts")
    return found


def expand(text: str) -> list[str]:
    """Both readings of a plus-minus; all signs go together, minus-plus the other way."""
    if not _PLUS_MINUS.search(text):
        return [text]
    upper = _PLUS_MINUS.sub(lambda m: "-" if "mp" in m[0] else "+", text)
    lower = _PLUS_MINUS.sub(lambda m: "+" if "mp" in m[0] else "-", text)
    return [re.sub(r"(^|[=(,{])\s*\+", r"\1", upper), lower]


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Compares part by part. None where neither side has parts."""
    nouns = _nouns(gold.clean, pred.clean)
    if nouns is not None:
        return nouns
    a, b = (
        _expanded(read(_unnamed_point(gold.clean, pred.clean))),
        _expanded(read(_unnamed_point(pred.clean, gold.clean))),
    )
    if len(a.items) <= 1 and len(b.items) <= 1:
        return _unwrapped(gold, pred, a, b, compare)
    if gold.quantity is not None and pred.quantity is not None:
        return None
    a, b = _named_tuple(a), _named_tuple(b)
    labelled = _by_label(a, b, compare)
    if labelled is not None:
        return labelled
    a, b = _one_label(a), _one_label(b)
    if a.ordered or b.ordered:
        return _in_order(a, b, compare)
    return _any_order(a.items, b.items, compare)


def _unnamed_point(text: str, other: str) -> str:
    """`P(3, 4)` as `(3, 4)` where the other side gives coordinates alone."""
    point = _POINT.fullmatch(text)
    return point[1] if point and other.startswith("(") and encloses(point[1]) else text


def _unwrapped(gold: Answer, pred: Answer, a: Parts, b: Parts, compare: Compare) -> bool | None:
    """A set of one element is its element; the empty set has none."""
    if (a.brackets == "{}") != (b.brackets == "{}") and len(a.items) == len(b.items) == 1:
        return compare(a.items[0], b.items[0])
    if a.brackets == b.brackets == "{}":
        return len(a.items) == len(b.items) and all(
            compare(x, y) for x, y in zip(a.items, b.items, strict=True)
        )
    changed = [
        (old, new.items[0])
        for old, new in ((gold.clean, a), (pred.clean, b))
        if len(new.items) == 1 and new.items[0] != old.strip().rstrip(" .\\")
    ]
    if (
        changed
        and a.items
        and b.items
        and len(a.items[0]) + len(b.items[0]) < len(gold.clean) + len(pred.clean)
    ):
        return compare(a.items[0], b.items[0])
    return None


def _expanded(parts: Parts) -> Parts:
    if parts.ordered and len(parts.items) > 1:
        return parts
    items = tuple(reading for item in parts.items for reading in expand(item))
    return Parts(parts.brackets if len(items) > 1 or parts.brackets == "{}" else "", items)


def _nouns(gold: str, pred: str) -> bool | None:
    """`9 chickens and 10 rabbits`: each number belongs to its noun."""
    if len(gold) > 500 or len(pred) > 500:
        return None
    a, b = _LABELLED_NOUN.findall(gold), _LABELLED_NOUN.findall(pred)
    if len(a) < 2 or len(b) < 2:
        return None
    left, right = ({_noun(name): numbers.plain_number(value) for value, name in found} for found in (a, b))
    if (
        len(left) != len(a)
        or len(right) != len(b)
        or any(value is None for value in (*left.values(), *right.values()))
    ):
        return None
    if any(units.is_known(name) for name in left):
        return None
    return left == right if set(left) == set(right) else None


def _noun(name: str) -> str:
    word = re.sub(r"\s*(?:and|or)$", "", name.strip().lower())
    return word[:-1] if word.endswith("s") else word


def _label(item: str) -> tuple[str, str] | None:
    sides, signs = split_relation(item)
    if len(sides) < 2 or set(signs) != {"="} or not is_label(sides[0]):
        return None
    return re.sub(r"[\s{}]", "", sides[0]), sides[-1]


def _named_tuple(parts: Parts) -> Parts:
    """`(x, y) = (5, 8)` as an item is `(5, 8)`."""
    items = []
    for item in parts.items:
        label = _label(item)
        items.append(label[1] if label and label[0].startswith("(") else item)
    if len(items) == 1:
        return read(items[0])
    return Parts(parts.brackets, tuple(items))


def _by_label(a: Parts, b: Parts, compare: Compare) -> bool | None:
    left, right = [_label(item) for item in a.items], [_label(item) for item in b.items]
    if all(left) and all(right) and len(left) > 1 and len(right) > 1:
        if {pair[0] for pair in left if pair} != {pair[0] for pair in right if pair}:
            return False
        return _any_order(a.items, b.items, lambda x, y: _same_pair(x, y, compare))
    for labelled, bare, gold_first in ((left, b, True), (right, a, False)):
        names = [pair[0] for pair in labelled if pair]
        if (
            len(names) == len(labelled) > 1
            and len(set(names)) == len(names)
            and len(bare.items) == len(names)
        ):
            if any(_label(item) for item in bare.items):
                return None
            values = [pair[1] for pair in labelled if pair]
            pairs = (
                zip(values, bare.items, strict=True) if gold_first else zip(bare.items, values, strict=True)
            )
            if all(compare(x, y) for x, y in pairs):
                return True
            return (
                _any_order(bare.items, tuple(values), compare)
                if not gold_first and not bare.ordered
                else False
            )
    return None


def _same_pair(x: str, y: str, compare: Compare) -> bool:
    first, second = _label(x), _label(y)
    return bool(first and second and first[0] == second[0] and compare(first[1], second[1]))


def _one_label(parts: Parts) -> Parts:
    """`x = 1, x = 2` is `1, 2`, and `a = 4, -8, -10` is `4, -8, -10`."""
    labels = [_label(item) for item in parts.items]
    names = {pair[0] for pair in labels if pair}
    if len(names) != 1 or not labels or labels[0] is None:
        return parts
    items = tuple(pair[1] if pair else item for pair, item in zip(labels, parts.items, strict=True))
    if len(items) == 1:
        return read(items[0])
    return Parts(parts.brackets, items)


def _in_order(a: Parts, b: Parts, compare: Compare) -> bool:
    if len(a.items) != len(b.items):
        return False
    if a.brackets != b.brackets and (a.brackets not in ("", "()") or b.brackets not in ("", "()")):
        return False
    return all(compare(x, y) for x, y in zip(a.items, b.items, strict=True))


def _any_order(a: tuple[str, ...], b: tuple[str, ...], compare: Compare) -> bool:
    """Equality of multisets, repetitions of one element counted once: each element has a partner on the other side."""
    missing = list(dict.fromkeys(b))
    left = list(dict.fromkeys(a))
    exact = set(left) & set(missing)
    left_over, right_over = [x for x in left if x not in exact], [y for y in missing if y not in exact]
    if not left_over and not right_over:
        return True
    if len(left_over) * len(right_over) > 2500:
        raise OutOfBounds("too many parts to match")
    return all(any(compare(x, y) for y in (*right_over, *exact)) for x in left_over) and all(
        any(compare(x, y) for x in (*left_over, *exact)) for y in right_over
    )
