"""Accuracy gates: our own labelled cases anywhere; the shared cases and the real golds where those data are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.grading.own_cases import CASES
from undo_hpc.grading import Checker, GradeItem, extract_gold
from undo_hpc.grading.decide import decide
from undo_hpc.records import Grade

FORMS = ("{}", "${}$", "So we get \\boxed{{{}}}.", "Some work.\n#### {}", "The answer is ${}$.")


@pytest.mark.parametrize(("category", "gold", "prediction", "equal"), CASES)
def test_own_cases(checker: Checker, category: str, gold: str, prediction: str, equal: bool) -> None:
    assert checker.grade(GradeItem(prediction, gold)).correct is equal


def set_of(case: dict[str, Any]) -> str:
    """The set that a shared case belongs to."""
    if "origin" not in case:
        return "adversarial" if case["category"] == "code_probe" else "olympiad kinds"
    return "own" if case["origin"] == "own" else "math500" if case["id"].startswith("m500") else "peers"


@pytest.fixture(scope="module")
def graded(shared_data: Path, checker: Checker) -> list[tuple[dict[str, Any], Grade]]:
    """The undisputed shared cases with our grades."""
    paths = [shared_data / "grading" / name for name in ("cases.jsonl", "cases2.jsonl")]
    if not all(path.is_file() for path in paths):
        pytest.skip("the shared grading cases are not on this machine")
    rows = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    cases = [case for case in rows if not case["disputed"]]
    return list(zip(cases, checker.grade_many(GradeItem(c["pred"], c["gold"]) for c in cases), strict=True))


def missed(
    graded: list[tuple[dict[str, Any], Grade]], wanted: Any
) -> tuple[float, list[tuple[str, str, str, Grade]]]:
    """Share of right verdicts among the wanted cases, and the wrong ones."""
    chosen = [(case, grade) for case, grade in graded if wanted(case)]
    wrong = [(c["id"], c["gold"][:80], c["pred"][-80:], g) for c, g in chosen if g.correct != c["is_equal"]]
    return 1 - len(wrong) / len(chosen), wrong


@pytest.mark.parametrize(
    ("name", "floor"),
    [("own", 0.99), ("peers", 0.97), ("math500", 0.997), ("olympiad kinds", 0.96), ("adversarial", 0.9)],
)
def test_shared_cases(graded: list[tuple[dict[str, Any], Grade]], name: str, floor: float) -> None:
    share, wrong = missed(graded, lambda case: set_of(case) == name)
    assert share >= floor, wrong


def test_no_false_equal_among_shared_cases(graded: list[tuple[dict[str, Any], Grade]]) -> None:
    assert [c["id"] for c, g in graded if g.correct and not c["is_equal"]] == []


def test_no_verdict_is_a_fault_or_a_timeout(graded: list[tuple[dict[str, Any], Grade]]) -> None:
    assert [c["id"] for c, g in graded if g.method == "fault" or g.verdict == "timeout"] == []


def golds(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """(gold field, bare gold) by data set."""
    read = lambda path: path.read_text(encoding="utf-8")  # noqa: E731
    gsm8k = [
        json.loads(line)["answer"]
        for name in ("train", "test")
        for line in read(folder / "gsm8k" / f"{name}.jsonl").splitlines()
    ]
    svamp = [str(row["Answer"]) for row in json.loads(read(folder / "svamp" / "SVAMP.json"))]
    math500 = json.loads(read(folder / "math500" / "math500_test.json"))
    return {
        "gsm8k": [(text, extract_gold(text) or "") for text in gsm8k],
        "svamp": [(text, text) for text in svamp],
        "math500": [(row["answer"], row["answer"]) for row in math500]
        + [(row["solution"], row["answer"]) for row in math500],
    }


@pytest.mark.parametrize("name", ["gsm8k", "svamp", "math500"])
def test_real_golds_equal_themselves(shared_data: Path, name: str) -> None:
    wrong = []
    for field, bare in golds(shared_data)[name]:
        for form in FORMS:
            found = decide(GradeItem(form.format(bare), field))
            if not (isinstance(found, Grade) and found.correct):
                wrong.append((bare, form, found))
    assert wrong == []


def test_real_letters_and_options(shared_data: Path) -> None:
    wrong = []
    for line in (shared_data / "mmlu_pro" / "mmlu_pro_math.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        options, letter = tuple(row["options"]), row["answer"]
        text = options[row["answer_index"]]
        forms = [
            letter,
            f"({letter})",
            f"The answer is ({letter}).",
            f"\\boxed{{{letter}}}",
            f"{letter}: {text}",
        ]
        if options.count(text) == 1 and len(text) > 1:
            forms += [text, f"\\boxed{{{text}}}", f"The answer is {text}"]
        for form in forms:
            found = decide(GradeItem(form, letter, "letter", options))
            if not (isinstance(found, Grade) and found.correct):
                wrong.append((letter, form, found))
    assert wrong == []
