"""A checker that is a command of the user's, in any language: JSON lines in, JSON lines out."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any, cast, get_args

import orjson

from undo_hpc.errors import ConfigError
from undo_hpc.grading import GradeItem
from undo_hpc.records import Grade, Verdict
from undo_hpc.system.unheard import unheard

PREFIX = "command:"
_KEY = "grading.checker"
_START_S = 60.0  # beside the deadline of each answer


class CommandChecker:
    """Starts the command once for a group of answers.

    It reads a line for each, {"prediction", "gold", "kind", "options"}, and writes a line for each in the same order: {"verdict":
    "correct" | "wrong" | "no_answer" | "unparsed" | "timeout"} or {"correct": true}, with "answer" where it found one.

    Args:
        words: the command line; no shell is asked.
        deadline_s: seconds for one answer.
    """

    def __init__(self, words: str, *, deadline_s: float) -> None:
        self._command, self._deadline_s = shlex.split(words), deadline_s
        if not self._command:
            raise ConfigError(
                f"{_KEY}: no command behind '{PREFIX}'", hint=f"{_KEY}: '{PREFIX} python /path/check.py'"
            )

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item. Raises ConfigError where the command fails or answers something else."""
        asked = list(items)
        if not asked:
            return
        lines = [
            {"prediction": i.prediction, "gold": i.gold, "kind": i.kind, "options": list(i.choices)}
            for i in asked
        ]
        try:
            code, out, err = self._answers(
                b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines), len(asked)
            )
        except OSError as error:
            raise self._wrong(f"cannot be started: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise self._wrong(
                f"took more than {error.timeout:.0f} s for {len(asked)} answers (grading.deadline_s)"
            ) from error
        if code:
            said = err.decode(errors="replace").strip().splitlines()[-3:]
            raise self._wrong(f"ended with exit code {code}: {' | '.join(said)}")
        rows = out.splitlines()
        if len(rows) != len(asked):
            raise self._wrong(f"wrote {len(rows)} lines for {len(asked)} answers")
        yield from (self._grade(row) for row in rows)

    def _answers(self, lines: bytes, count: int) -> tuple[int, bytes, bytes]:
        """Its exit code and what it wrote. Raises OSError and subprocess.TimeoutExpired."""
        with unheard():
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        with process:
            try:
                out, err = process.communicate(lines, _START_S + self._deadline_s * count)
            except BaseException:
                process.kill()
                raise
        return process.returncode, out, err

    def _grade(self, row: bytes) -> Grade:
        try:
            found: Any = orjson.loads(row)
            verdict = (
                found.get("verdict") or {True: "correct", False: "wrong"}[found["correct"]]
            )  # "no" is none
            if verdict not in get_args(Verdict):
                raise ValueError(verdict)
            return Grade(cast(Verdict, verdict), str(found.get("answer", "")), "command")
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._wrong(f"wrote {row[:200]!r}, which is no verdict") from error

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(
            f"{_KEY}: `{shlex.join(self._command)}` {what}",
            hint="it reads and writes a JSON object a line; see docs/recipes.md",
        )
