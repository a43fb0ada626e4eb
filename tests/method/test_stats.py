"""Statistics against textbook values, and against slow definitions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.method.stats import mcnemar, pass_at_k, smallest_detectable_difference, wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_values(correct: int, n: int, low: float, high: float) -> None:
    """81 of 263 is Newcombe's (1998) example; the others follow by hand."""
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share(case: tuple[int, int]) -> None:
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1


def test_wilson_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(11, 10)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * tail), rel=1e-12)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_with_large_counts() -> None:
    assert mcnemar(3000, 3000) == 1.0
    p = mcnemar(3000, 3300)  # z = (300 - 1) / sqrt(6300) with the continuity correction
    assert p == pytest.approx(math.erfc(299 / math.sqrt(6300) / math.sqrt(2)), rel=0.02)
    assert 0 <= mcnemar(0, 5000) < 1e-300


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 2), (6, 6, 2), (4, 1, 4)])
def test_pass_at_k_counts_subsets(n: int, c: int, k: int) -> None:
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_refuses_more_than_there_are() -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(4, 2, 5)


def test_smallest_detectable_difference() -> None:
    assert smallest_detectable_difference(500, 0.5) == pytest.approx(0.0886, abs=1e-4)
    assert smallest_detectable_difference(2000, 0.5) == pytest.approx(0.0443, abs=1e-4)
    for extreme in (0.0, 1.0):  # 0 of 8 against 4 of 8 is no evidence
        assert smallest_detectable_difference(8, extreme) > 0.5
