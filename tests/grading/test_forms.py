"""Pairs of answers by kind, bare and in a box, in both directions; whole outputs; what the grade tells of the box."""

from __future__ import annotations

import pytest

from tests.grading.forms import FORMS
from tests.grading.outputs import TEXTS
from undo_hpc.grading import CHECKER_VERSION, Checker, GradeItem
from undo_hpc.grading.decide import compare
from undo_hpc.records import Grade

LETTERED = "letters with values"


@pytest.mark.parametrize(("kind", "gold", "prediction", "equal"), FORMS)
def test_pairs(checker: Checker, kind: str, gold: str, prediction: str, equal: bool) -> None:
    bare = checker.grade(GradeItem(prediction, gold))
    boxed = checker.grade(GradeItem(f"We find \\boxed{{{prediction}}}.", gold))
    assert (bare.correct, boxed.correct) == (equal, equal), (bare, boxed)


@pytest.mark.parametrize(
    ("kind", "gold", "prediction", "equal"), [form for form in FORMS if form[0] != LETTERED]
)
def test_pairs_the_other_way_round(kind: str, gold: str, prediction: str, equal: bool) -> None:
    found = compare(prediction, gold)
    assert not isinstance(found, Grade) or found.correct is equal, found


@pytest.mark.parametrize(("kind", "gold", "prediction", "equal"), TEXTS)
def test_outputs(checker: Checker, kind: str, gold: str, prediction: str, equal: bool) -> None:
    assert checker.grade(GradeItem(prediction, gold)).correct is equal


def test_the_grade_tells_whether_the_answer_was_boxed(checker: Checker) -> None:
    assert checker.grade(GradeItem("so \\boxed{7}", "7")).boxed
    assert checker.grade(GradeItem("\\boxed{B}", "B")).boxed
    assert not checker.grade(GradeItem("The answer is 7.", "7")).boxed
    assert not checker.grade(GradeItem("7", "7")).boxed
    assert Grade.from_dict({"verdict": "correct"}) == Grade("correct")  # rows of before


def test_the_version_is_a_text() -> None:
    assert isinstance(CHECKER_VERSION, str) and CHECKER_VERSION
