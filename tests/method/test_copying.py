"""Whether a teacher copies the answers that it scores, in the figures that were measured on a small real model."""

from __future__ import annotations

import math

import pytest

from undo_hpc.method.copying import Copying, tokens_within, wrong_result
from undo_hpc.records import Attempt


def figures(preferred: int, plain: int, of: int = 40) -> Copying:
    found = Copying()
    for number in range(of):
        found.add_wrong(*(math.log(0.9 if number < some else 0.01) for some in (preferred, plain)))
    return found


@pytest.mark.parametrize(
    ("preferred", "plain", "refused"),
    [(32, 9, True), (25, 9, True), (0, 9, False), (9, 9, False), (11, 9, False), (12, 9, True)],
    ids=[
        "attempt in view",
        "attempt and rationale",
        "rationale alone",
        "no difference",
        "noise",
        "three of forty",
    ],
)
def test_the_gate(preferred: int, plain: int, refused: bool) -> None:
    assert bool(figures(preferred, plain).problem()) == refused
    assert not figures(5, 0, of=9).problem(), "too few to tell"
    assert not figures(2, 0, of=10).problem(), "two answers are a fifth of few, and chance all the same"
    assert figures(21, 0, of=400).problem() and not figures(20, 0, of=400).problem()


def test_what_is_only_less_likely_is_a_warning() -> None:
    found = figures(0, 0)
    found.add_right(-1.0, -0.1)
    assert not found.problem() and "right answers are less likely" in found.warnings()[0]
    found.add_right(-0.1, -0.1)
    assert not found.warnings()
    likelier = Copying()
    for _ in range(10):
        likelier.add_wrong(-5.0, -9.0)
    assert not likelier.problem() and "+4.00 nats" in likelier.warnings()[0]


def test_tasks_add_up() -> None:
    parts = [figures(3, 1).to_dict(), figures(2, 2).to_dict()]
    assert Copying.total(parts).to_dict() == figures(5, 3, of=80).to_dict()


def test_the_first_wrong_result_is_pointed_at() -> None:
    text = "17+7=25. 25-4=21. \\boxed{21}"
    row = Attempt("p", 0, 0, "student", text, "wrong", "21", "number", "stop", 1, 1, 0, 1.0)
    place = wrong_result(row, "20", "17+7=24. 24-4=20. \\boxed{20}")
    assert place is not None and text[slice(*place)] == "25"
    pieces = ["17", "+", "7", "=", "2", "5", ".", " 25"]
    assert list(tokens_within(pieces, *place)) == [4, 5]
    assert list(tokens_within(pieces, 100, 101)) == []
