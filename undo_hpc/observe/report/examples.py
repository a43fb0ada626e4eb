"""Examples for the report's browser: a problem, two rationales with their differences marked, and what became of it."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import pairwise, zip_longest
from operator import itemgetter
from typing import Literal, TypeVar

from markupsafe import Markup, escape

from undo_hpc.method.metrics import is_right
from undo_hpc.records import Feedback
from undo_hpc.system.wording import printable

A = TypeVar("A")
B = TypeVar("B")
Key = tuple[int, str]  # idx, problem_id
Outcome = Literal["fixed", "broken", "wrong"]
OUTCOMES: tuple[Outcome, ...] = ("fixed", "broken", "wrong")
MOST_CHARS = 6000
MOST_WORDS = 1500
_MOST_WORK = 60_000_000  # pairs of words that are looked at for two texts, a few seconds; two different pages of this project's guide take a sixth
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Example:
    """A problem seen at iteration `before` and again at `after` (None where there is only one iteration so far)."""

    before: int
    after: int | None
    outcome: Outcome
    old: Feedback
    new: Feedback | None


def choose(feedback: Mapping[int, Iterable[Feedback]], most: int) -> list[Example]:
    """At most `most` examples, shared out evenly among the pairs of iterations and their outcomes, the same ones every time.

    Problems with a changed rationale come first: they show what the method did.

    Args:
        feedback: of each iteration, in the order of (idx, problem_id); each is read twice at most, as a stream.
    """
    numbers = sorted(feedback)
    if not numbers or most < 1:
        return []
    if len(numbers) == 1:
        only = numbers[0]
        rows = (Example(only, None, "wrong", row, None) for row in feedback[only] if not is_right(row.score))
        return nsmallest(most, rows, key=_order)
    groups: list[list[Example]] = []
    for before, after in pairwise(numbers):
        kinds: dict[Outcome, _Smallest] = {name: _Smallest(most) for name in OUTCOMES}
        for old, new in join_sorted(feedback[before], feedback[after], _place, _place):
            was, now = is_right(old.score), is_right(new.score)
            if old.split == new.split and not (was and now):
                outcome: Outcome = "fixed" if now else "broken" if was else "wrong"
                kinds[outcome].add(Example(before, after, outcome, old, new))
        groups += [kinds[name].sorted() for name in OUTCOMES]
    taken = [example for row in zip_longest(*groups) for example in row if example is not None]
    return sorted(taken[:most], key=lambda e: (e.before, OUTCOMES.index(e.outcome), _order(e)))


class _Smallest:
    """The first `most` examples by `_order` of a stream."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[tuple[int, str], Example]] = []

    def add(self, example: Example) -> None:
        self._found.append((_order(example), example))
        if len(self._found) >= 2 * self._most + 100:
            self._cut()

    def _cut(self) -> None:
        self._found = sorted(self._found, key=itemgetter(0))[: self._most]

    def sorted(self) -> list[Example]:
        self._cut()
        return [example for _, example in self._found]


def join_sorted(
    one: Iterable[A], other: Iterable[B], key_of_one: Callable[[A], Key], key_of_other: Callable[[B], Key]
) -> Iterator[tuple[A, B]]:
    """The pairs of equal key of two streams that are each in the order of their keys."""
    right = iter(other)
    item = next(right, None)
    for left in one:
        key = key_of_one(left)
        while item is not None and key_of_other(item) < key:
            item = next(right, None)
        if item is None:
            return
        if key_of_other(item) == key:
            yield left, item


def _place(row: Feedback) -> tuple[int, str]:
    return row.idx, row.problem_id


def _order(example: Example) -> tuple[int, str]:
    same = example.new is not None and example.new.rationale == example.old.rationale
    return int(same or not example.old.rationale), hashlib.sha256(example.old.problem_id.encode()).hexdigest()


def shorten(text: str, most: int = MOST_CHARS) -> str:
    """A text that is not longer than a page, as it may be shown (`printable`); says how much is left out."""
    if len(text) <= most:
        return printable(text)
    return f"{printable(text[:most]).rstrip()} … ({len(text) - most:,} more characters)"


def mark_differences(old: str, new: str) -> tuple[Markup, Markup]:
    """Both texts as HTML, with what went in <del> and what came in <ins>. Escaped: a text cannot become markup."""
    a, b = _WORD.findall(old), _WORD.findall(new)
    if len(a) + len(b) > 2 * MOST_WORDS:
        a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    left: list[Markup] = []
    right: list[Markup] = []
    for tag, i1, i2, j1, j2 in _quiet(_Bounded(None, a, b, autojunk=False).get_opcodes(), a):
        gone, come = escape("".join(a[i1:i2])), escape("".join(b[j1:j2]))
        left.append(gone if tag == "equal" or not gone.strip() else Markup("<del>{}</del>").format(gone))
        right.append(come if tag == "equal" or not come.strip() else Markup("<ins>{}</ins>").format(come))
    return Markup("").join(left), Markup("").join(right)


class _Bounded(difflib.SequenceMatcher[str]):
    """Its work grows with the cube of the words where each second one differs: what is beyond `_MOST_WORK` counts as different."""

    _done = 0

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        self._done += ((ahi or 0) - alo) * ((bhi or 0) - blo)  # get_opcodes names all four
        if self._done > _MOST_WORK:
            return difflib.Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


Opcode = tuple[str, int, int, int, int]


def _quiet(opcodes: Iterable[Opcode], words: Sequence[str]) -> Iterator[Opcode]:
    """Joins neighbouring changes that only white space or a single sign keeps apart, so that marks read as phrases."""
    held: Opcode | None = None
    for code in opcodes:
        tag, i1, i2, _, j2 = code
        short = tag == "equal" and not re.search(r"\w", "".join(words[i1:i2]))
        if held is None:
            if tag == "equal":
                yield code
            else:
                held = code
        elif tag != "equal" or short:
            held = ("replace", held[1], i2, held[3], j2)
        else:
            yield held
            held = None
            yield code
    if held is not None:
        yield held
