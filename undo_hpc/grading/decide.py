"""From an item to its grade: the same text, then a letter, then the extracted answer by the table of equality, last by algebra."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from undo_hpc.grading import extract, guard, letters, words
from undo_hpc.grading.equality import equal
from undo_hpc.grading.extract import extract_gold
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.reading import read, readings
from undo_hpc.grading.reasoning import MAX_TEXT
from undo_hpc.grading.tokens import prepare
from undo_hpc.grading.values import Base, Cases, Dots, Named, Ratio, Text, Value
from undo_hpc.records import Grade

MAX_SHOWN = 500
MAX_ANSWER = 5000
Algebra = Callable[[str, str], bool | None]
_PLAIN = re.compile(r"\$?\s*(-?)\s*\$?(\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.(\d{1,20}))?\s*\$?\.?")
_NOT_FOR_ALGEBRA = (Text, Base, Ratio, Cases, Named, Dots)


@dataclass(frozen=True, slots=True)
class Undecided:
    """An item that only algebra can decide: what was extracted on both sides."""

    gold: str
    pred: str


def decide(item: GradeItem, algebra: Algebra | None = None) -> Grade | Undecided:
    """Grades one item; `Undecided` where algebra is needed and none was given. Never raises, whatever the item holds.

    A fault of ours (or of the algebra) becomes the verdict `unparsed` with the method `fault` and the error's name in the row:
    one strange answer among a million must not end a run, and must not go unseen.
    """
    try:
        return _decide(item, algebra)
    except Exception as error:  # noqa: BLE001 - reported in the row, see above
        return Grade("unparsed", "", "fault", {"error": f"{type(error).__name__}: {error}"[:200]})


def gold_of(gold: object) -> str:
    """The gold answer as text: the answer of a worked solution, or the field as it is."""
    return extract_gold(_text(gold)[-MAX_TEXT:]) or ""


def _text(field: object) -> str:
    return field if isinstance(field, str) else "" if field is None else str(field)


def _decide(item: GradeItem, algebra: Algebra | None) -> Grade | Undecided:
    text, field = _text(item.prediction), _text(item.gold)
    if (
        text
        and text.strip() == field.strip()
        and len(text) < MAX_ANSWER
        and item.kind != "letter"
        and "\\boxed" not in text
    ):
        return Grade("correct", _shown(text.strip()), "same")
    gold = gold_of(field)
    letter, gold, strict = _letter_wanted(gold, item)
    if letter:
        found = letters.find_letter(text, item.choices)
        if found and (found.text != letter or not strict):
            return _boxed(
                Grade("correct" if found.text == letter else "wrong", found.text, "letter"), found.where, text
            )
        if item.kind == "letter":
            other = extract.find(text, 1)
            return (
                Grade("wrong", _shown(other.text), "letter") if other else Grade("no_answer", "", "extract")
            )
    answer = extract.find(text, _wants_words(gold, item))
    if answer is None or not answer.text.strip():
        return Grade("no_answer", "", "extract")
    if not gold:
        return Grade("unparsed", _shown(answer.text), "gold")
    pred, given = answer.text, letters.option(answer.text) if len(answer.text) < 500 else None
    if letter and strict and letters.letter_of(pred) == letter and not given:
        return _boxed(Grade("correct", letter, "letter"), answer.where, text)
    if given and (letter in (None, given[0])) and not letters.option(gold):
        said = compare(gold, given[1], algebra)
        if not (isinstance(said, Grade) and said.verdict == "wrong" and not letter):
            return _boxed(said, answer.where, text)
    said = compare(gold, pred, algebra)
    loose = answer.where in ("conclusion", "last maths", "answer is", "last number")
    if (
        loose
        and isinstance(said, Grade)
        and said.verdict != "correct"
        and "=" in pred
        and not _RELATION.search(gold)
    ):
        said = compare(gold, pred.rsplit("=", 1)[1], algebra)  # `$x^2 + y^2 = 6$` in a sentence gives 6
    return _boxed(said, answer.where, text)


def _boxed(grade: Grade | Undecided, where: str, text: str) -> Grade | Undecided:
    """The grade with the mark that its answer stood in a box."""
    return replace(grade, boxed=True) if where == "box" and isinstance(grade, Grade) else grade


def compare(gold: str, pred: str, algebra: Algebra | None = None) -> Grade | Undecided:
    """Grades an extracted answer against a bare gold answer."""
    if same(gold, pred):
        return Grade("correct", _shown(pred), "same")
    if len(gold) > MAX_ANSWER or len(pred) > MAX_ANSWER:
        return Grade(
            "unparsed", _shown(pred), "guard", {"reason": f"an answer of more than {MAX_ANSWER} characters"}
        )
    numbers = _number(gold), _number(pred)
    if numbers[0] is not None and numbers[1] is not None:
        return Grade("correct" if numbers[0] == numbers[1] else "wrong", _shown(pred), "number")
    pairs = [(a, b) for a in readings(gold) for b in readings(pred)]
    said = [equal(a, b) for a, b in pairs]
    method = type(pairs[0][0]).__name__.lower()
    if True in said or _same_words(gold, pred, *pairs[0]) or letters.several(gold, pred):
        return Grade("correct", _shown(pred), method)
    if None not in said:
        return Grade("wrong", _shown(pred), method)
    a, b = pairs[said.index(None)]
    if isinstance(a, _NOT_FOR_ALGEBRA) or isinstance(b, _NOT_FOR_ALGEBRA):
        return Grade("unparsed", _shown(pred), "unread")
    return _by_algebra(gold, pred, algebra)


def _by_algebra(gold: str, pred: str, algebra: Algebra | None) -> Grade | Undecided:
    left, right = (prepare(unify(text)) for text in (gold, pred))
    try:
        guard.check(left)
        guard.check(right)
    except guard.OutOfBounds as refusal:
        return Grade("unparsed", _shown(pred), "guard", {"reason": str(refusal)[:200]})
    sides = [
        re.split(r"[=<>]|\\(?:le|ge|ne|leq|geq|neq)\b", "".join(text.split()), maxsplit=1)
        for text in (left, right)
    ]
    if all(len(side) > 1 for side in sides) and sides[0][0] != sides[1][0]:
        return Grade("unparsed", _shown(pred), "unread")  # math-verify would compare the right sides only
    if algebra is None:
        return Undecided(gold, pred)
    said = algebra(left, right)
    return Grade("unparsed" if said is None else "correct" if said else "wrong", _shown(pred), "algebra")


def same(a: str, b: str) -> bool:
    """Whether two answers are written the same, but for white space and delimiters."""
    if a.strip() == b.strip():
        return True
    left, right = (
        "".join(_SEPARATE.sub("~", text).split()).strip("$.") for text in (a[:MAX_ANSWER], b[:MAX_ANSWER])
    )
    return left == right and bool(left) and len(a) <= MAX_ANSWER and len(b) <= MAX_ANSWER


_RELATION = re.compile(r"[=<>]|\\(?:le|ge|leq|geq|ne|neq|in|approx)\b")
_SEPARATE = re.compile(r"(?<=[0-9A-Za-z])\s+(?=[0-9A-Za-z])")


def _number(text: str) -> Fraction | None:
    """A plain decimal number, the commonest answer, without the grammar."""
    match = _PLAIN.fullmatch(text.strip()) if len(text) < 64 else None
    if not match or text.count("$") % 2:
        return None
    value = Fraction((match[2].replace(",", "")) + ("." + match[3] if match[3] else ""))
    return -value if match[1] else value


def _same_words(gold: str, pred: str, a: Value, b: Value) -> bool:
    """Words on one side that the other side wrote so that they look like mathematics: `\\text{odd}` and `odd`."""
    if isinstance(a, Text) is isinstance(b, Text):
        return False
    said = words.plain(unify(gold))
    return len(said) > 1 and said == words.plain(unify(pred)) and not re.search(r"\d", said)


def _letter_wanted(gold: str, item: GradeItem) -> tuple[str | None, str, bool]:
    """(the letter that the gold answer is, the gold value to use otherwise, whether a value with the letter has to agree)."""
    if item.kind == "letter":
        return letters.gold_letter(gold, len(item.choices)), gold, False
    if item.kind != "auto" or len(gold) > 500:
        return None, gold, False
    plain = letters.bare(gold)
    if re.fullmatch(r"\(?\s*[A-J]\s*\)?[.:]?", plain):
        return plain.strip(" ().:"), gold, False
    given = letters.option(gold)
    if given:
        return given[0], given[1], True
    text = item.prediction.strip() if isinstance(item.prediction, str) and len(item.prediction) < 10 else ""
    if re.fullmatch(r"\(?[A-J]\)?", text) and re.search(r"(?:^|\n)\s*\(?[A-J]\)?\s+[A-Za-z]", gold):
        return letters.gold_letter(gold, 0) or "?", gold, False
    return None, gold, False


def _wants_words(gold: str, item: GradeItem) -> int:
    """How many words the gold answer has; 0 where it is mathematics."""
    if item.kind not in ("auto", "text") or _number(gold) is not None or len(gold) > MAX_ANSWER:
        return 0
    value = read(gold)
    said = value.words if isinstance(value, Text) else words.EMPTY if value == read(words.EMPTY) else ""
    return len(said.split()) or int(item.kind == "text")


def _shown(text: str) -> str:
    """The answer as it goes to disk: bounded, and valid UTF-8."""
    text = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return text.encode("utf-8", "replace").decode("utf-8")
