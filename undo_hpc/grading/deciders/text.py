"""Answers in words: Evelyn, even, June 20, no solution."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare

_SYNONYMS = (
    frozenset({"yes", "true"}),
    frozenset({"no", "false"}),
    frozenset(
        {
            "no solution",
            "no solutions",
            "none",
            "no real solution",
            "no real solutions",
            "empty set",
            "does not exist",
            "dne",
            "no such",
            "there are no solutions",
            "there is no solution",
            "nosolution",
        }
    ),
    frozenset({"infinity", "infinite", "unbounded"}),
    frozenset({"undefined", "not defined"}),
    frozenset(
        {"infinitely many", "infinitely many solutions", "infinite solutions", "infinite number of solutions"}
    ),
)
_LEAD_IN = re.compile(r"^(?:there (?:is|are|exists?)|(?:it|this|answer) is|it's|they are)\s+(?=\S)")
_TRUTHS = {"true", "false", "yes", "no"}
_EMPTY = re.compile(r"\\emptyset|\\?\{\s*\\?\}")
_REALS = re.compile(r"(?:all|every|any)? ?real(?: number| value)?s?(?: (?:for|of))?(?: [a-z])?")
_REAL_LINE = re.compile(r"(?:[a-z]\\in)?(?:\\mathbb\{?R\}?|\(-\\infty,\+?\\infty\))")
_BETWEEN = re.compile(r"[,;&]|(?<![A-Za-z])and(?![A-Za-z])")
_MATHS = re.compile(r"[\d=+*/^\\<>]")


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """The same words, ignoring case, articles and punctuation. False where the gold answer is words only and they differ."""
    left, right = _LEAD_IN.sub("", gold.words), _LEAD_IN.sub("", pred.words)
    if not gold.wordy:
        if _EMPTY.fullmatch(gold.clean) and right in _SYNONYMS[2]:
            return True
        return None
    if left and _form(gold.clean) == _form(pred.clean):
        return True
    if _MATHS.search(gold.clean):
        return _by_fragments(gold, pred, compare)
    if left == right and left:
        return True
    if _REALS.fullmatch(left) and (_REALS.fullmatch(right) or _REAL_LINE.fullmatch(pred.compact)):
        return True
    if any(left in group and right in group for group in _SYNONYMS) or (
        left in _SYNONYMS[2] and _EMPTY.fullmatch(pred.clean)
    ):
        return True
    if left == right:
        return None
    items, other = _items(gold.clean), _items(pred.clean)
    if _TRUTHS.intersection(items):  # verdicts on statement 1, statement 2
        return len(items) > 1 and items == other
    return len(set(items)) > 1 and set(items) == set(other)


def _items(text: str) -> list[str]:
    """`Alice and Bob`, `red, blue`: the names of a short list."""
    parts = [re.sub(r"[\u27e6\u27e7{}.]", " ", part).strip().lower() for part in _BETWEEN.split(text)]
    names = [" ".join(part.split()) for part in parts if part.strip()]
    return names if all(len(name.split()) <= 2 for name in names) else []


_WORD = re.compile(r"\u27e6|\u27e7|(?<![\\\\A-Za-z])[A-Za-z]{2,}")


def _by_fragments(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Language with mathematics in it: the same words, and equal mathematics between them."""
    if len(gold.plain_words) < 3:
        return None
    sides = []
    for answer in (gold, pred):
        found = [word.lower() for word in _WORD.findall(answer.clean) if word not in "\u27e6\u27e7"]
        pieces = [piece.strip(" .,;:") for piece in _WORD.split(answer.clean)]
        sides.append(
            ([word for word in found if word not in ("a", "an", "the")], [piece for piece in pieces if piece])
        )
    (words, maths), (other_words, other_maths) = sides
    if words != other_words or len(maths) != len(other_maths):
        return False
    return all(compare(x, y) for x, y in zip(maths, other_maths, strict=True))


_LOOSE = str.maketrans("", "", "{}\u27e6\u27e7\"'.,;:$")
_GROUPING, _POINT = re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), re.compile(r"(?<=\d)\.(?=\d)")
_BETWEEN_DIGITS = re.compile(
    r"(?<=\d)[\s{}\u27e6\u27e7\"'.,;:$]+(?=\d)"
)  # `19, 99`: with nothing between them they would be one number


def _form(text: str) -> str:
    """The text without spaces, punctuation and capitals, but with a mark between two numbers."""
    plain = re.sub(r"\\([a-z]+)", r"\1", text.lower())
    marked = _BETWEEN_DIGITS.sub("/", _POINT.sub("!", _GROUPING.sub("", plain)))
    return re.sub(r"\s+", "", marked.translate(_LOOSE))
