"""Examples for the report's browser: a problem, two rationales with their differences marked, and what became of it."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Literal

from markupsafe import Markup, escape

from undo_hpc.records import Feedback

Outcome = Literal["fixed", "broken", "wrong"]
OUTCOMES: tuple[Outcome, ...] = ("fixed", "broken", "wrong")
MOST_CHARS = 6000
MOST_WORDS = 1500
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Example:
    """A problem seen at iteration `before` and again at `after` (None where there is only one iteration so far)."""

    before: int
    after: int | None
    outcome: Outcome
    old: Feedback
    new: Feedback | None


def choose(feedback: dict[int, list[Feedback]], most: int) -> list[Example]:
    """At most `most` examples, shared out evenly among the pairs of iterations and their outcomes, the same ones every time.

    Problems with a changed rationale come first: they show what the method did.
    """
    numbers = sorted(feedback)
    if not numbers or most < 1:
        return []
    if len(numbers) == 1:
        only = numbers[0]
        rows = [Example(only, None, "wrong", row, None) for row in feedback[only] if row.verdict != "correct"]
        return sorted(rows, key=lambda e: _order(e))[:most]
    groups: list[list[Example]] = []
    for before, after in pairwise(numbers):
        later = {(row.split, row.problem_id): row for row in feedback[after]}
        kinds: dict[Outcome, list[Example]] = {name: [] for name in OUTCOMES}
        for old in feedback[before]:
            new = later.get((old.split, old.problem_id))
            if new is None:
                continue
            was, now = old.verdict == "correct", new.verdict == "correct"
            if was and now:
                continue
            outcome: Outcome = "fixed" if now else "broken" if was else "wrong"
            kinds[outcome].append(Example(before, after, outcome, old, new))
        groups += [sorted(kinds[name], key=_order) for name in OUTCOMES]
    taken = [example for row in zip_longest(*groups) for example in row if example is not None]
    return sorted(taken[:most], key=lambda e: (e.before, OUTCOMES.index(e.outcome), _order(e)))


def _order(example: Example) -> tuple[int, str]:
    same = example.new is not None and example.new.rationale == example.old.rationale
    return int(same or not example.old.rationale), hashlib.sha256(example.old.problem_id.encode()).hexdigest()


def shorten(text: str, most: int = MOST_CHARS) -> str:
    """A text that is not longer than a page; says how much is left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} … ({len(text) - most:,} more characters)"


def mark_differences(old: str, new: str) -> tuple[Markup, Markup]:
    """Both texts as HTML, with what went in <del> and what came in <ins>. Escaped: a text cannot become markup."""
    a, b = _WORD.findall(old), _WORD.findall(new)
    if len(a) + len(b) > 2 * MOST_WORDS:
        a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    left: list[Markup] = []
    right: list[Markup] = []
    for tag, i1, i2, j1, j2 in _quiet(difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes(), a):
        gone, come = escape("".join(a[i1:i2])), escape("".join(b[j1:j2]))
        left.append(gone if tag == "equal" or not gone.strip() else Markup("<del>{}</del>").format(gone))
        right.append(come if tag == "equal" or not come.strip() else Markup("<ins>{}</ins>").format(come))
    return Markup("").join(left), Markup("").join(right)


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
