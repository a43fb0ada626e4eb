"""What one side hides from the comparison is not taken for equal: values that cannot be computed, integers alone, names and orders."""

from __future__ import annotations

import pytest

from tests.grading.test_one_truth import right
from undo_hpc.grading import Checker, GradeItem

# Answers of which each may be right for one of these truths at most.
HUBS = [
    # what one side cannot compute is not compared: a formula through its first values
    (r"2n^2-2n+3!-2+0\cdot7^{7^{7^{30(n-3)}}}", ("2^{n+1}", "2n^2-2n+4")),
    (r"n^2-n+0!+1+(2^{3^{9^{40(n-3)}}})^0-1", (r"n^2-n+2", "2^n", r"\frac{n^3+5n+6}{6}")),
    (r"7-2x+0\cdot9^{9^{9^{30x}}}", ("7-2x", "7+2|x|", "7+\\sqrt{4x^2}")),
    (r"0\cdot3^{9^{9^{40x}}}", ("0", r"\max(3x,0)", "x+|x|")),
    (r"2y+x=3+0\cdot9^{9^{9^{30x}}}", ("2y+x=3", "2y-|x|=3")),
    (r"y=4x+0\cdot9^{9^{9^{30x}}}", ("y=4x", "y=-4|x|")),
    (r"0\cdot\sqrt{-3x}", ("0", r"3x+\sqrt{9x^2}")),
    # factorials and the like of numbers make no variable an integer, nor those of other variables
    (r"2!\cdot x", ("2x", "2|x|", r"2\lfloor x\rfloor", r"2x+\sin(\pi x)", r"2\sqrt{x^2}")),
    (r"\binom{3}{1}x+\gcd(4,6)-2", ("3x", "|3x|", r"3x\cos(2\pi x)")),
    (r"3!-5", ("1", r"\cos(2\pi x)", r"\frac{|t|}{t}")),
    (r"x(-1)^{2y-2y}", ("x", "|x|", r"\lceil x\rceil")),
    (r"\frac{|x|^{5}}{5!}", (r"\frac{x^5}{120}", r"\frac{|x|^5}{120}")),
    (r"\frac{x^{k+1}}{(k+1)!}", (r"\frac{|x|^{k+1}}{(k+1)!}", r"\frac{x^k\cdot x}{(k+1)!}")),
    # more chosen than there are, and logarithms, hide no integers
    (r"\frac{n(n-1)}{2}+1+0\cdot\binom{3}{n}^{-1}", ("2^{n-1}", r"\frac{n(n-1)}{2}+1")),
    (r"n^2-n+2+0\cdot(3-n)!+0\cdot\binom{2}{5}", ("2^n", "n^2-n+2")),
    (r"2x+0\cdot\sqrt{5x}+0\cdot\binom{1}{3}", ("2x", "2|x|", r"\max(2x,0)")),
    (r"y(n^2-n+2)+0\cdot\ln(4-n)\cdot n!", ("2^n y", "y(n^2-n+2)")),
    # an integer without a name is no unknown
    (r"x+C\text{ integer}", ("y=x+C", "y=x^2+C", "y=2x+C", "y=Cx")),
    (r"4x+x!-x!", ("4x", "4|x|", r"4\sqrt{x^2}")),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "truths"), HUBS)
def test_what_is_hidden_is_not_equal(answer: str, truths: tuple[str, ...]) -> None:
    assert sum(right(answer, truth) for truth in truths) <= 1


@pytest.mark.parametrize(
    ("answer", "truths"),
    [
        (r"\{3,4\}'", ("3,4", "(3,4)", "x=3,y=4", "x=4,y=3", "3<x<4", "a=3, b=4")),
        (r"\ldots(3,4)", ("x=3,y=4", "x=4,y=3", "(3,4)")),
        ("8'", ("a+2b=8", "xy=8", "e^t=8", "f(x)+f(y)=8")),
        ("3<x<4'", ("3,4", "3<x<4")),
        ("x=3,y=4'", ("x=3,4", "x=3,y=4")),
    ],
)
def test_algebra_drops_no_names_order_or_left_sides(
    checker: Checker, answer: str, truths: tuple[str, ...]
) -> None:
    items = (GradeItem(f"So it is $\\boxed{{{answer}}}$.", truth) for truth in truths)
    assert sum(grade.correct for grade in checker.grade_many(items)) <= 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\sqrt{st}", r"\sqrt s\sqrt t"),
        (r"m!\sqrt{ab}", r"m!\sqrt a\sqrt b"),
        (r"\sqrt{x^2-9}", r"\sqrt{x-3}\sqrt{x+3}"),
        (r"\binom{x}{2}", r"\frac{x(x-1)}{2}"),
        (r"\frac{(x+2)!}{x!}", "(x+1)(x+2)"),
        (r"n!(-1)^k", r"n!\cos(k\pi)"),
        (r"\gcd(s,t)\operatorname{lcm}(s,t)", "st"),
        (r"2^{2022n}n!", r"4^{1011n}n!"),
        (r"e^{e^{2x}}", r"\exp(e^{2x})"),
        (r"2^{2^n}-1", r"(2^{2^{n-1}}-1)(2^{2^{n-1}}+1)"),
        (r"\frac{\mu^k e^{-\mu}}{k!}", r"\frac{\mu^k}{k!e^{\mu}}"),
    ],
)
def test_honest_forms_are_equal_where_some_points_say_nothing(a: str, b: str) -> None:
    assert right(a, b) and right(b, a)
