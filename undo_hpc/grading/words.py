"""Answers in words: one plain form, names for the same thing, numbers in words, dates."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import groupby

from undo_hpc.grading.tables import CONNECTORS, MONTHS, NUMBER_WORDS, SCALES, pairs, rows, word_set, words

_NOISE = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|left|right|operatorname|displaystyle)\b|\\[,;:! ()\[\]]|[{}\"'`*_~$()\[\]]")  # fmt: skip
_POINT = re.compile(r"[.,;:!?]+(?=\s|$)")
_LEAD = re.compile(r"(?:(?:there (?:is|are|exist|exists)|it is|its|they are|(?:final )?answer(?: is)?|it)\s+)+")  # fmt: skip
_SAME = {said.strip(): name for line, name in rows("same words") for said in line.split(",")}
_MONTH = {name[:size]: i for i, name in enumerate(MONTHS, 1) for size in (3, len(name))} | {"sept": 9}
_PARTS = {name: int(size) for name, size in pairs("parts of one").items()}
SETS = frozenset(name for name in _SAME.values() if name[0].isupper())
_ADJECTIVES = frozenset(words("adjectives"))
_SAYING = word_set("all any every is are must be integer integers number numbers value values for of")
INFINITE = ("infinitely many", "infinity", "positive infinity")
EMPTY = "no solution"
_NOTHING = re.compile(
    r"no (?:such )?(?:(?:real|integer|integral|positive|rational|other|possible|valid) )*"
    r"(?:solutions?|roots?|answers?|values?|functions?|integers?|numbers?|pairs?|triples?|such(?: [a-z])?)(?: (?:of|for) [a-z])?(?: exists?)?"
)
_WINS = re.compile(r" (?:always )?(?:wins?|will win|can win|has winning strategy)(?: game)?$")
_LIST = re.compile(r"\s*(?:,|\band\b|&)\s*")


def plain(text: str) -> str:
    """An answer as words: lower case, without commands for text, brackets, punctuation, articles and lead-ins."""
    text = _NOISE.sub(" ", text.replace("'", "")).replace("\\", " ").lower()
    said = " ".join(word for word in _POINT.sub(" ", text).split() if word not in ("the", "a", "an"))
    said = _LEAD.sub("", said, count=1) if _LEAD.match(said) else said
    said = _WINS.sub("", said) if "win" in said else said
    return EMPTY if _NOTHING.fullmatch(said) else _date(said) or _SAME.get(said, said)


def _date(said: str) -> str | None:
    """`4th of july 2012` and `july 4 2012` as one form."""
    found = re.fullmatch(r"(?:(\d{1,2})(?:st|nd|rd|th)? )?(?:of )?([a-z]+)(?: (\d{1,2})(?:st|nd|rd|th)?)?( [12]\d{3})?",
                         re.sub(r"[,.]", "", said))  # fmt: skip
    if not found or found[2] not in _MONTH or bool(found[1]) == bool(found[3]):
        return None
    return f"date {_MONTH[found[2]]} {int(found[1] or found[3])}{found[4] or ''}"


def same(a: str, b: str) -> bool:
    """Whether two plain forms say the same; names joined by `and` have no order, a reason may be left out."""
    if a == b or (a.replace(" ", "") == b.replace(" ", "") and not re.search(r"\d", a)):
        return True
    if _told(a, b) == _told(b, a):
        return True
    short, long = sorted((a, b), key=len)
    if short in ("yes", "no") and long.startswith((f"{short} it ", f"{short} because ", f"{short} since ")):
        return True
    lists = [sorted(filter(None, _LIST.split(text))) for text in (a, b)]
    joined = all(" and " in text for text in (a, b)) and not re.search(r"\d|\b(?:true|false|yes|no)\b", a)
    return joined and lists[0] == lists[1]


def _told(text: str, other: str) -> list[str]:
    """The words of a text, adjectives side by side in order; of `all odd integers n` and `n is odd` what they tell of the number, and its
    name where both have one."""
    said, named = text.split(), any(len(word) == 1 for word in other.split())
    telling = [word for word in said if word in _ADJECTIVES or (named and len(word) == 1)]
    plain = all(word in _ADJECTIVES | _SAYING or len(word) == 1 for word in said)
    if plain and _ADJECTIVES & set(said):
        return sorted(telling)
    runs = [(key, list(run)) for key, run in groupby(said, _ADJECTIVES.__contains__)]
    return [word for key, run in runs for word in (sorted(run) if key else run)]


def spelled(text: str) -> tuple[Fraction, str] | None:
    """The number that words spell, and the words behind it: `twenty-one apples`, `three quarters`."""
    pieces = plain(text).replace("-", " ").split()
    if pieces[1:] and pieces[0].isdecimal() and pieces[1].rstrip("s") in _PARTS:  # 2 thirds
        return Fraction(int(pieces[0]), _PARTS[pieces[1].rstrip("s")]), " ".join(pieces[2:])
    value = part = used = 0
    for piece in pieces:
        if piece in SCALES and (part or piece == "dozen"):
            part = (part or 1) * SCALES[piece]
            if piece != "hundred":
                value, part = value + part, 0
        elif piece in NUMBER_WORDS and not (part and part % 100 and (part % 10 or NUMBER_WORDS[piece] >= 10)):
            part += NUMBER_WORDS[piece]
        elif not (piece == "and" and used and set(pieces[used + 1 : used + 2]) & NUMBER_WORDS.keys()):
            break
        used += 1
    rest = pieces[used:]
    if used and rest and rest[0].rstrip("s") in _PARTS:
        return Fraction(value + part, _PARTS[rest[0].rstrip("s")]), " ".join(rest[1:])
    if not used or len(rest) > 4 or any(word in CONNECTORS or not word.isalpha() for word in rest):
        return None
    return Fraction(value + part), " ".join(rest)
