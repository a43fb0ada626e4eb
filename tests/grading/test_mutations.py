"""Near misses of gold answers are different, rewrites are equal: on our own golds anywhere, on real ones where they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.grading.forms import FORMS
from tests.grading.mutations import legitimate, mutations, rewrites
from tests.grading.own_cases import CASES
from undo_hpc.grading.decide import compare, decide
from undo_hpc.grading.options import GradeItem
from undo_hpc.records import Grade

OWN = sorted({gold for _, gold, *_ in (*CASES, *FORMS) if 0 < len(gold) < 200})


def correct(gold: str, pred: str) -> bool:
    found = compare(gold, pred)
    return isinstance(found, Grade) and found.correct


def false_equals(golds: Iterable[str]) -> tuple[int, list[tuple[str, str, str]]]:
    """How many near misses there are, and those that come out equal without a reason."""
    pairs = [(kind, gold, near) for gold in golds for kind, near in mutations(gold)]
    return len(pairs), [p for p in pairs if correct(p[1], p[2]) and not legitimate(*p)]


def false_differences(golds: Iterable[str]) -> tuple[int, list[tuple[str, str, str]]]:
    """How many rewrites there are, and those that do not come out equal."""
    pairs = [(kind, gold, form) for gold in golds for kind, form in rewrites(gold)]
    return len(pairs), [p for p in pairs if not correct(p[1], p[2])]


def real(folder: Path) -> dict[str, list[str]]:
    """Bare golds by data set, none longer than 200 characters."""
    read = lambda path: path.read_text(encoding="utf-8")  # noqa: E731
    rows = [json.loads(line) for line in read(folder / "mmlu_pro" / "mmlu_pro_math.jsonl").splitlines()]
    found = {
        "MATH-500": {row["answer"] for row in json.loads(read(folder / "math500" / "math500_test.json"))},
        "SVAMP": {str(row["Answer"]) for row in json.loads(read(folder / "svamp" / "SVAMP.json"))},
        "MMLU-Pro": {option for row in rows for option in row["options"]},
    }
    return {name: sorted(gold for gold in golds if 0 < len(gold) < 200) for name, golds in found.items()}


def test_near_misses_of_our_golds_are_different() -> None:
    count, found = false_equals(OWN)
    assert count > 1000
    assert found == []


def test_rewrites_of_our_golds_are_equal() -> None:
    count, found = false_differences(OWN)
    assert count > 1000
    assert found == []


def test_both_directions_agree() -> None:
    pairs = [(gold, near) for gold in OWN for _, near in mutations(gold)]
    assert [pair for pair in pairs if correct(*pair) != correct(*reversed(pair))] == []


@pytest.mark.parametrize("name", ["MATH-500", "SVAMP", "MMLU-Pro"])
def test_near_misses_of_real_golds(shared_data: Path, name: str) -> None:
    count, found = false_equals(real(shared_data)[name])
    assert len(found) <= count * 0.002, found[:20]


@pytest.mark.parametrize(("name", "share"), [("MATH-500", 0.999), ("SVAMP", 1.0), ("MMLU-Pro", 0.998)])
def test_rewrites_of_real_golds(shared_data: Path, name: str, share: float) -> None:
    count, found = false_differences(real(shared_data)[name])
    assert len(found) <= count * (1 - share), found[:20]


@pytest.mark.parametrize("name", ["MATH-500", "SVAMP", "MMLU-Pro"])
def test_every_real_gold_equals_itself(shared_data: Path, name: str) -> None:
    def equal(pred: str, gold: str) -> bool:
        found = decide(GradeItem(pred, gold))
        return isinstance(found, Grade) and found.correct

    golds = real(shared_data)[name]
    assert [gold for gold in golds if not equal(gold, gold)] == []
    boxed = [
        gold for gold in golds if gold.count("{") == gold.count("}") and not equal(f"\\boxed{{{gold}}}", gold)
    ]
    assert boxed == []
