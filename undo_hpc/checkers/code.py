"""Right where the program in the answer passes the tests that are the ground truth. See `sandbox.py` for what it may do."""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor

from undo_hpc.checkers.sandbox import TAKEN, run_python
from undo_hpc.grading import GradeItem
from undo_hpc.grading.reasoning import visible
from undo_hpc.records import Grade

log = logging.getLogger(__name__)
# Linear: no part gives back what it has read, and a fence without a line behind it is one with nothing in it.
_FENCED = re.compile(r"```[ \t]*+([\w+-]*+)[^\n]*+(?:\n|\Z)(.*?)(?:\n[ \t]*+```|\Z)", re.DOTALL)

_DEFINES = re.compile(r"^(?:async )?(?:def|class) ", re.MULTILINE)


class CodeChecker:
    """Runs the last block of Python in an answer with the ground truth (Python that raises where a test fails) behind it. The answer
    is a module, as it is to HumanEval's and MBPP's harnesses: what it does as `__main__` is left out; the ground truth is `__main__`.

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
        # An answer that ends the process early has passed none of the tests. (One that sets out to deceive can: they run in its own
        # process. Look at answers before figures of programs are believed.)
        done = run_python(program, item.gold, seconds=self._deadline_s, megabytes=self._memory_mb)
        self._warn(done.taken)
        if done.passed:
            return Grade("correct", program, "code")
        last = next((line for line in reversed(done.output.splitlines()) if line.strip()), "")
        why = "time limit" if done.too_long else last or f"exit code {done.code}"
        return Grade("wrong", program, "code", extra={"why": why[:200]})

    def _warn(self, taken: Set[str]) -> None:
        if self._warned:
            return
        self._warned = True
        if missing := TAKEN - taken:
            log.warning(
                "this system does not let us keep programs that are tested from %s of other programs of this user (docs/security.md)",
                " and ".join(sorted(missing)),
            )
        if "threads" in taken:
            log.warning(
                "on this system programs that are tested can start no threads and no child processes: those that do are wrong "
                "(grading.checker: code; docs/recipes.md)"
            )


def last_program(text: str) -> str | None:
    """The last block of Python in a text (of an unnamed language, where none is named) that defines something, or the last at all: behind a
    solution often stands an example of its use. None where there is no block."""
    blocks = [(name.lower(), textwrap.dedent(body)) for name, body in _FENCED.findall(text) if body.strip()]
    named = [body for name, body in blocks if name in ("python", "py", "python3")]
    unnamed = [body for name, body in blocks if not name]
    found = named or unnamed
    return next((body for body in reversed(found) if _DEFINES.search(body)), found[-1] if found else None)
