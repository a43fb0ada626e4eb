r"""How a student failed: the first step that is false, or why no step is. Pure text and exact arithmetic, no model.

How each kind is told, in this order:

- `truncated`: the completion was cut off by the token limit (`finish_reason` is `length`) before a final answer stood there.
- `format`: the right value is there, but not as the answer that was taken: the verdict is `unparsed` or `timeout` (an answer stands
  there, and the checker could not read it); or there is no answer in the form that was asked for, yet the gold value stands in the text;
  or the box holds the gold number among other signs; or every equation holds, the last one gives the gold value, and another
  value was boxed.
- `no_answer`: nothing that could be an answer.
- `arithmetic`: an equation in the student's text is false (`equations.py` says which are judged). The first false one is the failed step.
- `setup`: every equation that could be judged holds, and the answer is wrong all the same: the wrong quantities or operations. Where a
  right rationale is given, the first of the student's equations that the rationale does not have is the failed step.

What this cannot see: a slip in words or algebra counts as `setup`, and so does a wrong choice among options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from undo_hpc.grading.extract import after_hashes, last_boxed
from undo_hpc.method.equations import Equation, equations, number, numbers, show
from undo_hpc.records import Attempt, FinishReason, Verdict, normalise_text

ErrorKind = Literal["arithmetic", "setup", "no_answer", "truncated", "format"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """An error: its kind, a sentence for people, and where the failed step stands.

    `start` and `end` (exclusive) count characters of the student's text; both are 0 where no step can be pointed at.
    """

    kind: ErrorKind
    detail: str
    start: int = 0
    end: int = 0


def diagnose(
    prediction_text: str, gold: str, verdict: Verdict, finish_reason: FinishReason, rationale: str = ""
) -> Diagnosis:
    """Says how a wrong answer came about; the module's docstring says how it is told.

    Args:
        prediction_text: the student's completion.
        gold: the ground truth.
        verdict: the checker's word on it; not `correct`.
        finish_reason: why the completion ended.
        rationale: a right solution, where one is known.

    Raises:
        ValueError: the verdict is `correct`.
    """
    if verdict == "correct":
        raise ValueError("a right answer has no error to diagnose")
    steps = equations(prediction_text)
    slip = next((step for step in steps if not step.holds), None)
    answer = last_boxed(prediction_text) or after_hashes(prediction_text)
    if finish_reason == "length" and not answer:
        return _with(slip, prediction_text, "truncated", "the completion was cut off before an answer")
    if not prediction_text.strip():
        return Diagnosis("no_answer", "the completion is empty")
    if verdict in ("unparsed", "timeout") and answer:
        return Diagnosis(
            "format", f"the answer could not be read: {answer[:80]}", *_answer_span(prediction_text)
        )
    if not answer and _stands(gold, prediction_text, steps, anywhere=verdict != "wrong"):
        return Diagnosis("format", f"the right value {gold[:40]} stands in the text, but not as its answer")
    if verdict != "wrong":
        return _with(slip, prediction_text, "no_answer", "there is no final answer")
    if slip:
        return Diagnosis("arithmetic", _slip_text(slip, prediction_text), slip.start, slip.end)
    if answer and (reason := _misreported(answer, gold, steps)):
        return Diagnosis("format", reason, *_answer_span(prediction_text))
    return _setup(prediction_text, steps, gold, rationale)


def error_kind(answer: Attempt, gold: str) -> ErrorKind:
    """The kind of a wrong answer alone, as `diagnose` tells it. (No rationale changes the kind.)"""
    return diagnose(answer.text, gold, answer.verdict, answer.finish_reason).kind


def failed_step(attempt: str, rationale: str = "") -> str:
    """The first step of a wrong attempt that fails, as it stands there, found WITHOUT the ground truth; empty where none is found.

    A false equation is found by arithmetic. Where all hold, it is the first step that the teacher's own rationale does not have.

    Args:
        attempt: the student's completion, which is wrong.
        rationale: what the student learned from, where there is something.
    """
    steps = equations(attempt)
    found = next((step for step in steps if not step.holds), None)
    if found is None and (known := {_key(step) for step in _outermost(equations(rationale))}):
        found = next((step for step in _outermost(steps) if _key(step) not in known), None)
    return re.sub(r"\s+", " ", attempt[found.start : found.end]).strip() if found else ""


def _with(slip: Equation | None, text: str, kind: ErrorKind, detail: str) -> Diagnosis:
    if slip is None:
        return Diagnosis(kind, detail)
    return Diagnosis(kind, f"{detail}; {_slip_text(slip, text)}", slip.start, slip.end)


def _slip_text(slip: Equation, text: str) -> str:
    claim = re.sub(r"\s+", " ", text[slip.start : slip.end])
    return f"false equation: {claim[:80]} (the left side is {show(slip.left)})"


def _answer_span(text: str) -> tuple[int, int]:
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"), text.rfind("####"))
    return (start, len(text)) if start >= 0 else (0, 0)


def _stands(gold: str, text: str, steps: list[Equation], *, anywhere: bool) -> bool:
    """Whether the gold value stands in the text: as a result of a true equation, or (anywhere) as a number or words."""
    value = number(gold)
    if value is not None:
        results = [step.right for step in steps if step.holds]
        return value in results or (anywhere and abs(value) in numbers(text)[-1:])
    plain = normalise_text(gold)
    return anywhere and len(plain) > 1 and plain in normalise_text(text)


def _misreported(answer: str, gold: str, steps: list[Equation]) -> str:
    value = number(gold)
    if value is None:
        return ""
    found = numbers(answer)
    if number(answer) is None and found == [abs(value)]:
        return f"the right number stands in the answer among other signs: {answer[:80]}"
    if steps and steps[-1].right == value and number(answer) not in (None, value):
        return f"the last equation gives {gold}, the answer says {answer[:80]}"
    return ""


def _setup(text: str, steps: list[Equation], gold: str, rationale: str) -> Diagnosis:
    if not steps:
        return Diagnosis("setup", "no equation that could be judged is false; the answer is wrong")
    known = {_key(step) for step in _outermost(equations(rationale))}
    steps = _outermost(steps)
    departs = next((step for step in steps if _key(step) not in known), None) if known else None
    if departs:
        claim = re.sub(r"\s+", " ", text[departs.start : departs.end])
        return Diagnosis(
            "setup", f"true, but no step of the right solution: {claim[:80]}", departs.start, departs.end
        )
    last = steps[-1]
    if known and len(steps) < len(known):
        return Diagnosis(
            "setup",
            f"stops after {len(steps)} of {len(known)} steps of the right solution",
            last.start,
            last.end,
        )
    value = number(gold)
    passed = next((step for step in steps if step.right == value), None)
    if passed and passed is not steps[-1]:
        following = steps[steps.index(passed) + 1]
        return Diagnosis("setup", f"goes on past the right value {gold}", following.start, following.end)
    return Diagnosis("setup", f"all {len(steps)} equations hold; the answer is wrong", last.start, last.end)


def _key(step: Equation) -> tuple[Fraction, Fraction]:
    return step.left, step.right


def _outermost(steps: list[Equation]) -> list[Equation]:
    """The steps without those that stand in the working of another."""
    kept: list[Equation] = []
    for step in steps:  # in the order of their ends, so what a step encloses comes right before it
        while kept and kept[-1].start > step.start:
            kept.pop()
        kept.append(step)
    return kept
