"""Right where the program in the answer passes the tests that are the ground truth. See `sandbox.py` for what it may do."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor

from undo_hpc.checkers.sandbox import TAKEN, run_python
from undo_hpc.grading import GradeItem
from undo_hpc.grading.reasoning import visible
from undo_hpc.records import Grade

log = logging.getLogger(__name__)
# Linear: no part gives back what it has read, and a fence without a line behind it is one with nothing in it.
_FENCED = re.compile(r"```[ \t]*+([\w+-]*+)[^\n]*+(?:\n|\Z)(.*?)(?:\n[ \t]*+```|\Z)", re.DOTALL)
_PASSED = "undo-hpc: all tests passed"


class CodeChecker:
    """Runs the last block of Python in an answer with the ground truth (Python that raises where a test fails) behind it.

    Args:
        deadline_s, memory_mb: bounds of one program.
        workers: programs at once.
    """

    def __init__(self, *, deadline_s: float, memory_mb: int, workers: int) -> None:
        self._deadline_s, self._memory_mb, self._workers = deadline_s, memory_mb, workers
        self._warned = False

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[Grade]:
        """A grade for each item, in their order."""
        with ThreadPoolExecutor(self._workers) as threads:
            yield from threads.map(self._grade, items)

    def _grade(self, item: GradeItem) -> Grade:
        program = last_program(visible(item.prediction))
        if program is None:
            return Grade("no_answer", "", "code")
        # The marker is printed after the tests: an answer that ends the process early has passed none of them. (One that sets out to
        # deceive can: the tests run in its own process. Look at answers before figures of programs are believed.)
        marker = f"{_PASSED} {hash((item.gold, program)) & 0xFFFFFFFF:08x}"
        done = run_python(
            f"{program}\n\n{item.gold}\nprint({marker!r})\n",
            seconds=self._deadline_s,
            megabytes=self._memory_mb,
        )
        if missing := TAKEN - done.taken:
            self._warn(missing)
        if done.code == 0 and done.output.rstrip().endswith(marker):
            return Grade("correct", program, "code")
        last = next((line for line in reversed(done.output.splitlines()) if line.strip()), "")
        why = "time limit" if done.too_long else last or f"exit code {done.code}"
        return Grade("wrong", program, "code", extra={"why": why[:200]})

    def _warn(self, missing: Set[str]) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "this system does not let us keep programs that are tested from %s of other programs of this user (docs/security.md)",
                " and ".join(sorted(missing)),
            )


def last_program(text: str) -> str | None:
    """The last block of Python in a text (of an unnamed language, where none is named); None where there is no block."""
    blocks = [(name.lower(), body) for name, body in _FENCED.findall(text) if body.strip()]
    named = [body for name, body in blocks if name in ("python", "py", "python3")]
    unnamed = [body for name, body in blocks if not name]
    return (named or unnamed or [None])[-1]
