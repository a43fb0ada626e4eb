"""Properties over number formats: a gold answer equals itself however it is written and wherever it stands."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tests.search import examples
from undo_hpc.grading.decide import decide
from undo_hpc.grading.options import GradeItem
from undo_hpc.records import Grade

PLACES = (
    "{}",
    "${}$",
    "So it is \\boxed{{{}}}.",
    "\\boxed{{ {} }}",
    "We add them up.\n#### {}",
    "The answer is {}.",
    "The answer is ${}$.",
)
EASY = examples(150)


def correct(prediction: str, gold: str) -> bool:
    """Decided without algebra, and equal."""
    found = decide(GradeItem(prediction, gold))
    assert isinstance(found, Grade), (prediction, gold)
    return found.correct


def forms_of(value: Fraction) -> list[str]:
    """Ways to write a fraction whose decimal form ends."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    forms = [
        f"{value.numerator}/{value.denominator}",
        f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}",
    ]
    if value.denominator == 1:
        forms += [
            str(value),
            f"{value.numerator:,}",
            f"{value.numerator}.0",
            f"{value.numerator:,}".replace(",", "{,}"),
            f"{value.numerator:,}".replace(",", ",\\!"),
        ]
    else:
        forms.append(f"{sign}\\dfrac{{{size.numerator}}}{{{size.denominator}}}")
        whole, rest = divmod(size.numerator, size.denominator)
        if whole:
            forms.append(f"{sign}{whole}\\frac{{{rest}}}{{{size.denominator}}}")
    return forms


@EASY
@given(st.fractions(min_value=-(10**7), max_value=10**7, max_denominator=500), st.data())
def test_all_forms_of_a_number_are_one(value: Fraction, data: st.DataObject) -> None:
    forms = forms_of(value)
    gold, pred = data.draw(st.sampled_from(forms)), data.draw(st.sampled_from(forms))
    place = data.draw(st.sampled_from(PLACES))
    assert correct(place.format(pred), gold), (gold, pred, place)


@EASY
@given(st.decimals(min_value=-(10**6), max_value=10**6, places=3, allow_nan=False), st.sampled_from(PLACES))
def test_decimals_equal_themselves_and_their_fractions(value: object, place: str) -> None:
    text = str(value)
    fraction = Fraction(text)
    assert correct(place.format(text), text)
    assert correct(place.format(f"{fraction.numerator}/{fraction.denominator}"), text)


@EASY
@given(
    st.fractions(max_denominator=300, min_value=-1000, max_value=1000),
    st.fractions(max_denominator=300, min_value=-1000, max_value=1000),
)
def test_different_numbers_are_different(a: Fraction, b: Fraction) -> None:
    assert correct(
        f"\\boxed{{{a.numerator}/{a.denominator}}}", f"\\frac{{{b.numerator}}}{{{b.denominator}}}"
    ) is (a == b)


@EASY
@given(
    st.integers(-(10**6), 10**6),
    st.sampled_from(["cm", "dollars", "apples", "square feet", "miles per hour", "\\%", "^\\circ"]),
)
def test_a_unit_that_the_gold_leaves_out_does_not_matter(value: int, unit: str) -> None:
    written = f"{value}{unit}" if unit.startswith(("\\", "^")) else f"{value}\\text{{ {unit}}}"
    assert correct(f"\\boxed{{{written}}}", str(value))
    assert not correct(f"\\boxed{{{written}}}", str(value + 1))


@EASY
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_lists_have_no_order_and_tuples_have_one(values: list[int], shuffler: object) -> None:
    other = list(values)
    shuffler.shuffle(other)  # type: ignore[attr-defined]
    gold, pred = ", ".join(map(str, values)), ", ".join(map(str, other))
    assert correct(f"\\boxed{{{pred}}}", gold)
    assert correct(f"\\boxed{{\\{{{pred}\\}}}}", f"\\{{{gold}\\}}")
    assert correct(f"\\boxed{{({pred})}}", f"({gold})") is (values == other)


@EASY
@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=5), st.lists(st.integers(-9, 9), min_size=2, max_size=5)
)
def test_polynomials_are_equal_exactly_when_their_coefficients_are(a: list[int], b: list[int]) -> None:
    def written(coefficients: list[int]) -> str:
        return " + ".join(f"({c})x^{{{i}}}" if i else f"({c})" for i, c in enumerate(coefficients))

    size = max(len(a), len(b))
    same = a + [0] * (size - len(a)) == b + [0] * (size - len(b))
    assert correct(f"\\boxed{{{written(b)}}}", written(a)) is same
