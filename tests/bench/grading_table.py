"""`make bench-grading`: accuracy by category against math-verify as its documentation calls it, and every disagreement with a reason.

Reads the shared labelled cases where they are, and our own ones anywhere. Writes build/grading.md (the table, for the README) and
build/grading-disagreements.md.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import shared_data_dir
from tests.grading.own_cases import CASES
from undo_hpc.grading import Checker, GradeItem
from undo_hpc.records import Grade

HANG_SECONDS = 30.0
OUT = Path("build")


@dataclass(frozen=True)
class Case:
    """A labelled pair."""

    id: str
    origin: str
    category: str
    gold: str
    pred: str
    equal: bool
    bare: bool = False  # the prediction is an answer alone, not a text around one


def cases() -> Iterator[Case]:
    """The undisputed shared cases, then our own."""
    folder = shared_data_dir()
    path = folder / "grading" / "cases.jsonl" if folder else None
    if path and path.is_file():
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if not row["disputed"]:
                origin = (
                    "hard cases"
                    if row["origin"] == "own"
                    else "MATH-500 outputs"
                    if row["id"].startswith("m500")
                    else "peers' cases"
                )
                yield Case(
                    row["id"],
                    origin,
                    row["category"],
                    row["gold"],
                    row["pred"],
                    row["is_equal"],
                    row["kind"] == "pair",
                )
    for i, (category, gold, pred, equal) in enumerate(CASES):
        yield Case(f"ours-{i:03}", "our cases", category, gold, pred, equal)


def documented(prediction: str, gold: str, bare: bool = False) -> bool:
    """math-verify as its documentation calls it: LaTeX in an environment, letters by StringExtractionConfig, verify(gold, answer)."""
    from math_verify import StringExtractionConfig, parse, verify

    letter = gold.strip().strip("()$ ")
    if len(letter) == 1 and letter in "ABCDEFGHIJ":
        config = [StringExtractionConfig(strings=tuple("ABCDEFGHIJ"))]
        return bool(verify(parse(letter, config), parse(prediction, config)))
    return bool(
        verify(parse(_in_environment(gold)), parse(_in_environment(prediction) if bare else prediction))
    )


def _in_environment(text: str) -> str:
    """The parser looks for LaTeX between dollars (or the like) only, so a bare answer is put there."""
    return (
        text
        if any(mark in text.replace("\\$", "") for mark in ("$", "\\(", "\\[", "\\boxed", "####"))
        else f"${text}$"
    )


def _serve(connection: Any) -> None:
    while True:
        prediction, gold, bare = connection.recv()
        try:
            connection.send(documented(prediction, gold, bare))
        except Exception as error:  # noqa: BLE001 - a crash of the reference is a verdict of its own
            connection.send(f"raised {type(error).__name__}")


class Reference:
    """math-verify in a process of its own, so that a hang of it is counted and not suffered."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def grade(self, prediction: str, gold: str, bare: bool = False) -> tuple[bool, str]:
        """Its verdict, and what went wrong (nothing, 'hangs', 'raised ...')."""
        self._ours.send((prediction, gold, bare))
        if not self._ours.poll(HANG_SECONDS):
            self.close()
            self._start()
            return False, "hangs"
        try:
            said = self._ours.recv()
        except EOFError:
            self._start()
            return False, "dies"
        return (said, "") if isinstance(said, bool) else (False, said)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def reason(case: Case, grade: Grade, trouble: str) -> str:
    """Why the two disagree, as far as our decider says."""
    if trouble:
        return f"math-verify {trouble}"
    said = {
        "same": "both are written the same once spacing and look-alikes are gone",
        "number": "exact comparison of the numbers and their units",
        "text": "words, compared as words",
        "letter": "the chosen letter",
        "interval": "sets of reals, brought to one form",
        "parts": "part by part: order, labels and signs",
        "relation": "equations up to a factor; a label counts only where it names the value",
        "expression": "identity at random points in two precisions",
        "base": "the base belongs to the number",
        "clock": "a time of day",
        "matrix": "entry by entry, or piece by piece with its condition",
        "ratio": "ratios are proportional, or as written",
        "algebra": "computer algebra, confirmed numerically",
        "guard": "refused by the static guard",
        "extract": "there is no answer in the visible text",
    }
    return f"{said.get(grade.method, grade.method)}; we read `{shorten(grade.answer, 40)}`"


def shorten(text: str, size: int = 60) -> str:
    """A text for a table cell: one line, bounded, without pipes; its end, where the answer stands."""
    flat = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return flat if len(flat) <= size else "..." + flat[-size:]


def main() -> int:
    """Prints the table and the disagreements; 1 where there is nothing to grade."""
    found = list(cases())
    with Checker(workers=1) as checker:
        checker.warm()
        start = time.perf_counter()
        grades = list(checker.grade_many(GradeItem(case.pred, case.gold) for case in found))
        ours_seconds = time.perf_counter() - start
    reference = Reference()
    reference.grade("1", "1")
    start = time.perf_counter()
    theirs = [reference.grade(case.pred, case.gold, case.bare) for case in found]
    theirs_seconds = time.perf_counter() - start
    reference.close()
    table = list(_table(found, grades, theirs))
    table.append("")
    table.append(
        f"Time for all {len(found)}: ours {ours_seconds:.1f} s, math-verify {theirs_seconds:.1f} s (one process each)."
    )
    print("\n".join(table))
    lines = list(_disagreements(found, grades, theirs))
    print("\n".join(["", *lines]))
    OUT.mkdir(exist_ok=True)
    (OUT / "grading.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    (OUT / "grading-disagreements.md").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    return 0 if found else 1


def _table(found: list[Case], grades: list[Grade], theirs: list[tuple[bool, str]]) -> Iterator[str]:
    rows: dict[tuple[str, str], list[tuple[bool, bool, bool, bool]]] = defaultdict(list)
    for case, grade, (said, _) in zip(found, grades, theirs, strict=True):
        row = (
            grade.correct == case.equal,
            said == case.equal,
            grade.correct and not case.equal,
            said and not case.equal,
        )
        rows[(case.origin, case.category)].append(row)
        rows[(case.origin, "**all**")].append(row)
    yield "| cases | category | n | ours right | math-verify right | ours: false 'equal' | math-verify: false 'equal' |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for (origin, category), marks in sorted(rows.items()):
        ours, other, false, other_false = (sum(column) for column in zip(*marks, strict=True))
        n = len(marks)
        yield f"| {origin} | {category} | {n} | {100 * ours / n:.1f} % | {100 * other / n:.1f} % | {false} | {other_false} |"


def _disagreements(found: list[Case], grades: list[Grade], theirs: list[tuple[bool, str]]) -> Iterator[str]:
    yield "| case | gold | prediction ends in | label | ours | math-verify | reason |"
    yield "|---|---|---|---|---|---|---|"
    words = {True: "equal", False: "different"}
    for case, grade, (said, trouble) in zip(found, grades, theirs, strict=True):
        if grade.correct != said or trouble:
            yield (
                f"| {case.id} | `{shorten(case.gold)}` | `{shorten(case.pred)}` | {words[case.equal]} | {words[grade.correct]} ({grade.method}) "
                f"| {trouble or words[said]} | {reason(case, grade, trouble)} |"
            )


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    raise SystemExit(main())
