"""The tokenizer, the grammar and the values that it gives: what each form is read as, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from undo_hpc.grading import algebra, units
from undo_hpc.grading.evaluate import rational
from undo_hpc.grading.grammar import parse
from undo_hpc.grading.identity import identical
from undo_hpc.grading.letters import choice_of, gold_letter, letter_of, option
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.relations import read, readings
from undo_hpc.grading.tokens import SyntaxProblem, Wordy
from undo_hpc.grading.values import (
    About,
    Cases,
    Clock,
    Expression,
    Family,
    Items,
    Named,
    Quantity,
    Ratio,
    Region,
    Relation,
    Solutions,
    Text,
    Unread,
    symbols,
)

READ_AS = [
    (
        Expression,
        "1{,}250",
        "\\frac{2}{7}",
        "3\\sqrt{5}",
        "-\\infty",
        "\\begin{vmatrix} 1 & 2 \\\\ 3 & 4 \\end{vmatrix}",
    ),
    (Quantity, "7 \\text{ cm}", "35\\%", "60^\\circ", "5 ft 4 in"),
    (About, "\\approx 2.6", "x \\approx 2.6"),
    (Named, "31_4", "31 \\text{ (base four)}"),
    (Region, "(0, 1) \\cup (2, 3)", "x > 4", "1 < x \\le 4", "x \\ne 4", "x^2 < 7", "\\mathbb{Z}"),
    (Relation, "x^2 + y^2 = 4", "x + y < 3"),
    (Solutions, "f(x) = 3x", "x = 2, x = 3", "x = 2, y = 3", "x = y = 4", "(x, y) = (1, 2)"),
    (Ratio, "3:5", "1:2:3", "40:100"),
    (Clock, "3:05", "12:30", "3:30 \\text{ PM}"),
    (Family, "x = 2k\\pi, k \\in \\mathbb{Z}", "x \\equiv 2 \\pmod 9"),
    (Cases, "\\begin{cases} 1 & x > 0 \\\\ 2 & x \\le 0 \\end{cases}"),
    (Text, "\\text{a circle}", "no such thing as that"),
    (Unread, "\\oplus 3"),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, *texts in READ_AS for text in texts])
def test_what_an_answer_is_read_as(kind: type, text: str) -> None:
    assert type(read(text)) is kind


@pytest.mark.parametrize(
    ("text", "brackets", "count"),
    [
        ("(2, -1)", "()", 2),
        ("[2, 5)", "[)", 2),
        ("]2, 5[", "()", 2),
        ("\\{2, 5\\}", "{}", 2),
        ("\\varnothing", "{}", 0),
        ("2, 5 \\text{ and } 8", "", 3),
        ("4 \\pm \\sqrt{3}", "", 2),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "matrix", 2),
    ],
)
def test_the_brackets_of_items(text: str, brackets: str, count: int) -> None:
    found = read(text)
    assert isinstance(found, Items)
    assert (found.brackets, len(found.items)) == (brackets, count)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234.5", Fraction(2469, 2)),
        ("1 000", Fraction(1000)),
        ("3\\frac{1}{2}", Fraction(7, 2)),
        ("3 1/2", Fraction(7, 2)),
        ("0.1\\overline{6}", Fraction(1, 6)),
        ("0.(6)", Fraction(2, 3)),
        ("6.02e3", Fraction(6020)),
        ("-\\frac{3}{4}", Fraction(-3, 4)),
        (".5", Fraction(1, 2)),
        ("2 \\times 10^{-3}", Fraction(1, 500)),
        ("2.5 \\text{ million}", Fraction(2500000)),
        ("\\text{three hundred}", Fraction(300)),
        ("1.000.000", Fraction(1000000)),
        ("\\binom{5}{2}", Fraction(10)),
        ("\\sum_{k=1}^{4} k", Fraction(10)),
    ],
)
def test_numbers_are_read_exactly(written: str, value: Fraction) -> None:
    found = read(written)
    assert isinstance(found, Expression)
    assert rational(found.node) == value


def test_a_comma_may_part_thousands_or_items() -> None:
    assert [type(value) for value in readings("300,450")] == [Expression, Items]
    assert [type(value) for value in readings("300, 450")] == [Items]
    assert [type(value) for value in readings("(300,450)")] == [Items]
    assert read("\\gcd(300,450)") == read("\\gcd(300, 450)")


@pytest.mark.parametrize(
    "text", ["(" * 300 + "1" + ")" * 300, "__import__('os')", "1 + ", "\\oplus", "\\frac{1}", "x ="]
)
def test_what_is_no_mathematics_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem):
        parse(text)


@pytest.mark.parametrize(
    "text", ["3 or more", "no solution", "two numbers 3 4", "f(n) = n^2 for all n \\ge 2", "July 4"]
)
def test_words_are_told_from_mathematics(text: str) -> None:
    with pytest.raises(Wordy):
        parse(text)


def test_symbols_and_applied_names() -> None:
    assert symbols(parse("a_1 x^2 \\sin\\theta + f(0)")) == {"a_1", "x", "theta"}
    assert parse("f(0)")[0] == "apply"
    assert parse("n(n+1)")[0] == "mul"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("x^2 - 1", "(x-1)(x+1)", True),
        ("\\sqrt{1/n}", "1/\\sqrt{n}", True),
        ("\\lfloor n/5 \\rfloor", "\\lfloor (n+1)/5 \\rfloor", False),
        ("\\gcd(a,b) \\operatorname{lcm}(a,b)", "ab", True),
        ("\\frac{1}{200!}", "\\frac{1}{201!}", False),
        ("e^{i\\pi}", "-1", True),
        ("|x|^2", "x^2", True),
        ("\\infty", "-\\infty", False),
        ("9^{9^{9^{9}}}", "1", None),
        ("10^{10^{10}}", "12", False),
        ("2^{1000000}", "2^{1000000}+1", None),
        ("\\int x dx", "x", None),
    ],
)
def test_identity(a: str, b: str, said: bool | None) -> None:
    assert identical(parse(a), parse(b)) is said
    assert identical(parse(b), parse(a)) is said


def test_units_of_one_dimension_convert_and_others_do_not() -> None:
    def factor(a: str, b: str) -> Fraction | None:
        x, y = units.read(a), units.read(b)
        assert x and y
        return units.conversion(x, y)

    assert units.read("square feet") == units.read("ft^2")
    assert factor("m", "cm") == 100
    assert factor("km/h", "m/s") == Fraction(5, 18)
    assert factor("N/m^2", "Pa") == 1
    assert factor("mph", "miles per hour") == 1
    assert factor("apples", "red apples") == 1
    for a, b in (("m", "kg"), ("mol", "g"), ("apples", "pears"), ("lb/in", "lb/in^2"), ("°", "%")):
        assert factor(a, b) is None
    assert factor("eV", "J") != 1
    assert units.read("or more") is None


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
    assert option("\\textbf{(D)} \\: 13") == ("D", "13")
    assert option("(A) \\cup (B)") is None


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}",
        "100000000!",
        "((99!)!)!",
        "9**9**9**9",
        "\\binom{10^9}{10^8}",
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
    with pytest.raises(algebra.OutOfBounds):
        algebra.check(text)


def test_the_guard_lets_mathematics_through() -> None:
    algebra.check("\\int_0^1 \\frac{x^{12}}{\\sqrt{1+x}} dx + \\sum_{k=1}^{100} k^2 + 20!")
