"""`make bench-grading`: the accuracy of the checker beside math-verify as its documentation calls it, as Markdown for docs/checker.md.

Development cases and mutations apart; each accuracy with its Wilson 95 % interval; then what the parts are worth: the grammar alone, with
math-verify, math-verify alone. Reads the shared labelled cases and golds where they are, and our own ones anywhere. Writes
build/grading.md, and build/grading-disagreements.md with every case on which the two disagree.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import shared_data_dir
from tests.grading.forms import FORMS
from tests.grading.mutations import legitimate, mutations, rewrites
from tests.grading.outputs import TEXTS
from tests.grading.own_cases import CASES
from tests.grading.test_mutations import real
from undo_hpc.grading import CHECKER_VERSION, Checker, GradeItem
from undo_hpc.grading.decide import decide
from undo_hpc.pipeline.run import git_revision
from undo_hpc.records import Grade

HANG_SECONDS = 30.0
SAMPLE = 400  # mutations and rewrites that math-verify is asked for
OUT = Path("build")
ROOM = Path(__file__).parents[2] / "undo_hpc" / "grading"


@dataclass(frozen=True)
class Case:
    """A labelled pair."""

    id: str
    group: str
    gold: str
    pred: str
    equal: bool
    bare: bool = False  # the prediction is an answer alone, not a text around one


def shared_cases(folder: Path | None) -> Iterator[Case]:
    """The undisputed shared cases by set; none where the folder is not on this machine."""
    for name in ("cases.jsonl", "cases2.jsonl"):
        path = folder / "grading" / name if folder else None
        for row in map(
            json.loads, path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else ()
        ):
            if "origin" not in row:
                group = "adversarial" if row["category"] == "code_probe" else "olympiad kinds"
            else:
                peers = "MATH-500 outputs" if row["id"].startswith("m500") else "peers' cases"
                group = "hard" if row["origin"] == "own" else peers
            if not row["disputed"]:
                yield Case(
                    row["id"], group, row["gold"], row["pred"], row["is_equal"], row.get("kind") == "pair"
                )


def own_cases() -> Iterator[Case]:
    """Our own labelled cases and forms."""
    for i, (_, gold, pred, equal) in enumerate(CASES):
        yield Case(f"ours-{i:03}", "our cases", gold, pred, equal)
    for i, (_, gold, pred, equal) in enumerate(FORMS):
        yield Case(f"form-{i:03}", "our forms", gold, pred, equal, True)
    for i, (_, gold, pred, equal) in enumerate(TEXTS):
        yield Case(f"text-{i:03}", "our outputs", gold, pred, equal)


def mutated(folder: Path | None) -> Iterator[Case]:
    """Near misses and rewrites of golds."""
    golds = {"our golds": sorted({gold for _, gold, *_ in (*CASES, *FORMS)})} | (
        real(folder) if folder else {}
    )
    for name, found in golds.items():
        for gold in found:
            if not 0 < len(gold) < 200:
                continue
            for kind, near in mutations(gold):
                if not legitimate(kind, gold, near):
                    yield Case(f"{name}-{kind}", f"near misses of {name}", gold, near, False, True)
            for kind, form in rewrites(gold):
                yield Case(f"{name}-{kind}", f"rewrites of {name}", gold, form, True, True)


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

    def grade(self, case: Case) -> bool:
        """Its verdict; False where it hangs, raises or dies."""
        self._ours.send((case.pred, case.gold, case.bare))
        if not self._ours.poll(HANG_SECONDS):
            self.close()
            self._start()
            return False
        try:
            return self._ours.recv() is True
        except EOFError:
            self._start()
            return False

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def wilson(right: int, n: int) -> str:
    """A share with its Wilson 95 % interval, in percent."""
    z = 1.959964
    p = right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return f"{100 * p:.1f} % [{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def said_right(cases: list[Case], said: Iterable[bool]) -> tuple[int, int]:
    """(right verdicts, false 'equal')."""
    marks = [
        (verdict == case.equal, verdict and not case.equal) for case, verdict in zip(cases, said, strict=True)
    ]
    return sum(r for r, _ in marks), sum(f for _, f in marks)


def table(cases: list[Case], ours: list[bool], theirs: dict[int, bool]) -> Iterator[str]:
    """One row a set; where math-verify was asked for a part only, its figures are of that part."""
    yield '| set | n | ours right | false "equal" | math-verify right (n) | false "equal" |'
    yield "|---|---:|---:|---:|---:|---:|"
    for group in dict.fromkeys(case.group for case in cases):
        places = [i for i, case in enumerate(cases) if case.group == group]
        right, false = said_right([cases[i] for i in places], [ours[i] for i in places])
        asked = [i for i in places if i in theirs]
        other, other_false = said_right([cases[i] for i in asked], [theirs[i] for i in asked])
        yield (
            f"| {group} | {len(places)} | {wilson(right, len(places))} | {false} "
            f"| {wilson(other, len(asked))} ({len(asked)}) | {other_false} |"
        )


def ablation(cases: list[Case], whole: list[bool], theirs: dict[int, bool]) -> Iterator[str]:
    """What the grammar and math-verify are worth, each alone and together, with the lines of code of each."""
    alone = [isinstance(found := decide(GradeItem(c.pred, c.gold)), Grade) and found.correct for c in cases]
    files = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOM.glob("*.py")}
    process = sum(
        files[n] for n in ("pool.py", "worker.py", "algebra.py", "__main__.py", "__init__.py", "options.py")
    )
    total = sum(files.values())
    yield '| checker | n | right | false "equal" | lines of code |'
    yield "|---|---:|---:|---:|---:|"
    asked = sorted(theirs)
    for name, said, lines in (
        ("grammar alone", [alone[i] for i in asked], str(total - process)),
        ("grammar, then math-verify for the rest", [whole[i] for i in asked], str(total)),
        ("math-verify alone", [theirs[i] for i in asked], "a package of others"),
    ):
        right, false = said_right([cases[i] for i in asked], said)
        yield f"| {name} | {len(asked)} | {wilson(right, len(asked))} | {false} | {lines} |"


def disagreements(cases: list[Case], grades: list[Grade], theirs: dict[int, bool]) -> Iterator[str]:
    """Every case on which the two disagree."""
    yield "| case | gold | prediction ends in | label | ours | math-verify |"
    yield "|---|---|---|---|---|---|"
    words = {True: "equal", False: "different"}
    for i, said in sorted(theirs.items()):
        if grades[i].correct != said:
            case, grade = cases[i], grades[i]
            yield (
                f"| {case.id} | `{shorten(case.gold)}` | `{shorten(case.pred)}` | {words[case.equal]} "
                f"| {words[grade.correct]} ({grade.method}) | {words[said]} |"
            )


def shorten(text: str, size: int = 60) -> str:
    """A text for a table cell: one line, bounded, without pipes; its end, where the answer stands."""
    flat = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return flat if len(flat) <= size else "..." + flat[-size:]


def main() -> int:
    """Prints the tables; 1 where one of our own cases comes out wrong."""
    folder = shared_data_dir()
    labelled = [*shared_cases(folder), *own_cases()]
    near = list(mutated(folder))
    cases = labelled + near
    start = time.perf_counter()
    with Checker(workers=2) as checker:
        grades = list(checker.grade_many(GradeItem(case.pred, case.gold) for case in cases))
    seconds = time.perf_counter() - start
    draw = random.Random(1)
    asked = [
        *range(len(labelled)),
        *(len(labelled) + i for i in draw.sample(range(len(near)), min(SAMPLE, len(near)))),
    ]
    reference = Reference()
    theirs = {i: reference.grade(cases[i]) for i in asked}
    reference.close()
    said = [grade.correct for grade in grades]
    split = len(labelled)
    parts = [
        f"Checker {CHECKER_VERSION}, commit {git_revision()}, seed 1; "
        f"{len(cases)} pairs graded in {seconds:.1f} s with two workers; Wilson 95 % intervals in brackets.",
        "\nDevelopment cases:\n",
        *table(labelled, said[:split], {i: v for i, v in theirs.items() if i < split}),
        "\nMutations (near misses must be different) and rewrites (must be equal):\n",
        *table(near, said[split:], {i - split: v for i, v in theirs.items() if i >= split}),
        "\nAblation, on the development cases:\n",
        *ablation(labelled, said[:split], {i: v for i, v in theirs.items() if i < split}),
    ]
    print("\n".join(parts))
    OUT.mkdir(exist_ok=True)
    (OUT / "grading.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    lines = disagreements(cases, grades, theirs)
    (OUT / "grading-disagreements.md").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    return int(
        any(
            grade.correct != case.equal
            for case, grade in zip(cases, grades, strict=True)
            if case.group.startswith("our ") and case.group != "our golds"
        )
    )


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    raise SystemExit(main())
