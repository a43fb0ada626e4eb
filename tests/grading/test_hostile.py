"""Whatever comes in, a verdict comes out, in time, and nothing is executed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests import figures
from undo_hpc.grading import Checker, GradeItem
from undo_hpc.records import Grade

HUGE = [
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "9**9**9**9**9",
    "(10^6)!!",
    "100000000!",
    "((99!)!)!",
    "\\sum_{n=1}^{1000000000} n",
    "\\sum_{n=1}^{\\infty} n!",
    "\\prod_{k=1}^{100000000} k",
    "x^{1000000000}-1",
    "\\int_0^1 x^{x^{x}} dx",
    "\\binom{10^9}{10^8}",
    "(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7})^{200}",
    "\\frac{1}{0}",
    "\\infty-\\infty",
    "0^{0^{0}}",
    "\\sin(10^{10^{5}})",
    "\\log_{1} 5",
    "\\sqrt[0]{5}",
    "1e9999",
    "(a+b+c+d+e+f)^{300}",
    "\\gcd(10^{500}+1, 10^{400}+7)",
    "\\lim_{x\\to\\infty} x^{x^x}",
    "e^{e^{e^{e^{e}}}}",
    "\\tan(\\frac{\\pi}{2})",
    "\\left|\\left|\\left|x",
]
CODE = [
    "__import__('os').system('touch {canary}')",
    "open('{canary}','w')",
    "exec(\"open('{canary}','w')\")",
    "eval(\"open('{canary}','w')\")",
    "(lambda: open('{canary}','w'))()",
    "[open('{canary}','w')]",
    "Symbol('x').__class__.__init__.__globals__['sys'].modules['os'].system('touch {canary}')",
    "\\input{{{canary}}}",
    "\\write18{{touch {canary}}}",
    "os.system('touch {canary}')",
    "{{x.__class__}}",
    'S(\'open("{canary}","w")\')',
    "f\"{{open('{canary}','w')}}\"",
    "1 if open('{canary}','w') else 2",
]
ODD: list[Any] = [
    "\\ldots=-\\infty",
    "\\ldots = 3 = x",
    "\\text{permutations of }(1,2,3)",
    "(1,2) (permutations)" + "(" * 3000,
    "\\begin{cases} 3 \\end{cases}",
    "\\begin{cases} & x \\end{cases}",
    None,
    "",
    " ",
    "\n\n",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "\u202e5",
    "\ufeff",
    "é" * 10,
    "🎉",
    5,
    5.0,
    ["5"],
    {"a": 1},
    b"5",
    "\\",
    "$",
    "$$",
    "\\boxed{",
    "\\boxed{}",
    "}" * 50,
    "\\boxed{" * 3000 + "7",
    "(" * 3000 + ")" * 3000,
    "\\frac{1}{1+" * 200 + "1" + "}" * 200,
    "-" * 3000 + "1",
    "<think>",
    "</think>",
    "####",
]
PIECES = [
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "^",
    "_",
    "$",
    "\\boxed{",
    "answer is ",
    "1",
    "0.",
    "x",
    "\\sqrt",
    "\\pm",
    "\\cup",
    ",",
    "and ",
    "=",
    "<",
    "\\le",
    "\\text{",
    " ",
    "\n",
    "!",
    "%",
    "°",
    "\\infty",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "|",
    ":",
    "is ",
    "½",
    "答案",
    "cm",
    "\\overline{",
    "e",
    "π",
    "#### ",
]


@pytest.mark.parametrize("text", HUGE)
def test_huge_expressions_are_never_correct_and_never_hang(checker: Checker, text: str) -> None:
    for prediction, gold in (
        (f"\\boxed{{{text}}}", "12345"),
        ("\\boxed{12345}", text),
        (f"The answer is {text}", "12345"),
    ):
        assert not checker.grade(GradeItem(prediction, gold)).correct


NESTED = [
    "(",
    "[",
    "{",
    "\\{",
    "\\frac{1}{",
    "\\sqrt{",
    "\\text{",
    "2^{",
    "\\left(",
    "f(",
    "g(x)+f(",
    "|",
    "x_{",
    "\\sin(",
    "-",
    "1+",
]
_CLOSED = {"(": ")", "[": "]", "\\{": "\\}", "\\left(": "\\right)", "|": "|", "-": "", "1+": ""}


@pytest.mark.parametrize("opening", NESTED)
def test_no_work_doubles_with_the_depth_of_nesting(checker: Checker, opening: str) -> None:
    """At fifty levels such work meets the deadline or the limit of memory, however high they are."""
    closing = _CLOSED.get(opening) if opening in _CLOSED else ")" if opening.endswith("(") else "}"
    for depth in (25, 50, 150, 600):
        text = opening * depth + "2" + str(closing) * depth
        for item in (GradeItem(f"\\boxed{{{text}}}", "12345"), GradeItem("\\boxed{12345}", text)):
            found = checker.grade(item)
            assert found.verdict not in ("timeout", "correct") and found.method != "fault", (depth, found)


def test_what_is_written_the_same_is_equal_however_huge(checker: Checker) -> None:
    assert checker.grade(GradeItem("\\boxed{10^{10^{10}}}", "10^{10^{10}}")).correct


@pytest.mark.parametrize("code", CODE)
def test_nothing_is_executed(checker: Checker, tmp_path: Path, code: str) -> None:
    canary = tmp_path / "canary"
    text = code.format(canary=canary)
    for prediction, gold in (
        (f"\\boxed{{{text}}}", "1"),
        (f"${text}$", "1"),
        (f"The answer is {text}", "1"),
        ("\\boxed{1}", text),
        (text, "x^2"),
    ):
        assert not checker.grade(GradeItem(prediction, gold)).correct
    assert not canary.exists()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_values_get_a_verdict_on_both_sides(checker: Checker, value: Any) -> None:
    for item in (GradeItem(value, "41"), GradeItem("\\boxed{41}", value), GradeItem(value, value)):
        found = checker.grade(item)
        assert isinstance(found, Grade)
        assert found.method != "fault", found
        found.answer.encode("utf-8")


def test_ten_megabytes_are_graded_by_their_end(checker: Checker) -> None:
    noise = "x+(1)\\{ $ " * 1_000_000
    assert checker.grade(GradeItem(noise + " so \\boxed{41}", "41")).correct
    assert checker.grade(GradeItem("1" * 10_000_000, "41")).verdict in ("wrong", "unparsed")
    assert not checker.grade(GradeItem("\\boxed{" + "7" * 10_000_000 + "}", "7")).correct
    assert not checker.grade(GradeItem("\\boxed{41}", "(" * 10_000_000)).correct


REPEATED = [
    "[asy]\\ndraw(A--B);", "\\boxed{", "$x$ ", "answer is ", "\\nQuestion: ", "<<1+1=2>>", "<think>", "Therefore ", "####",
    '{"answer": ', "x = 1, ", "1,", "\\left(", "\\text{", "答案是", "not A ", "\\begin{align}", "0.3", "**", "is 1, ",
]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_repetitions_of_200_kilobytes_are_graded_in_time(workers: int) -> None:
    """No pattern may be quadratic: each of these is far within the deadline, with one worker as with two."""
    golds = ("41", "\\text{east}", "C")
    items = [GradeItem(piece * (200_000 // len(piece)), gold) for piece in REPEATED for gold in golds]
    with Checker(workers=workers, deadline_s=30.0) as pool:
        grades = list(pool.grade_many(items))
    late = [
        (i.prediction[:20], g)
        for i, g in zip(items, grades, strict=True)
        if g.verdict == "timeout" or g.correct
    ]
    assert late == []


CHAINS = ["c m ", "1+", "x^", "x/", "-", "\\sin ", "\\sqrt{", "(1,", "\\frac{1}{"]


def test_hundreds_of_terms_in_a_row_never_break_a_decider() -> None:
    """Each version of Python follows nested terms to another depth (3.12 to the fewest); none may end in a fault."""
    chains = [
        piece * count + "x" + "}" * count * piece.count("{")
        for piece in CHAINS
        for count in (100, 400, 700, 1400)
    ]
    items = [
        GradeItem("\\boxed{" + c + end + "}", gold)
        for c in chains
        for end in ("", "°")
        for gold in ("5", "\\frac{1}{2}", c)
    ]
    with Checker(workers=2, deadline_s=30.0) as pool:
        grades = list(pool.grade_many(items))
    assert [grade for grade in grades if grade.method == "fault" or grade.verdict == "timeout"] == []


def test_soups_of_symbols_never_break_a_decider() -> None:
    """Random concatenations, through a pool that would kill a decider that hangs; none may time out or break."""
    draw = random.Random(7)
    soups = ["".join(draw.choice(PIECES) for _ in range(draw.randint(1, 60))) for _ in range(1500)]
    soups += [draw.choice(PIECES) * draw.randint(1, 2000) + draw.choice(PIECES) for _ in range(300)]
    golds = [
        "5",
        "\\frac{1}{2}",
        "(1,2)",
        "x^2+1",
        "\\text{Evelyn}",
        "[0,1)",
        "C",
        "3:4",
        "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
    ]
    items = [GradeItem(soup, draw.choice([*golds, soup])) for soup in soups] + [
        GradeItem("\\boxed{" + s + "}", draw.choice(soups)) for s in soups
    ]
    with Checker(workers=2, deadline_s=30.0) as pool:
        grades = list(pool.grade_many(items))
    assert len(grades) == len(items)
    assert [
        (item, grade)
        for item, grade in zip(items, grades, strict=True)
        if grade.method == "fault" or grade.verdict == "timeout"
    ] == []
    figures.count("answers of random symbols, seed 7", graded=len(grades))
