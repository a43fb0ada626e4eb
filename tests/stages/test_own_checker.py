"""What a checker of the user's returns is checked: a verdict that is none would count as wrong, and be trained on."""

from __future__ import annotations

from typing import Any

import pytest

from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks.settings import check_plugins
from undo_hpc.errors import ConfigError
from undo_hpc.grading import GradeItem
from undo_hpc.records import Grade
from undo_hpc.stages.checker import OwnChecker

ITEMS = [GradeItem("4", "4"), GradeItem("5", "4")]
RIGHT = Grade("correct", "4", "mine")


class Fake:
    """Returns what it is told."""

    def __init__(self, grades: Any) -> None:
        self._grades = grades

    def grade_many(self, items: Any) -> Any:
        return self._grades


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        (None, "returned 0 grades for 2 items"),
        ([RIGHT], "returned 1 grades for 2 items"),
        ([RIGHT, True], "returned True"),
        ([RIGHT, Grade("perfect", "5", "mine")], "there is no verdict 'perfect'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_verdict_is_refused(grades: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"grading.checker: .*{said}") as error:
        list(OwnChecker(Fake(grades)).grade_many(ITEMS))
    assert error.value.hint


def test_grades_are_passed_on() -> None:
    grades = [RIGHT, Grade("no_answer", "", "mine")]
    assert list(OwnChecker(Fake(iter(grades))).grade_many(ITEMS)) == grades


@pytest.mark.parametrize("name", ["", "exact", "code", "command: python /a/check.py"])
def test_a_run_starts_with_each_checker_that_needs_no_code(name: str) -> None:
    check_plugins(override(RunConfig(), [f"grading.checker='{name}'"]))


@pytest.mark.parametrize("name", ["exactly", "command:", "no_such_package:Checker"])
def test_no_run_starts_with_a_checker_that_there_is_not(name: str) -> None:
    with pytest.raises(ConfigError, match=r"grading\.checker"):
        check_plugins(override(RunConfig(), [f"grading.checker='{name}'"]))
