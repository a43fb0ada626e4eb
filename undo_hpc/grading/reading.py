"""From the text of an answer to its typed value."""

from __future__ import annotations

import re
from functools import lru_cache

from undo_hpc.grading import listing, making, relations, words
from undo_hpc.grading.evaluate import Undefined
from undo_hpc.grading.grammar import parse
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.making import MAKERS, value_of
from undo_hpc.grading.names import NUMBER_WORDS
from undo_hpc.grading.tokens import SyntaxProblem, Wordy
from undo_hpc.grading.values import About, Base, Dots, Named, Number, Quantity, Set, Text, Unread, Value

_BASED = re.compile(
    r"\(?([0-9A-F]+)\)?\s*(?:_\s*\{?\s*(\d{1,2})\s*\}?|\\?[,~ ]\s*\(?(?:\\text\s*\{)?\s*\(?(?:in )?base[\s-]*(\w+)\)?\s*\}?\)?)"
)
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


MAKERS |= {
    "bracket": making.bracket,
    "list": listing.listing,
    "rel": relations.relation,
    "setop": making.set_operation,
    "named": lambda node: Named(node[1]),
    "ratio": making.ratio,
    "modulo": relations.modulo,
    "given": listing.given,
    "builder": relations.builder,
    "cases": making.cases,
    "matrix": making.matrix,
    "quantity": making.quantity,
    "base": lambda node: Base(node[1].lstrip("0") or "0", node[2]),
    "about": lambda node: About((value_of(node[1]),)),
    "ldots": lambda node: Dots(),
    "words": lambda node: Text(words.plain(node[1])),
}
