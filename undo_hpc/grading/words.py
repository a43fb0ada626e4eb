"""Answers in words: one plain form, names for the same thing, numbers in words, dates."""

from __future__ import annotations

import re
from fractions import Fraction

from undo_hpc.grading.names import CONNECTORS, NUMBER_WORDS, SCALES, word_list, word_set

_NOISE = re.compile(
    r"\\(?:text\w*|mathrm|mathbf|mbox|left|right|operatorname|displaystyle)\b|\\[,;:! ()\[\]]|[{}\"'`*_~$()\[\]]"
)
_POINT = re.compile(r"[.,;:!?]+(?=\s|$)")
_ARTICLES = word_set("the a an")
_SAME = {
    "emptyset": "no solution", "∅": "no solution", "none": "no solution", "no solutions": "no solution", "nothing": "no solution",
    "no real solution": "no solution", "no real solutions": "no solution", "empty set": "no solution", "no such": "no solution",
    "no integer solutions": "no solution", "no integer solution": "no solution", "no answer": "no solution",
    "no roots": "no solution", "no real roots": "no solution", "solution does not exist": "no solution",
    "dne": "does not exist", "undefined": "does not exist", "not defined": "does not exist",
    "limit does not exist": "does not exist", "infinitely many solutions": "infinitely many", "infinite": "infinitely many",
    "infinite solutions": "infinitely many", "infinitely many solution": "infinitely many", "infinite number": "infinitely many",
    "not enough information": "cannot be determined", "can not be determined": "cannot be determined",
    "right": "right", "equals": "equal",
}  # fmt: skip
SETS = {f"all {kind}": name for kind, name in (
    ("real numbers", "R"), ("reals", "R"), ("real", "R"), ("integers", "Z"), ("positive integers", "Z+"), ("natural numbers", "Z+"),
    ("positive real numbers", "R+"), ("positive reals", "R+"), ("rational numbers", "Q"), ("nonnegative integers", "N0"),
)}  # fmt: skip
_LEAD = re.compile(
    r"(?:(?:there (?:is|are|exist|exists)|it is|its|they are|he is|she is|answer(?: is)?|final answer(?: is)?|it)\s+)+"
)
_MONTHS = word_list("january february march april may june july august september october november december")
_MONTH = (
    {name: i for i, name in enumerate(_MONTHS, 1)}
    | {name[:3]: i for i, name in enumerate(_MONTHS, 1)}
    | {"sept": 9}
)
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?$")
INFINITE = ("infinitely many", "infinity", "positive infinity")
_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
EMPTY = "no solution"


def plain(text: str) -> str:
    """An answer as words: lower case, without commands for text, brackets, punctuation, articles and lead-ins."""
    text = _NOISE.sub(" ", text.replace("'", "")).replace("\\", " ").lower()
    words = [word for word in _POINT.sub(" ", text).split() if word not in _ARTICLES]
    said = " ".join(words)
    said = _LEAD.sub("", said, count=1) if _LEAD.match(said) and _LEAD.sub("", said, count=1) else said
    return _date(said) or _SAME.get(said, said)


def _date(said: str) -> str | None:
    """`4th of july 2012` and `july 4 2012` as one form."""
    words = [w for w in re.sub(r"[,.]", " ", said).split() if w != "of"]
    months = [w for w in words if w in _MONTH]
    days = [m[1] for w in words if (m := _DAY.match(w))]
    years = [w for w in words if re.fullmatch(r"[12]\d{3}", w)]
    if len(months) != 1 or len(days) != 1 or len(words) != 2 + len(years):
        return None
    return f"date {_MONTH[months[0]]} {int(days[0])} {years[0] if years else ''}".strip()


def same(a: str, b: str) -> bool:
    """Whether two plain forms say the same; names joined by `and` have no order."""
    if a == b or any(
        x in ("yes", "no") and y.startswith((x + " it ", x + " because ", x + " since "))
        for x, y in ((a, b), (b, a))
    ):
        return True
    if a.replace(" ", "") == b.replace(" ", "") and not re.search(r"\d", a):
        return True
    lists = [re.split(r"\s*(?:,|\band\b|&)\s*", text) for text in (a, b)]
    joined = all(len(items) > 1 and " and " in f" {text} " for items, text in zip(lists, (a, b), strict=True))
    return (
        joined
        and sorted(filter(None, lists[0])) == sorted(filter(None, lists[1]))
        and not re.search(r"\d|true|false|yes|no\b", a)
    )


def spelled(text: str) -> tuple[Fraction, str] | None:
    """The number that words spell, and the words behind it: `twenty-one apples`."""
    pieces = plain(text).replace("-", " ").split()
    value = part = used = 0
    for piece in pieces:
        if piece in SCALES and used and part:
            part *= SCALES[piece]
            if piece != "hundred":
                value, part = value + part, 0
        elif piece in NUMBER_WORDS and not (part and part % 100 and (part % 10 or NUMBER_WORDS[piece] >= 10)):
            part += NUMBER_WORDS[piece]
        elif not (piece == "and" and used and used + 1 < len(pieces) and pieces[used + 1] in NUMBER_WORDS):
            break
        used += 1
    rest = pieces[used:]
    if used and rest and rest[0].rstrip("s") in _PARTS:
        return Fraction(value + part, _PARTS[rest[0].rstrip("s")]), " ".join(rest[1:])
    if not used or len(rest) > 4 or any(word in CONNECTORS or not word.isalpha() for word in rest):
        return None
    return Fraction(value + part), " ".join(rest)
