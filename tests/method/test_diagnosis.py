"""How an error is told from the student's text."""

from __future__ import annotations

import random

import pytest

from undo_hpc.method.diagnosis import diagnose, failed_step
from undo_hpc.records import FinishReason, Verdict


@pytest.mark.parametrize(
    ("text", "gold", "verdict", "finish", "kind", "step"),
    [
        ("17+7=24\n24-4=21\n\\boxed{21}", "20", "wrong", "stop", "arithmetic", "24-4=21"),
        ("48/2 = <<48/2=22>>22 clips. #### 22", "24", "wrong", "stop", "arithmetic", "48/2=22"),
        ("17+7=24\n24+4=28\n\\boxed{28}", "20", "wrong", "stop", "setup", "24+4=28"),
        ("I think it is \\boxed{3}", "20", "wrong", "stop", "setup", ""),
        ("The answer is B.", "C", "wrong", "stop", "setup", ""),
        ("17+7=24\nthen we take", "20", "no_answer", "length", "truncated", ""),
        ("17+7=23\nthen we take", "20", "no_answer", "length", "truncated", "17+7=23"),
        ("17+7=23\n\\boxed{23}\nAnd another thing", "24", "wrong", "length", "arithmetic", "17+7=23"),
        ("", "20", "no_answer", "stop", "no_answer", ""),
        ("I do not know.", "20", "no_answer", "stop", "no_answer", ""),
        ("So there are 20 cakes", "20", "no_answer", "stop", "format", ""),
        ("the point is (3, pi)", "(3, pi)", "no_answer", "stop", "format", ""),
        ("24-4=20", "20", "wrong", "stop", "format", ""),
        ("24-4=20 \\boxed{20 whole cakes}", "20", "wrong", "stop", "format", "\\boxed{20 whole cakes}"),
        ("24-4=20 \\boxed{24}", "20", "wrong", "stop", "format", "\\boxed{24}"),
        ("\\boxed{)(}", "20", "unparsed", "stop", "format", "\\boxed{)(}"),
        ("24-4=20. 20-2=18. \\boxed{18}", "20", "wrong", "stop", "setup", "20-2=18"),
    ],
)
def test_kinds(text: str, gold: str, verdict: Verdict, finish: FinishReason, kind: str, step: str) -> None:
    found = diagnose(text, gold, verdict, finish)
    assert found.kind == kind, found
    assert text[found.start : found.end] == step
    assert found.detail


def test_a_rationale_shows_where_the_student_leaves_the_path() -> None:
    text = "17+7=24\n24+4=28\n28*2=56\n\\boxed{56}"
    found = diagnose(text, "40", "wrong", "stop", rationale="17+7=24\n24-4=20\n20*2=40\n\\boxed{40}")
    assert (found.kind, text[found.start : found.end]) == ("setup", "24+4=28")


def test_working_in_brackets_is_no_step_of_its_own() -> None:
    text = "20*8=(0*8=0,2*8=16)160\n160-38=122\n\\boxed{122}"
    found = diagnose(text, "151", "wrong", "stop", rationale="20*8=160\n160-9=151\n\\boxed{151}")
    assert (found.kind, text[found.start : found.end]) == ("setup", "160-38=122")


def test_a_solution_that_stops_early() -> None:
    found = diagnose("17+7=24\n\\boxed{24}", "20", "wrong", "stop", rationale="17+7=24\n24-4=20\n\\boxed{20}")
    assert found.kind == "setup"
    assert "stops after 1 of 2 steps" in found.detail


def test_a_right_answer_has_no_error() -> None:
    with pytest.raises(ValueError, match="no error"):
        diagnose("\\boxed{20}", "20", "correct", "stop")


def test_finds_the_step_that_was_broken() -> None:
    """Chains of which one result is falsified: the diagnosis names that line, every time."""
    rng = random.Random(5)
    for _ in range(300):
        value, lines = rng.randrange(10, 99), []
        broken = rng.randrange(3)
        for step in range(3):
            operand, op = rng.randrange(2, 60), rng.choice("+-*")
            result = {"+": value + operand, "-": value - operand, "*": value * operand}[op]
            shown = result + rng.choice((-10, -1, 1, 10)) if step == broken else result
            lines.append(f"{value}{op}{operand}={shown}")
            value = abs(shown)
        text = "\n".join([*lines, f"\\boxed{{{value}}}"])
        found = diagnose(text, str(value + 1), "wrong", "stop")
        assert found.kind == "arithmetic"
        assert text[found.start : found.end] == lines[broken]


def test_the_failing_step_is_found_without_the_truth() -> None:
    assert failed_step("47*8=366\n366+4=370\n\\boxed{370}") == "47*8=366"
    rationale = "12+5=17\n17*2=34"
    assert failed_step("12+5=17\n17*3=51", rationale) == "17*3=51"
    assert failed_step("12+5=17\n17*3=51") == "", "all hold, and there is nothing to compare with"
    assert failed_step("12+5=17\n17*2=34", rationale) == "" == failed_step("no idea", rationale)
