"""Statistics against textbook values, and against slow definitions."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.method.stats import (
    clustered_interval,
    mcnemar,
    paired_detectable_difference,
    pass_at_k,
    smallest_detectable_difference,
    wilson,
)


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


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_one_answer_a_problem_is_wilson(right: list[bool]) -> None:
    assert clustered_interval([(int(r), 1) for r in right]) == pytest.approx(wilson(sum(right), len(right)))


@given(st.lists(st.booleans(), min_size=2, max_size=60), st.integers(1, 8))
def test_samples_that_agree_tell_no_more_than_one(right: list[bool], samples: int) -> None:
    told = clustered_interval([(samples * r, samples) for r in right])
    assert told == pytest.approx(wilson(sum(right), len(right)))


def test_the_clustered_error_is_miller_s() -> None:
    """Equation 4 of arXiv 2411.00640, with its sum over pairs of one cluster."""
    rng = random.Random(3)
    clusters = [[rng.random() < rng.choice((0.2, 0.9)) for _ in range(4)] for _ in range(500)]
    scores = [s for mine in clusters for s in mine]
    n, mean = len(scores), sum(scores) / len(scores)
    independent = sum((s - mean) ** 2 for s in scores) / n**2
    pairs = sum(
        (mine[i] - mean) * (mine[j] - mean) for mine in clusters for i in range(4) for j in range(4) if i != j
    )
    error = math.sqrt(independent + pairs / n**2)
    low, high = clustered_interval([(sum(mine), 4) for mine in clusters])
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.01)
    assert (low, high) != pytest.approx(wilson(sum(scores), n), abs=1e-3), "as if all were independent"


def test_the_clustered_interval_covers() -> None:
    """Nine problems of ten are always or never solved: 95 of 100 intervals hold the true share, Wilson's over all answers does not."""
    rng, held, naive = random.Random(1), 0, 0
    for _ in range(600):
        clusters = []
        for _ in range(80):
            chance = rng.choice((0.02, 0.98))
            clusters.append((sum(rng.random() < chance for _ in range(8)), 8))
        low, high = clustered_interval(clusters)
        held += low <= 0.5 <= high
        low, high = wilson(sum(right for right, _ in clusters), 640)
        naive += low <= 0.5 <= high
    assert 0.92 <= held / 600 <= 0.98 and naive / 600 < 0.75


def test_the_clustered_interval_of_nothing_and_of_nonsense() -> None:
    assert clustered_interval([]) == (0.0, 1.0)
    assert clustered_interval([(4, 4)] * 10) == wilson(10, 10) and clustered_interval([(1, 2)] * 5) == wilson(
        5, 10
    )
    with pytest.raises(ValueError, match="between 0 and all"):
        clustered_interval([(3, 2)])


def exact_power(n: int, psi: float, d: float) -> float:
    """Chance of p < 0.05 by enumeration: b items of the one kind, c of the other, with chances (psi + d)/2 and (psi - d)/2."""
    up, down = (psi + d) / 2, (psi - d) / 2
    power = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            if mcnemar(b, c) < 0.05:
                ways = (
                    math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) - math.lgamma(n - b - c + 1)
                )
                logs = [k * math.log(q) if k else 0.0 for k, q in ((b, up), (c, down), (n - b - c, 1 - psi))]
                power += math.exp(ways + sum(logs))
    return power


@pytest.mark.parametrize(("n", "psi"), [(60, 0.4), (120, 0.2), (120, 0.5)])
def test_the_paired_difference_is_found_about_four_times_in_five(n: int, psi: float) -> None:
    d = paired_detectable_difference(n, psi)
    assert 0.68 <= exact_power(n, psi, d) <= 0.85, "the exact test needs a little more than the normal one"
    assert exact_power(n, psi, min(psi - 1e-9, 1.15 * d)) > 0.8 > exact_power(n, psi, 0.8 * d)


@pytest.mark.parametrize(("psi", "d"), [(0.3, 0.1), (0.1, 0.05), (0.5, 0.2)])
def test_the_paired_difference_inverts_connor_s_number_of_pairs(psi: float, d: float) -> None:
    z = NormalDist().inv_cdf
    n = ((z(0.975) * math.sqrt(psi) + z(0.8) * math.sqrt(psi - d * d)) / d) ** 2
    assert paired_detectable_difference(math.ceil(n), psi) == pytest.approx(d, rel=0.02)


@given(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 500))
def test_the_paired_difference_shrinks_with_n_and_grows_with_what_differs(
    n: int, psi: float, more: int
) -> None:
    d = paired_detectable_difference(n, psi)
    assert 0 < d <= 1
    assert paired_detectable_difference(n + more, psi) <= d + 1e-9
    assert paired_detectable_difference(n, min(1.0, psi + 0.1)) >= d - 1e-9


def test_too_few_problems_for_any_difference() -> None:
    assert paired_detectable_difference(3, 0.3) == 1.0
    with pytest.raises(ValueError, match="discordant"):
        paired_detectable_difference(0, 0.3)
