"""From the text of an answer to its typed value: text -> node (`grammar`) -> value (`making`, `relations`)."""

from __future__ import annotations

import re
from functools import lru_cache

from undo_hpc.grading import relations, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.grammar import parse
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.making import named, value_of
from undo_hpc.grading.tables import NUMBER_WORDS
from undo_hpc.grading.tokens import SyntaxProblem, Wordy

_BASED = re.compile(r"\(?([0-9A-F]+)\)?\s*(?:_\s*\{?\s*(\d{1,2})\s*\}?|\\?[,~ ]\s*\(?(?:\\text\s*\{)?\s*\(?(?:in )?base[\s-]*(\w+)\)?\s*\}?\)?)")  # fmt: skip
_SPLIT = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_WORDS = (typed.Text, typed.Unread)
assert relations.MAKERS  # imported for its makers


def readings(text: str) -> tuple[typed.Value, ...]:
    """The values that a text may have; more than one only where a comma may part thousands or items."""
    first = read(text)
    if not _SPLIT.search(text) or re.search(r"\d,0\d\d", text) or isinstance(first, _WORDS):
        return (first,)
    second = read(text, False)
    return (first,) if second == first or isinstance(second, _WORDS) else (first, second)


@lru_cache(maxsize=8192)
def read(text: str, thousands: bool = True) -> typed.Value:
    """The value of an answer. Never raises: words become Text, what the grammar does not know becomes Unread."""
    plain = unify(text)
    if (based := _BASED.fullmatch(plain.strip().strip("$ "))) and (based[2] or based[3]):
        base = NUMBER_WORDS.get((based[2] or based[3]).lower(), based[2] or based[3])
        if str(base).isdigit():
            return value_of(("base", based[1], int(base)))
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
