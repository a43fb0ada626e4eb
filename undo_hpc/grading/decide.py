"""From an item to its grade: the same text, then a letter, then the extracted answer by the table of equality, last by algebra."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from undo_hpc.grading import algebra as cas
from undo_hpc.grading import extract, letters, words
from undo_hpc.grading import values as typed
from undo_hpc.grading.equality import equal
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.reasoning import MAX_TEXT
from undo_hpc.grading.relations import read, readings
from undo_hpc.grading.tokens import prepare
from undo_hpc.records import Grade, Verdict

MAX_SHOWN, MAX_ANSWER = 500, 5000
Algebra = Callable[[str, str], bool | None]
_PLAIN = re.compile(r"\$?\s*(-?)\s*\$?(\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.(\d{1,20}))?\s*\$?\.?")
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|leq|geq|ne|neq|in|approx)\b")
_SEPARATE = re.compile(r"(?<=[0-9A-Za-z])\s+(?=[0-9A-Za-z])")
_NOT_FOR_ALGEBRA = (typed.Text, typed.Ratio, typed.Clock, typed.Cases, typed.Named)
_WITH_NAMES = (typed.Solutions, typed.Relation, typed.Region)
_LOOSE = ("conclusion", "last maths", "answer is", "last number")


class Undecided(NamedTuple):
    """An item that only algebra can decide: what was extracted on both sides."""

    gold: str
    pred: str


def decide(item: GradeItem, algebra: Algebra | None = None) -> Grade | Undecided:
    """Grades one item; `Undecided` where algebra is needed and none was given. Never raises, whatever the item holds.

    A fault of ours (or of the algebra) becomes the verdict `unparsed` with the method `fault` and the error's name in the row:
    one strange answer among a million must not end a run, and must not go unseen.
    """
    text, field = ("" if side is None else str(side) for side in (item.prediction, item.gold))
    try:
        found, where = _decide(text, field, item, algebra)
    except Exception as error:  # noqa: BLE001 - reported in the row, see above
        return Grade("unparsed", "", "fault", {"error": f"{type(error).__name__}: {error}"[:200]})
    return replace(found, boxed=where == "box") if isinstance(found, Grade) else found


def _decide(text: str, field: str, item: GradeItem, algebra: Algebra | None) -> tuple[Grade | Undecided, str]:
    """The grade, and where the answer stood."""
    as_written = item.kind != "letter" and "\\boxed" not in text and len(text) < MAX_ANSWER
    if as_written and text and text.strip() == field.strip():
        return _graded("correct", text.strip(), "same"), ""
    gold = extract.extract_gold(field[-MAX_TEXT:]) or ""
    letter, gold, strict = _letter_wanted(gold, item, text)
    if letter:
        found = letters.find_letter(text, item.choices)
        if found and (found.text != letter or not strict):
            return _graded("correct" if found.text == letter else "wrong", found.text, "letter"), found.where
        if item.kind == "letter":
            other = extract.find(text, 1)
            none = _graded("no_answer", "", "extract")
            return _graded("wrong", other.text, "letter") if other else none, ""
    answer = extract.find(text, _wants_words(gold, item))
    if answer is None or not answer.text.strip():
        return _graded("no_answer", "", "extract"), ""
    pred, where = answer
    if not gold:
        return _graded("unparsed", pred, "gold"), ""
    given = letters.option(pred) if len(pred) < 500 else None
    if letter and strict and not given and letters.letter_of(pred) == letter:
        return _graded("correct", letter, "letter"), where
    verdict = compare(gold, pred, algebra)
    if given and letter in (None, given[0]):  # a value with the letter of its option
        value = compare(gold, given[1], algebra)
        verdict = value if letter or (isinstance(value, Grade) and value.correct) else verdict
    different = isinstance(verdict, Grade) and not verdict.correct
    if where in _LOOSE and different and "=" in pred and not _RELATION.search(gold):
        verdict = compare(gold, pred.rsplit("=", 1)[1], algebra)  # `$x^2 + y^2 = 6$` in a sentence gives 6
    return verdict, where


def _graded(verdict: Verdict, answer: str, method: str, reason: str = "") -> Grade:
    """A grade whose answer is bounded and valid UTF-8, as it goes to disk."""
    shown = answer if len(answer) <= MAX_SHOWN else answer[:MAX_SHOWN] + "..."
    shown = shown.encode("utf-8", "replace").decode("utf-8")
    return Grade(verdict, shown, method, {"reason": reason[:200]} if reason else {})


def compare(gold: str, pred: str, algebra: Algebra | None = None) -> Grade | Undecided:
    """Grades an extracted answer against a bare gold answer."""
    if same(gold, pred):
        return _graded("correct", pred, "same")
    if len(gold) > MAX_ANSWER or len(pred) > MAX_ANSWER:
        return _graded("unparsed", pred, "guard", "a long answer")
    numbers = _number(gold), _number(pred)
    if None not in numbers:
        return _graded("correct" if numbers[0] == numbers[1] else "wrong", pred, "number")
    both = product(enumerate(readings(gold)), enumerate(readings(pred)))
    pairs = [(a, b) for (i, a), (j, b) in both if not (i and _is_tuple(b)) and not (j and _is_tuple(a))]
    said = [equal(a, b) for a, b in pairs]
    method = type(pairs[0][0]).__name__.lower()
    if True in said or _same_words(gold, pred, *pairs[0]) or letters.several(gold, pred):
        return _graded("correct", pred, method)
    if None not in said:
        return _graded("wrong", pred, method)
    pair = pairs[said.index(None)]
    several = any(isinstance(value, typed.Items) and len(value.items) > 1 for value in pair)
    if several or any(isinstance(value, _NOT_FOR_ALGEBRA) for value in pair):
        return _graded("unparsed", pred, "unread")
    left, right = (prepare(unify(text)) for text in (gold, pred))
    try:
        cas.check(left)
        cas.check(right)
    except cas.OutOfBounds as refusal:
        return _graded("unparsed", pred, "guard", str(refusal))
    sides = [re.split(r"[=<>]|\\[lgn]eq?\b", "".join(text.split())) for text in (left, right)]
    named = typed.Unread in map(type, pair) and any(isinstance(value, _WITH_NAMES) for value in pair)
    lefts = [side[:-1] if named else side[:1] for side in sides]
    if (named or min(map(len, sides)) > 1) and lefts[0] != lefts[1]:
        return _graded(
            "unparsed", pred, "unread"
        )  # math-verify would compare the right sides only, in any order
    if algebra is None:
        return Undecided(gold, pred)
    found = algebra(left, right)
    return _graded("unparsed" if found is None else "correct" if found else "wrong", pred, "algebra")


def _is_tuple(value: typed.Value) -> bool:
    """Whether this is a tuple or a matrix: digits and commas without brackets are a number or a list, but no tuple."""
    return isinstance(value, typed.Items) and value.brackets not in ("", "{}")


def same(a: str, b: str) -> bool:
    """Whether two answers are written the same, but for white space and delimiters."""
    left, right = ("".join(_SEPARATE.sub("~", text).split()).strip("$") for text in (a, b))
    left, right = (text if text.endswith("...") else text.strip("$").rstrip("$.") for text in (left, right))
    return a.strip() == b.strip() or (left == right and bool(left))


def _number(text: str) -> Fraction | None:
    """A plain decimal number, the commonest answer, without the grammar."""
    match = _PLAIN.fullmatch(text.strip()) if len(text) < 64 and text.count("$") % 2 == 0 else None
    return Fraction(f"{match[1]}{match[2].replace(',', '')}.{match[3] or '0'}") if match else None


def _same_words(gold: str, pred: str, a: typed.Value, b: typed.Value) -> bool:
    """Words on one side that the other side wrote so that they look like mathematics: `\\text{odd}` and `odd`."""
    said = words.plain(unify(gold)) if isinstance(a, typed.Text) is not isinstance(b, typed.Text) else ""
    return len(said) > 1 and said == words.plain(unify(pred)) and not re.search(r"\d", said)


def _letter_wanted(gold: str, item: GradeItem, text: str) -> tuple[str | None, str, bool]:
    """(the letter that the gold answer is, the gold value to use otherwise, whether a value with the letter has to agree)."""
    if item.kind == "letter":
        return letters.gold_letter(gold, len(item.choices)), gold, False
    if item.kind != "auto" or len(gold) > 500:
        return None, gold, False
    plain = letters.bare(gold)
    if re.fullmatch(r"\(?\s*[A-J]\s*\)?[.:]?", plain):
        return plain.strip(" ().:"), gold, False
    if given := letters.option(gold):
        return given[0], given[1], True
    named = re.search(r"(?:^|\n)\s*\(?[A-J]\)?\s+(?!(?:and|or)\b)[A-Za-z]", gold)
    if named and re.fullmatch(r"\s*\(?[A-J]\)?\s*", text[:10]):
        return letters.gold_letter(gold, 0) or "?", gold, False
    return None, gold, False


def _wants_words(gold: str, item: GradeItem) -> int:
    """How many words the gold answer has; 0 where it is mathematics."""
    if item.kind not in ("auto", "text") or _number(gold) is not None or len(gold) > MAX_ANSWER:
        return 0
    value = read(gold)
    empty = words.EMPTY if value == typed.Items("{}", ()) else ""
    said = value.words if isinstance(value, typed.Text) else empty
    return len(said.split()) or int(item.kind == "text")
