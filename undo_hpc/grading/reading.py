"""From the text of an answer to its typed value: text -> node (`grammar`) -> value (`making`, `relations`)."""

from __future__ import annotations

import re
from functools import lru_cache

from undo_hpc.grading import making, relations, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.grammar import parse
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.making import MAKERS, value_of
from undo_hpc.grading.nodes import num
from undo_hpc.grading.tables import NUMBER_WORDS
from undo_hpc.grading.tokens import SyntaxProblem, Wordy

_BASED = re.compile(
    r"\(?([0-9A-F]+)\)?\s*(?:_\s*\{?\s*(\d{1,2})\s*\}?|\\?[,~ ]\s*\(?(?:\\text\s*\{)?\s*\(?(?:in )?base[\s-]*(\w+)\)?\s*\}?\)?)"
)
_SPLIT = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")


def readings(text: str) -> tuple[typed.Value, ...]:
    """The values that a text may have; more than one only where a comma may part thousands or items."""
    first = read(text)
    if (
        not _SPLIT.search(text)
        or re.search(r"\d,0\d\d", text)
        or isinstance(first, (typed.Text, typed.Unread))
    ):
        return (first,)
    second = read(text, False)
    return (first,) if second == first or isinstance(second, (typed.Text, typed.Unread)) else (first, second)


@lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> typed.Value:
    """The value of an answer. Never raises: words become Text, what the grammar does not know becomes Unread."""
    plain = unify(text)
    if (based := _BASED.fullmatch(plain.strip().strip("$ "))) and (based[2] or based[3]):
        base = NUMBER_WORDS.get((based[2] or based[3]).lower(), based[2] or based[3])
        if str(base).isdigit():
            return typed.Base(based[1].lstrip("0") or "0", int(base))
    try:
        return value_of(parse(plain, thousands))
    except Wordy:
        return in_words(plain)
    except (SyntaxProblem, RecursionError):
        wordy = len(re.findall(r"[^\W\d_]{3,}", re.sub(r"\\[a-zA-Z]+", " ", plain))) > 2
        return in_words(plain) if wordy or words.plain(plain) == words.EMPTY else typed.Unread(plain)


def in_words(text: str) -> typed.Value:
    """Words: a number spelled out, a set by its name, or a text."""
    spelled = words.spelled(text)
    if spelled:
        value = typed.Expression(num(spelled[0]))
        return typed.Quantity(value, spelled[1]) if spelled[1] else value
    said = words.plain(text)
    if said in words.SETS:
        return making.named(said)
    return typed.Items("{}", ()) if said == words.EMPTY else typed.Text(said)


MAKERS |= {
    "bracket": making.bracket,
    "setop": making.set_operation,
    "named": lambda node: making.named(node[1]),
    "ratio": lambda node: typed.Ratio(tuple(map(value_of, node[1]))),
    "clock": lambda node: typed.Clock(node[1], node[2]),
    "cases": making.cases,
    "quantity": making.quantity,
    "base": lambda node: typed.Base(node[1].lstrip("0") or "0", node[2]),
    "about": lambda node: typed.About((value_of(node[1]),)),
    "ldots": lambda node: typed.Dots(),
    "words": lambda node: typed.Text(words.plain(node[1])),
    "list": relations.listing,
    "rel": relations.relation,
    "given": relations.given,
    "builder": relations.builder,
    "modulo": relations.modulo,
}
