"""Each decider on its own: it says yes, no, or that the question is not its own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from undo_hpc.grading import guard, numbers, units
from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import (
    OutOfBounds,
    base,
    clock,
    congruence,
    date,
    expression,
    intervals,
    matrix,
    number,
    parts,
    ratio,
    relation,
    same,
    text,
)
from undo_hpc.grading.deciders.letter import choice_of, gold_letter, letter_of
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.order import DECIDERS, Comparison
from undo_hpc.grading.syntax import parse, symbols

M = "\\begin{pmatrix}%s\\end{pmatrix}"
CASES: list[tuple[object, str, str, bool | None]] = [
    (same, "p - q", "p-q", True),
    (same, "p", "q", None),
    (base, "204_5", "204_{5}", True),
    (base, "204_5", "204_6", False),
    (base, "52_8", "528", False),
    (base, "x_1", "x_2", None),
    (clock, "12:30", "12:30", True),
    (clock, "12:05", "1:05", False),
    (clock, "3:15 \\text{ p.m.}", "15:15", True),
    (clock, "7", "8", None),
    (date, "\\text{July 4, 2012}", "\\text{4th of July 2012}", True),
    (date, "\\text{June 20}", "\\text{July 20}", False),
    (date, "4", "\\text{July 4}", None),
    (congruence, "x \\equiv 3 \\pmod{7}", "10 \\pmod 7", True),
    (congruence, "x \\equiv 3 \\pmod{7}", "x \\equiv 3 \\pmod 5", False),
    (congruence, "17 \\bmod 5", "2", None),
    (number, "1,000", "1000.0", True),
    (number, "120^{\\circ}", "120", True),
    (number, "45^\\circ", "45\\%", False),
    (number, "5 \\text{ feet } 4 \\text{ inches}", "64 \\text{ inches}", True),
    (number, "37^\\circ \\text{C}", "37^\\circ \\text{F}", False),
    (number, "5 \\text{ cm}", "5 \\text{ m}", False),
    (number, "100 \\text{ cm}", "1 \\text{ m}", True),
    (number, "x", "1", None),
    (matrix, M % "1 & 2", M % "1 & 3", False),
    (matrix, M % "\\frac12 \\\\ 2", M % "0.5 \\\\ 2", True),
    (matrix, "\\frac12" + M % "2 \\\\ 4", M % "1 \\\\ 2", True),
    (matrix, "2" + M % "1 \\\\ 2", M % "1 \\\\ 2", False),
    (matrix, "5", "6", None),
    (text, "\\text{Evelyn}", "evelyn.", True),
    (text, "\\text{Evelyn}", "\\text{Carla}", False),
    (text, "3x", "4", None),
    (intervals, "(-\\infty,2)\\cup(3,\\infty)", "x<2 \\text{ or } x>3", True),
    (intervals, "[0,9)", "[0,1)", False),
    (intervals, "(0,9) \\cup (9,36)", "(0,36) \\setminus \\{9\\}", True),
    (intervals, "|2x+1| < 5", "(-3, 2)", True),
    (intervals, "|x| > 2", "(-2, 2)", False),
    (intervals, "]0, 1[ \\cup ]2, 3]", "(0, 1) \\cup (2, 3]", True),
    (intervals, "\\mathbb{R}^+", "[0, \\infty)", False),
    (intervals, "7", "8", None),
    (parts, "1, 2", "2, 1", True),
    (parts, "(1, 2)", "(2, 1)", False),
    (parts, "3 \\pm \\sqrt{5}", "3+\\sqrt5, 3-\\sqrt5", True),
    (
        parts,
        "9 \\text{ chickens and } 10 \\text{ rabbits}",
        "10 \\text{ chickens and } 9 \\text{ rabbits}",
        False,
    ),
    (parts, "5", "6", None),
    (relation, "y = 2x+3", "2x - y + 3 = 0", True),
    (relation, "x = 11", "11", True),
    (relation, "7 = 11a+c", "11a+c", False),
    (relation, "x < 1", "-x > -1", True),
    (relation, "12", "AB = 12 \\text{ cm}", True),
    (relation, "AB = 12 \\text{ cm}", "12 \\text{ m}", False),
    (relation, "5", "6", None),
    (ratio, "3:4", "9:12", True),
    (ratio, "1:2:3:\\ldots", "1:4:9:\\ldots", False),
    (ratio, "5", "6", None),
    (expression, "6+9i", "9i+6", True),
    (expression, "3R^2", "3r^2", False),
    (expression, "\\frac{1}{2004!}", "\\frac{1}{2006!}", False),
    (expression, "\\int x dx", "x", None),
]


@pytest.mark.parametrize(("decider", "gold", "pred", "verdict"), CASES)
def test_decider(decider: object, gold: str, pred: str, verdict: bool | None) -> None:
    decide: Callable[..., bool | None] = decider.decide  # type: ignore[attr-defined]
    comparison = Comparison()
    assert decide(Answer(gold), Answer(pred), comparison._part) is verdict


def test_every_decider_is_in_the_order_and_has_unit_cases() -> None:
    assert {decider.decide for decider, *_ in CASES} == {decide for _, decide in DECIDERS}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234.5", Fraction(2469, 2)),
        ("1 000", Fraction(1000)),
        ("3\\frac{1}{2}", Fraction(7, 2)),
        ("3 1/2", Fraction(7, 2)),
        ("0.1\\overline{6}", Fraction(1, 6)),
        ("6.02e3", Fraction(6020)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        (".5", Fraction(1, 2)),
        ("2 \\times 10^{-3}", Fraction(1, 500)),
        ("2.5 \\text{ million}", Fraction(2500000)),
        ("twenty-one", Fraction(21)),
        ("three hundred", Fraction(300)),
        ("1.000.000", Fraction(1000000)),
    ],
)
def test_numbers_are_read_exactly(written: str, value: Fraction) -> None:
    quantity = Answer(written).quantity
    assert quantity is not None
    assert quantity.value == value


@pytest.mark.parametrize(
    "written", ["3x", "x", "2\\pi", "1,2", "(3)", "5m", "12abc", "", "1/0", "--5", "1..2"]
)
def test_what_is_no_plain_number_is_not_read_as_one(written: str) -> None:
    assert numbers.read(written) is None


def test_units_of_one_dimension_convert_and_others_do_not() -> None:
    assert units.read_unit("square feet") == units.read_unit("ft^2")
    assert number.conversion("m", "cm") == Fraction(1, 100)
    assert number.conversion("m", "kg") is None
    assert number.conversion("mph", "miles per hour") == 1
    assert number.conversion("apples", "red apples") == 1
    assert number.conversion("", "kg") == 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("½", "\\frac{1}{2}"),
        ("x²", "x^{2}"),
        ("√2", "\\sqrt{2}"),
        ("６", "6"),
        ("−5", "-5"),
        ("5\u200b", "5"),
        ("5\x00", "5"),
        ("\ud8005", "5"),
    ],
)
def test_lookalikes(text: str, plain: str) -> None:
    assert unify(text) == plain


def test_letters_and_options() -> None:
    assert letter_of("(C) 12") == letter_of("\\text{(C)}\\ 12") == letter_of("C: since") == "C"
    assert letter_of("\\mathrm{E}*2") is None
    assert gold_letter("C Cecile", 4) == "C"
    assert choice_of("n = 7", ("n = 7", "n - 7")) == "A"
    assert choice_of("B", ("A", "B")) is None


def test_the_parser_knows_its_limits() -> None:
    assert parse("(" * 200 + "1" + ")" * 200) is None
    assert parse("1" * 5000) is None
    assert parse("__import__('os')") is None
    node = parse("a_1 x^2 \\sin\\theta")
    assert node is not None
    assert symbols(node) == {"a_1", "x", "theta"}


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}",
        "100000000!",
        "\\sum_{n=1}^{1000000000} n",
        "(" * 30,
        "1" * 100,
        "x" * 1000,
        "open('x')",
        "a.__class__",
        "x^{100000}",
    ],
)
def test_the_guard_refuses(text: str) -> None:
    with pytest.raises(OutOfBounds):
        guard.check(text)


def test_the_guard_lets_mathematics_through() -> None:
    guard.check("\\int_0^1 \\frac{x^{12}}{\\sqrt{1+x}} dx + \\sum_{k=1}^{100} k^2 + 20!")
