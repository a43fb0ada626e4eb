"""No answer is right for two truths: equality of answers is transitive, but for what an answer may leave out (see ACCEPTED).

An answer that is right for many truths is worth nothing as an answer, and a model that learns to write it looks good: this searches for such.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.grading.forms import FORMS
from tests.grading.own_cases import BOX, CASES
from tests.search import FUZZ, examples
from undo_hpc.grading import values as typed
from undo_hpc.grading.decide import compare, decide
from undo_hpc.grading.equality import equal
from undo_hpc.grading.families import RESIDUES
from undo_hpc.grading.identity import rounded
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.relations import read
from undo_hpc.grading.values import substitute, symbols
from undo_hpc.records import Grade

# Answers that were right for several of these truths, or that look like it; each may be right for one of them at most.
HUBS = [
    (".5", ("5", "0.5")),
    (r"3 \approx 4", ("3", "4")),
    (r"3 \sim -3", ("3", "-3")),
    ("≈".join(map(str, range(30))), tuple(map(str, range(30)))),
    (r"1 = 2 \approx 3", ("1", "2", "3")),
    (r"x = 1 \approx 3", ("1", "x = 3")),
    (r"(1 \approx 2, 3 \approx 4)", ("(1,3)", "(1,4)", "(2,3)", "(2,4)")),
    (r"x+1 \approx x-1", ("x+1", "x-1")),
    (r"A \approx B \approx C", ("A", "B", "C")),
    (r"5 \text{ km} \approx 7 \text{ km}", (r"5 \text{ km}", r"7 \text{ km}")),
    (r"1.2 \approx 1.3 \approx 1.4", ("1.2", "1.3", "1.4")),
    (r"100 \approx 200", ("100", "200")),
    (r"\approx 0.3", ("0.3", r"\frac{1}{3}", r"\frac{2}{7}")),
    ("c_1", ("A", "B", "C", "k", "K", "D")),
    ("c_1/2", ("A/2", "k/2")),
    (r"x < 5\%", (r"\emptyset", "x < 0.05", "x < 5")),
    (r"x < f(3)", (r"\emptyset", "x < f(4)", "(2,1)")),
    (r"x < i", (r"\emptyset", "x > i", "(2,1)")),
    (r"x < 10^{10^{20}}", (r"\emptyset", "(2,1)")),
    ("x > x", ("(2,1)", "(5,3)", "(7,0)", "[2,1]", "(2,2)")),
    (r"n^2 \ne \sqrt2", (r"\mathbb{Z}", r"\mathbb{R}")),
    ("(5, \\infty)", (r"n \ge 6, n \in \mathbb{Z}", "x > 5")),
    (r"\mathbb{R}^+", (r"\text{any positive integer } n", "(0,\\infty)")),
    ("e^{-1000}", ("0", "e^{-1001}", "2e^{-1000}")),
    ("xe^{-1000}", ("0", "xe^{-1001}")),
    (r"\begin{cases} 1 & \text{otherwise} \\ 2 & \text{otherwise} \end{cases}",
     (r"\begin{cases} 1 & x>0 \\ 2 & x \le 0 \end{cases}", r"\begin{cases} 1 & x \le 0 \\ 2 & x>0 \end{cases}")),
    (r"\begin{cases} 1 & \text{if p} \\ 2 & \text{if q} \end{cases}",
     (r"\begin{cases} 1 & x>0 \\ 2 & x \le 0 \end{cases}", r"\begin{cases} 1 & x \le 0 \\ 2 & x>0 \end{cases}")),
    (r"\text{1 if odd, 2 if even}", (r"\text{1 if even, 2 if odd}", r"\text{1 if odd, 2 if even}")),
    ("xy - y = 0", ("(y-5)(x-1) = 0", "xy = y")),
    (r"n \in \mathbb{Z}", (r"\mathbb{R}", r"\mathbb{Z}", r"(-\infty,\infty)")),
    (r"n \text{ integer}", ("A", "k", "x", "x+1", "-x", "f(x)=x", "y=x", r"\theta")),
    (r"f(x)=c, c\in\mathbb{R}", ("A", "x", "f(x)=x", "y=x", "a")),
    (r"2n+1, n\in\mathbb{Z}", ("2n-1", "f(n)=2n+1", "y=2x+1", "2A+1")),
    (r"m+n\text{ integers}", ("xy", "x+y", "n+k", "a-b", "x^2+C")),
    ("|x|<200", ("x<200", "(-200,200)")),
    ("|x|>1000", ("x>1000", r"x>1000 \text{ or } x<-1000")),
    ("x^2<10^6", (r"\mathbb{R}", "(-1000,1000)", "x<1000")),
    ("x^2>10^6", (r"\emptyset", "x>1000", r"x>1000 \text{ or } x<-1000")),
    (r"\sqrt{x}>50", ("x>2500", r"\emptyset")),
    (r"\ln x>10", ("x>e^{10}", r"\emptyset", "x>22026")),
    (r"2^x>10^9", (r"x>\log_2 10^9", r"\emptyset", "x>30")),
    (r"\sqrt[3]{x}<-20", ("x<-8000", r"\emptyset")),
    ("(x-300)(x-301)<0", ("300<x<301", r"\emptyset")),
    (r"(x-300)^2(x-5)>0", ("x>5", r"x>5, x \ne 300")),
    (r"\frac1x<0.001", ("x<0", r"x>1000 \text{ or } x<0", "x>1000")),
    (r"\frac{1}{x^2}<10^{-10}", (r"\emptyset", r"\mathbb{R}", "x>10^5")),
    (r"||x|-500|\le0", (r"\emptyset", r"\{-500,500\}", r"\{500\}")),
    ("(x^2-2)^2>0", (r"\mathbb{R}", r"x \ne \pm\sqrt2")),
    (r"x\ge10^{30}", (r"x \ge 10^{30}-1", r"10^{30} \le x", r"x \ge 10^{30}+1")),
    ("x>e^{-100}", ("x>0", "-100<\\ln x")),
    (r"0\le n\le 7, n\in\mathbb{Z}", ("[0,7]", r"\{0,1,2,3,4,5,6,7\}", r"\{0,1,2,3,4,5,6\}")),
    (r"x \sin x<10^6", (r"\mathbb{R}", "x<10^6")),
    (r"f(a)=a", ("f(x)=x", r"f(x)=c, c\in\mathbb{R}", "f(x)=k")),
    (r"e^x \ge 10^{-30}", (r"\mathbb{R}", r"x \ge -30\ln 10")),
    (r"x \ge 2+\infty", ("(2,1)", r"\emptyset", "(5,3)")),
    (r"3 \text{ squared}", ("3", "9")),
    (r"3 \text{ fifths}", ("3", "3/5")),
    (r"3 \text{ below zero}", ("3", "-3")),
    (r"3 \text{ thousands}", ("3", "3000")),
    (r"3\text{i}", ("3", "3i")),
    (r"3\% \text{ increase}", (r"3\% \text{ decrease}", r"3\% \text{ loss}")),
    (r"3 \text{ units}^2", (r"3 \text{ units}^3", r"3 \text{ cm}^2", r"3 \text{ cm}")),
    (r"x+2, x \ne 1", (r"x+2, x \ne 3", "x+2, x > 1", "x+2", r"\begin{cases} x+2 & x > 1 \\ 2x & x \le 1 \end{cases}")),
    (r"x, x > 0", ("|x|", "x > 0", "x")),
    ("f(x) = x+2", ("f(1) = 3", "f(2) = 4", "x+2")),
    (r"P(A|B) = 1/3", ("P(B|A) = 1/3", "P(A|B) = 1/3")),
    (r"\gcd(m,n) = 6", (r"\operatorname{lcm}(m,n) = 6", r"\max(m,n) = 6", "6")),
    (r"60 \frac{\text{km}}{\text{h}}", (r"60 \text{ m/s}", r"60 \text{ km}", "60")),
    (r"\$3 \text{ million}", (r"\$3", "3", r"\$3000000")),
    (r"x \equiv 3 \pmod 5", ("g(x) = 5x-2", r"n = 5k+3, k \in \mathbb{Z}")),
]  # fmt: skip


def right(answer: str, truth: str) -> bool:
    """Whether the answer in a box is right, without algebra."""
    found = decide(GradeItem(f"So it is \\boxed{{{answer}}}.", truth))
    return isinstance(found, Grade) and found.correct


@pytest.mark.parametrize(("answer", "truths"), HUBS)
def test_an_answer_is_right_for_one_truth(answer: str, truths: tuple[str, ...]) -> None:
    assert sum(right(answer, truth) for truth in truths) <= 1


# -- what an answer may leave out, or round: then it is right for truths that differ in just that
def core(value: Any) -> Any:
    """What stays of a truth without its unit, names, brackets, modulus or base."""
    if isinstance(value, typed.Quantity):
        return core(value.value)
    if isinstance(value, typed.About):
        return core(value.values[-1])
    if isinstance(value, typed.Solutions):
        return core(typed.Items("", tuple(item for row in value.rows for item in row)))
    if isinstance(value, typed.Items):
        parts = [core(item) for item in value.items]
        flat = [p for part in parts for p in (part.items if isinstance(part, typed.Items) else (part,))]
        return flat[0] if len(flat) == 1 else typed.Items("", tuple(flat))
    if isinstance(value, typed.Family) and value.domains == RESIDUES:
        return core(typed.Items("", tuple(typed.Expression(item[0][1]) for item in value.items)))
    if isinstance(value, typed.Region):
        return value._replace(name="")
    if isinstance(value, typed.Named) and value.name.startswith("base "):
        return core(read(value.operands[0].words))
    if isinstance(value, typed.Cases) and len(value.rows) == 1:  # x+1, x > 0
        return core(value.rows[0][0])
    if isinstance(value, typed.Ratio) and len(value.items) == 2:
        return typed.Expression(("div", value.items[0].node, value.items[1].node))
    return value


def _numbers(*texts: str) -> list[Any]:
    return [getattr(core(read(text)), "node", typed.num(0)) for text in texts]


def _times(answer: str, a: str, b: str, factor: Any) -> bool:
    x, y = _numbers(a, b)
    return any(equal(typed.Expression(("mul", p, factor)), typed.Expression(q)) for p, q in ((x, y), (y, x)))


def _sides(answer: str) -> list[Any]:
    value = read(answer)
    return [v.node for v in value.values if hasattr(v, "node")] if isinstance(value, typed.About) else []


def _member(family: typed.Family, text: str) -> bool:
    """Whether a text is an expression of the family as it stands, but for the letter of its parameter."""
    value = read(text)
    named = min(symbols(value), default="") if isinstance(value, typed.Expression) else ""
    items = (substitute(item[0], ("sym", family.domains[0][0]), ("sym", named)) for item in family.items)
    return equal(core(family), value) or any(equal(typed.Expression(item), value) for item in items)


def _unnamed(text: str) -> Any:
    value = read(text)
    return value._replace(label="") if isinstance(value, typed.Family) else value


ACCEPTED: dict[str, Callable[[str, str, str], bool]] = {
    "a unit, a name, brackets, a modulus or a base may be left out": lambda answer, a, b: equal(core(read(a)), core(read(b))),
    "a share may be written as its percentage": lambda answer, a, b: (
        "%" in answer + a + b or "percent" in answer) and _times(answer, a, b, typed.num(Fraction(1, 100))),
    "the sign for degrees may be left out": lambda answer, a, b: _times(answer, a, b, ("const", "degree")),
    "a value may be given with its unit, and the unit be another one": lambda answer, a, b: (
        isinstance(core(read(answer)), typed.Expression)
        and any(isinstance(v, typed.Quantity) for v in (read(answer), *getattr(read(answer), "values", ())))
        and isinstance(read(a), typed.Quantity) is not isinstance(read(b), typed.Quantity)
    ),
    "a side of an approximation, and a long decimal, may be rounded": lambda answer, a, b: (
        rounded(*_numbers(a, b)) or any(all(rounded(n, side) for n in _numbers(a, b)) for side in _sides(answer))
    ),
    "the domain of a parameter, or the modulus of a residue, may be left out": lambda answer, a, b: (
        isinstance(read(answer), typed.Family) and (any(_member(read(answer), text) for text in (a, b)) or equal(_unnamed(a), _unnamed(b)))
    ),
    "a name may be left out of an equation": lambda answer, a, b: (
        isinstance(read(answer), typed.Solutions) and any(isinstance(read(text), typed.Relation) for text in (a, b))
    ),
    "a time of day may be a fraction": lambda answer, a, b: any(isinstance(read(text), typed.Clock) for text in (a, b)),
    "a unit of one letter may be a name": lambda answer, a, b: bool(re.search(r"\d[a-z]$", a + " " + b) or re.search(r"\d[a-z] ", a + " " + b)),
    "integers may go without saying": lambda answer, a, b: bool(re.search(r"\b[kmnN]\b", answer)) and all(
        isinstance(v, typed.Region) or typed.Expression(("const", "infty")) in getattr(v, "items", ()) for v in (read(a), read(b))),
    "the base of a logarithm goes without saying": lambda answer, a, b: "\\log " in answer,
    "an arbitrary constant has any name": lambda answer, a, b: "f(" in answer or bool(re.search(r"_1|C", answer) and symbols(read(a)) & symbols(read(b))),
    "a letter with its value": lambda answer, a, b: any(re.fullmatch("[A-Z]", text) for text in (a, b)),
    "a comma may part thousands": lambda answer, a, b: answer.replace(",", "").isdigit(),
}  # fmt: skip


def accepted(answer: str, a: str, b: str) -> bool:
    """Whether this answer may be right for both truths."""
    same = compare(a, b), compare(b, a)
    return any(isinstance(s, Grade) and s.correct for s in same) or any(
        rule(answer, a, b) for rule in ACCEPTED.values()
    )


NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "-3",
    "5",
    "12",
    "100",
    "0.5",
    "3.14",
    "2.6",
    "1/3",
    r"\frac{22}{7}",
    r"\sqrt{2}",
    r"\pi",
    "10^{6}",
    r"\infty",
]
LETTERS = [
    "A",
    "B",
    "C",
    "D",
    "k",
    "x",
    "n",
    "c_1",
    "C",
    "yes",
    "no",
    r"\text{odd}",
    r"\text{even}",
    r"\text{Tuesday}",
]
MEASURED = [
    r"5 \text{ units}^2",
    r"7 \frac{\text{km}}{\text{h}}",
    r"50\% \text{ increase}",
    r"3 \text{ squared}",
    r"2 \text{ thirds}",
    r"\$3 \text{ million}",
    "75¢",
    "1/2 cup",
    r"5 \text{ km}",
    r"7 \text{ km}",
    r"3 \text{ apples}",
    r"50\%",
    r"7\%",
    r"60^\circ",
    r"\$4.50",
    "3:4",
    "12:30",
    "25_7",
]
SETS = [
    "(1,2)",
    "(2,1)",
    "[0,1)",
    r"\{1,2\}",
    "1, 2",
    r"\emptyset",
    r"\mathbb{R}",
    r"\mathbb{Z}",
    r"(0,\infty)",
    r"\pm 2",
    "(3,1,2)",
]
RELATIONS = [
    "x+1, x>2",
    r"x^2, x \ne 1",
    "y(x)=2x",
    "P(A|B)=1/3",
    "x>2",
    r"x \le 3",
    r"x \ne 1",
    "x=3",
    "x^2+y^2=1",
    r"n \equiv 3 \pmod 7",
    r"k\pi, k\in\mathbb{Z}",
    "y=2x",
    "f(x)=x^2",
]
EXPRESSIONS = [
    "x+1",
    "x-1",
    "2x",
    "x^2",
    "e^{-1000}",
    "2^n",
    "n!",
    r"\lfloor x \rfloor",
    "|x|",
    r"\ln x",
    "f(3)",
    "x_1+x_2",
]
PIECES = [r"\begin{cases} 1 & x>0 \\ 2 & x \le 0 \end{cases}", r"\begin{cases} 2 & x>0 \\ 1 & x \le 0 \end{cases}",
          r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"]  # fmt: skip
TRUTHS = [*NUMBERS, *LETTERS, *MEASURED, *SETS, *RELATIONS, *EXPRESSIONS, *PIECES]
SIGNS = [r"\text{ for }", r", x \ne ", r"\approx", r"\sim", r"\cong", r"\simeq", "≈", "=", r"\ne", "<", ">", r"\le", r"\ge", r"\in", r"\equiv", r"\to",
         r"\subset", ",", ";", r"\text{ or }", r"\text{ and }", r"\text{ to }", ":", "+", "-", r"\pm", r"\cdot", "/", "^", r"\cup", r"\cap", r"\setminus",
         "|", r"\bmod", "!", r"\%", " "]  # fmt: skip
PLACES = ["{}", "{}", "x = {}", r"\approx {}", "({})", r"\{{{}\}}", "[{}]", r"({}, {})", "{}, {}", r"{} \text{{ km}}", r"{}\%", r"{}^\circ",
          "x < {}", r"x \ne {}", r"n \ge {}, n \in \mathbb{{Z}}", r"\begin{{cases}} {} & \text{{otherwise}} \\ {} & \text{{otherwise}} \end{{cases}}",
          r"\begin{{cases}} {} & x>0 \\ {} & \text{{else}} \end{{cases}}", "f(x) = {}", "{} (mod 7)", r"{} + k\pi", "({}) {}", r"\sqrt{{{}}}",
          "{}_7", r"\text{{about }} {}", "c_1 {}", "|{}|", r"\frac{{{}}}{{{}}}"]  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[str]]:
    """An answer of several parts, and these parts, which may be truths too."""
    place = draw(st.one_of(st.just("{}"), st.sampled_from(PLACES)))
    parts = draw(st.lists(st.sampled_from(TRUTHS), min_size=2, max_size=4))
    sign = draw(st.sampled_from(SIGNS))
    return place.replace("{}", sign.join(f" {part} " for part in parts).strip()).replace("{{", "{").replace(
        "}}", "}"
    ), parts


@examples(300)
@given(answers())
def test_no_answer_is_right_for_two_truths(drawn: tuple[str, list[str]]) -> None:
    answer, parts = drawn
    others = TRUTHS if FUZZ else random.Random(answer).sample(TRUTHS, 25)
    chosen = dict.fromkeys([*parts, *(f"x = {part}" for part in parts), *others])
    hits = [truth for truth in chosen if right(answer, truth)]
    assert [(a, b) for a, b in combinations(hits, 2) if not accepted(answer, a, b)] == [], answer


def labelled() -> list[str]:
    """Both sides of all our labelled pairs, and the answers above."""
    before, after = BOX.split("%s")
    cases = [p.removeprefix(before).removesuffix(after) for _, _, p, _ in CASES if p.startswith(before)]
    texts = [*TRUTHS, *(g for _, g, _, _ in CASES), *cases, *(t for _, g, p, _ in FORMS for t in (g, p))]
    return list(dict.fromkeys(text for text in texts if len(text) < 200))


def test_equality_is_transitive() -> None:
    texts = labelled()
    draw = random.Random(FUZZ)
    chosen = sorted(draw.sample(texts, min(len(texts), FUZZ or 130)))
    equals: dict[str, list[str]] = {text: [] for text in chosen}
    for a, b in combinations(chosen, 2):
        found = compare(a, b)
        if isinstance(found, Grade) and found.correct:
            equals[a].append(b)
            equals[b].append(a)
    wrong = [
        (t, a, b) for t, near in equals.items() for a, b in combinations(near, 2) if not accepted(t, a, b)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text", [".5", "So we get .5", "The answer is .5.", "#### .5", r"\boxed{.5}", "It is $.5$."]
)
def test_a_point_in_front_of_a_number_belongs_to_it(text: str) -> None:
    right_for = [gold for gold in ("5", "0.5") if getattr(decide(GradeItem(text, gold)), "correct", False)]
    assert right_for == ["0.5"]


def test_an_option_with_a_point_is_another_one_than_that_without() -> None:
    chosen = decide(GradeItem("The answer is .5.", "B", "letter", ("5", ".5")))
    assert isinstance(chosen, Grade) and (chosen.correct, chosen.answer) == (True, "B")
