"""The checker that a run is graded with: the built-in one, or the user's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self, get_args

from undo_hpc.checkers.command import PREFIX
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.grading import Checker, GradeItem
from undo_hpc.records import Grade, Verdict
from undo_hpc.system.plugins import load_object, require_call, require_methods, search_folders

GROUP = "undo_hpc.checkers"  # of entry points
_KEY = "grading.checker"


class AnswerChecker(Protocol):
    """What grades answers."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item, in their order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class OwnChecker:
    """A user's checker behind the same interface; what it returns is checked, for a wrong verdict would be trained on."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AttributeError):
            self._found.close()

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item. Raises ConfigError where the checker returns another number of them, or something else."""
        asked = list(items)
        grades = list(self._found.grade_many(asked) or ())
        if len(grades) != len(asked):
            raise ConfigError(
                f"{_KEY}: grade_many returned {len(grades)} grades for {len(asked)} items",
                hint="it returns one undo_hpc.records.Grade for each item, in their order",
            )
        for grade in grades:
            if not isinstance(grade, Grade):
                raise ConfigError(
                    f"{_KEY}: grade_many returned {grade!r}", hint="it returns undo_hpc.records.Grade objects"
                )
            if grade.verdict not in get_args(Verdict):  # it would silently count as wrong
                raise ConfigError(
                    f"{_KEY}: there is no verdict {grade.verdict!r}",
                    hint=f"verdicts are {', '.join(get_args(Verdict))}",
                )
        yield from grades


def load_checker(name: str) -> OwnChecker:
    """A user's checker: an object with `grade_many(items)`, or a class of such, made without arguments.

    Raises:
        ConfigError: it cannot be imported, made, or called.
    """
    found = load_object(name, group=GROUP, key=_KEY)
    require_methods(found, "grade_many", key=_KEY)
    if isinstance(found, type):
        found = require_call(found, key=_KEY, what=found.__name__)()
    require_call(found.grade_many, "items", key=_KEY, what="grade_many")
    return OwnChecker(found)


def checker_of(config: RunConfig, *, workers: int = 0) -> AnswerChecker:
    """The checker as configured; `workers` instead of the configured number of processes. Raises ConfigError."""
    grading = config.grading
    inner = decider_of(config, workers or grading.workers)
    if grading.judge.model:
        from undo_hpc.checkers.judge import Judge

        return Judged(inner, Judge(inner, grading.judge))
    return inner


def decider_of(config: RunConfig, workers: int) -> AnswerChecker:
    """The checker without a judge. Raises ConfigError."""
    grading = config.grading
    name = grading.checker
    if name == "exact":
        from undo_hpc.checkers.exact import ExactText

        return OwnChecker(ExactText())
    if name == "code":
        from undo_hpc.checkers.code import CodeChecker

        made = CodeChecker(deadline_s=grading.deadline_s, memory_mb=grading.memory_mb, workers=workers)
        return OwnChecker(made)
    if name.startswith(PREFIX):
        from undo_hpc.checkers.command import CommandChecker

        return OwnChecker(CommandChecker(name.removeprefix(PREFIX), deadline_s=grading.deadline_s))
    if name:
        search_folders(config.plugins)
        return load_checker(name)
    return Checker(workers=workers, deadline_s=grading.deadline_s, memory_mb=grading.memory_mb)


class Judged(OwnChecker):
    """A judge around a checker, which is opened and closed with it."""

    def __init__(self, inner: AnswerChecker, judge: Any) -> None:
        super().__init__(judge)
        self._inner = inner

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *of_error: object) -> None:
        super().__exit__(*of_error)
        self._inner.__exit__(*of_error)
