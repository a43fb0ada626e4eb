"""One item from prediction and gold to a Grade: extraction, then the deciders. Pure but for the algebra handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from undo_hpc.grading import candidates
from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import NeedsAlgebra, OutOfBounds
from undo_hpc.grading.deciders.letter import gold_letter
from undo_hpc.grading.extract import extract_gold
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.order import Algebra, Comparison
from undo_hpc.records import Grade

MAX_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Undecided:
    """An item that only algebra can decide: what was extracted on both sides."""

    gold: str
    pred: str


def gold_of(gold: object) -> str:
    """The gold answer as text: the answer of a worked solution, or the field as it is."""
    text = gold if isinstance(gold, str) else ("" if gold is None else str(gold))
    if len(text) > candidates.MAX_TEXT:
        text = text[-candidates.MAX_TEXT :]
    return extract_gold(text) or ""


def decide(item: GradeItem, algebra: Algebra | None = None) -> Grade | Undecided:
    """Grades one item; `Undecided` where algebra is needed and none was given. Never raises, whatever the item holds.

    A fault of ours (or of the algebra) becomes the verdict `unparsed` with the method `fault` and the error's name in the row:
    one strange answer among a million must not end a run, and must not pass unseen.
    """
    try:
        return _decide(item, algebra)
    except Exception as error:  # noqa: BLE001 - reported in the row, see above
        return Grade("unparsed", "", "fault", {"error": f"{type(error).__name__}: {error}"[:200]})


def _decide(item: GradeItem, algebra: Algebra | None) -> Grade | Undecided:
    gold = gold_of(item.gold)
    text = (
        item.prediction
        if isinstance(item.prediction, str)
        else ("" if item.prediction is None else str(item.prediction))
    )
    letter, gold = _letter_wanted(gold, item)
    if letter:
        found = candidates.find_letter(text, item.choices)
        if found:
            return Grade("correct" if found.text == letter else "wrong", found.text, "letter")
        if item.kind == "letter":
            other = candidates.find(text, "text")
            return (
                Grade("wrong", _shown(other.text), "letter") if other else Grade("no_answer", "", "extract")
            )
    found = candidates.find(text, _wants(gold, item))
    if found is None or not found.text.strip():
        return Grade("no_answer", "", "extract")
    if not gold:
        return Grade("unparsed", _shown(found.text), "gold")
    return compare(gold, found.text, algebra)


def compare(gold: str, pred: str, algebra: Algebra | None) -> Grade | Undecided:
    """Grades an extracted answer against a bare gold answer."""
    comparison = Comparison(algebra)
    try:
        verdict = comparison.equal(gold, pred)
    except NeedsAlgebra:
        return Undecided(gold, pred)
    except (OutOfBounds, RecursionError) as refusal:
        return Grade("unparsed", _shown(pred), "guard", {"reason": str(refusal)[:200]})
    if verdict is None:
        return Grade("unparsed", _shown(pred), comparison.method)
    return Grade("correct" if verdict else "wrong", _shown(pred), comparison.method)


def _letter_wanted(gold: str, item: GradeItem) -> tuple[str | None, str]:
    """The letter that the gold answer is, if it is one, and the gold answer to use where the prediction gives no letter."""
    if item.kind == "letter":
        return gold_letter(gold, len(item.choices)), gold
    if item.kind != "auto" or len(gold) > 500:
        return None, gold
    bare = re.sub(r"\\(?:text|textbf|mathrm|mathbf)|[\s${}().:*]", "", gold)
    if re.fullmatch(r"[A-J]", bare):
        return bare, gold
    cleaned = re.sub(r"[\u27e6\u27e7]", "", Answer(gold).clean).strip()
    marked = re.match(
        r"\(([A-J])\)\s*(?=[A-Za-z0-9$\\-])(?!\\(?:cup|cap|times|cdot|in)|(?:and|or)\b)(.+)",
        cleaned,
        re.DOTALL,
    )
    if marked:
        return marked[1], marked[2]
    prediction = (
        item.prediction.strip() if isinstance(item.prediction, str) and len(item.prediction) < 10 else ""
    )
    if re.fullmatch(r"\(?[A-J]\)?", prediction) and re.search(r"(?:^|\n)\s*\(?[A-J]\)?\s+[A-Za-z]", gold):
        return _beginning(gold), gold
    return None, gold


def _beginning(gold: str) -> str:
    """The letter in `C Cecile`; the option line in `... the answer is\\n(C) Cecile`."""
    lines = [line for line in gold.splitlines() if line.strip()]
    if len(lines) > 1 and re.match(r"\([A-J]\)\s", lines[-1]):
        return lines[-1][1]
    match = re.match(r"([A-J])\s+[A-Za-z]", gold)
    return match[1] if match else "?"


def _wants(gold: str, item: GradeItem) -> str:
    if item.kind == "text":
        return "text"
    if item.kind in ("number", "expression"):
        return "maths"
    answer = Answer(gold)
    if len(gold) < 5000 and answer.wordy and answer.quantity is None:
        return "sentence" if len(answer.plain_words) > 3 else "text"
    return "relation" if re.search(r"[=<>]|\\(?:le|ge|leq|geq|ne|neq|in|approx)\b", gold) else "maths"


def _shown(text: str) -> str:
    """The answer as it goes to disk: bounded, and valid UTF-8."""
    text = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return text.encode("utf-8", "replace").decode("utf-8")
