"""Paired statistics against scipy 1.17 and statsmodels 0.15 (values with their calls) or against counting everything."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

from undo_hpc.method.crossed import detectable
from undo_hpc.method.paired import (
    bootstrap_interval,
    compare_arms,
    exchanged,
    holm,
    maj_at_k,
    null_splits,
    resampled,
    stratified_mcnemar,
)
from undo_hpc.method.stats import paired_detectable_difference


def test_holm() -> None:
    # statsmodels.stats.multitest.multipletests(p, method="holm")[1]
    for given, expected in {
        (0.01, 0.04, 0.03, 0.005): [0.03, 0.06, 0.06, 0.02],
        (0.2, 0.01, 0.5): [0.4, 0.03, 0.5],
        (0.04, 0.04, 0.04): [0.12, 0.12, 0.12],
        (): [],
    }.items():
        assert holm(given) == pytest.approx(expected)


def test_mcnemar_over_strata_is_the_binomial_test_of_their_sum() -> None:
    # scipy.stats.binomtest(3, 13, 0.5).pvalue, binomtest(25, 65, 0.5).pvalue
    assert stratified_mcnemar([(6, 1), (4, 2)]) == pytest.approx(0.09228515625)
    assert stratified_mcnemar([(20, 30), (5, 10)]) == pytest.approx(0.08168153394154003)
    assert stratified_mcnemar([]) == 1.0
    # by counting: every way that the discordant pairs of two strata can fall
    falls = list(itertools.product((0, 1), repeat=3 + 4))
    as_far = [f for f in falls if abs(sum(f) - 3.5) >= abs(6 - 3.5)]
    assert stratified_mcnemar([(3, 0), (3, 1)]) == pytest.approx(len(as_far) / len(falls))


@pytest.mark.parametrize(
    ("n", "psi", "expected"),
    [(1000, 0.2, 0.039573706615452675), (400, 0.1, 0.04416652198516204), (50, 0.3, 0.21193193483662412)],
)
def test_the_detectable_difference_solves_connors_equation(n: int, psi: float, expected: float) -> None:
    # scipy.optimize.brentq(lambda d: sqrt(n)*d - norm.ppf(.975)*sqrt(psi) - norm.ppf(.8)*sqrt(psi - d*d), 0, sqrt(psi))
    assert paired_detectable_difference(n, psi) == pytest.approx(expected)


def test_a_difference_of_the_detectable_size_is_found_in_about_four_of_five_trials() -> None:
    n, psi = 600, 0.2
    d = paired_detectable_difference(n, psi)
    rng = random.Random(1)
    shares = [(psi + d) / 2, (psi - d) / 2, 1 - psi]
    found = 0
    for _ in range(400):
        kinds = rng.choices((1, -1, 0), shares, k=n)
        found += stratified_mcnemar([(kinds.count(1), kinds.count(-1))]) < 0.05
    assert 0.7 < found / 400 < 0.88  # the exact test is a little less powerful than the normal one
    assert paired_detectable_difference(3, 0.5) == 1.0
    assert paired_detectable_difference(1000, 0.0) < 0.01
    with pytest.raises(ValueError, match="at least 1"):
        paired_detectable_difference(0, 0.1)


def scores(table: list[list[float]], names: str = "") -> dict[int, dict[str, float]]:
    """Scores by seed (a row each) and problem."""
    return {
        seed: {names[k : k + 1] or f"p{k}": float(value) for k, value in enumerate(row)}
        for seed, row in enumerate(table)
    }


def test_the_bootstrap_of_one_seed_is_scipys() -> None:
    # scipy.stats.bootstrap((x,), np.mean, n_resamples=100000, method="percentile", rng=0).confidence_interval: 0.17 to 0.42
    x = [1, 0, 0, 1, 1, -1, 0, 1, 0, 0, 1, 0, -1, 0, 1, 0, 0, 0, 1, 1] * 5
    a, b = scores([x]), scores([[0] * len(x)])
    assert bootstrap_interval(a, b) == pytest.approx((0.17, 0.42), abs=0.011)
    assert bootstrap_interval(a, b) == bootstrap_interval(a, b), "the same each time"


def test_the_bootstrap_draws_problems_and_seeds() -> None:
    values = {(0, "a"): 1.0, (0, "b"): 0.0, (0, "c"): -1.0, (1, "a"): 1.0, (1, "b"): 1.0, (1, "c"): 0.0}
    means = [
        np.mean([values[seed, problem] for problem in problems for seed in seeds])
        for problems in itertools.product("abc", repeat=3)
        for seeds in itertools.product((0, 1), repeat=2)
    ]
    expected = [float(value) for value in np.quantile(means, [0.18, 0.82])]
    a, b = scores([[1, 0, -1], [1, 1, 0]], "abc"), scores([[0, 0, 0], [0, 0, 0]], "abc")
    assert list(bootstrap_interval(a, b, level=0.64)) == pytest.approx(expected, abs=0.01)


def test_repeating_the_same_answers_under_other_seeds_adds_no_certainty() -> None:
    rng = random.Random(3)
    one = [rng.choice((1, 0, 0, -1)) for _ in range(80)]
    nothing = scores([[0] * 80] * 5)
    alone, five = (compare_arms(scores([one] * seeds), nothing) for seeds in (1, 5))
    assert (five.low, five.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert bootstrap_interval(scores([one] * 5), nothing) == pytest.approx(
        bootstrap_interval(scores([one]), nothing), abs=0.02
    )


def test_two_arms_are_compared_on_what_both_have() -> None:
    a = {0: {"x": 1.0, "y": 1.0, "z": 0.0}, 1: {"x": 1.0, "y": 0.0}, 2: {"x": 1.0}}
    b = {0: {"x": 0.0, "y": 1.0, "w": 1.0}, 1: {"x": 0.0, "y": 1.0}}
    found = compare_arms(a, b)
    assert (found.items, found.problems, found.seeds) == (4, 2, 2)
    assert (found.wins, found.losses, found.mean) == (2, 1, 0.25)
    assert found.by_seed == {0: 0.5, 1: 0.0} and found.discordant == 0.75
    assert found.low < found.mean < found.high and found.mcnemar == 1.0 and found.p > 0.05
    assert found.error > 0 and detectable(found.error, found.freedom) > 10
    assert (found.low, found.high, found.detectable()) == (-1.0, 1.0, 1.0), "accuracies differ by no more"
    many = compare_arms(
        *({k: {f"{n}": float(n % m == 0) for n in range(60)} for k in range(4)} for m in (3, 4))
    )
    assert many.detectable() == pytest.approx(detectable(many.error, many.freedom))
    assert 1 > many.detectable(0.01) > many.detectable() > many.error > 0
    same = compare_arms(a, a)
    assert (same.mean, same.p) == (0.0, 1.0) and same.high == -same.low == pytest.approx(0.975), "one problem"
    assert same.detectable() == paired_detectable_difference(2, 0.0)
    back = compare_arms(b, a)
    assert (back.mean, back.wins, back.losses) == (-0.25, 1, 2)
    for other in ({1: {"x": 1.0}}, {0: {"y": 1.0}}, {}):
        with pytest.raises(ValueError, match="share no item"):
            compare_arms({0: {"x": 1.0}}, other)


def test_an_arm_is_split_against_itself() -> None:
    arm = {seed: {"x": float(seed)} for seed in (3, 5, 7, 8, 9)}
    splits = null_splits(arm)
    assert len(splits) == 15  # 5 choose 2, 3 choose 2, each pair once
    groups = {frozenset(frozenset(half[k]["x"] for k in half) for half in split) for split in splits}
    assert len(groups) == 15 and all(not frozenset.intersection(*pair) for pair in groups)
    assert all(set(a) == set(b) == {0, 1} for a, b in splits)
    assert null_splits({0: {"x": 1.0}}) == [] == null_splits({})


def test_noise_between_seeds_is_seldom_taken_for_a_difference_and_a_difference_mostly_found() -> None:
    rng = random.Random(5)
    talent = {f"p{k}": rng.random() for k in range(300)}

    def student(skill: float) -> dict[str, float]:
        level = skill + rng.gauss(0, 0.01)  # seeds differ
        return {
            key: float(rng.random() < min(1.0, max(0.0, level + 0.6 * (t - 0.5))))
            for key, t in talent.items()
        }

    null = found = 0
    for _ in range(20):
        arms = [{seed: student(skill) for seed in range(5)} for skill in (0.5, 0.5, 0.58)]
        same, better = (compare_arms(arm, arms[0]) for arm in arms[1:])
        null += same.p < 0.05
        found += better.low > 0
        assert (better.p < 0.05) == (better.low > 0)
    assert null <= 2 and found >= 17


def test_a_majority_is_of_the_answers() -> None:
    answers = [("7", False), ("1/2", True), ("0.5", True), ("7", False), ("", False), ("7", False)]
    assert [maj_at_k(answers, k) for k in range(1, 7)] == [0.0, 0.5, 1.0, 0.5, 0.5, 0.0]
    assert maj_at_k([("", False)] * 3, 3) == 0.0
    for k in (0, 7):
        with pytest.raises(ValueError, match="not defined"):
            maj_at_k(answers, k)
    # by counting: each answer that no other outvotes is taken equally often
    rng = random.Random(0)
    for _ in range(50):
        drawn = [(name, name == "r") for name in rng.choices("rab", k=5)]
        names = [name for name, _ in drawn]
        ahead = [n for n in set(names) if all(names.count(n) >= names.count(m) for m in names)]
        assert maj_at_k(drawn, 5) == pytest.approx(("r" in ahead) / len(ahead))


def test_numpy_is_loaded_only_where_it_is_used() -> None:
    code = "import sys, undo_hpc.method.paired; print('numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )


def test_resampling_finds_what_is_there_and_not_what_is_not() -> None:
    rng = random.Random(3)
    keys = [f"p{i}" for i in range(400)]

    def arm(share: float) -> dict[int, dict[str, float]]:
        return {seed: {key: float(rng.random() < share) for key in keys} for seed in range(5)}

    better, worse = arm(0.6), arm(0.5)
    shown = resampled(better, worse)
    assert len(shown) == 20 and sum(d.low > 0 for d in shown) >= 19
    assert shown[0].problems == 400 and shown[0].seeds == 5, "as many as there were, whatever was drawn twice"
    assert resampled(better, worse, times=2) == resampled(better, worse, times=2)


def test_two_arms_whose_names_mean_nothing_are_seldom_told_apart() -> None:
    """Also where by chance one has turned out better under three of five seeds: exchanged, that is noise between seeds."""
    rng = random.Random(4)
    arms = [
        {
            seed: {f"p{i}": float(rng.random() < share) for i in range(200)}
            for seed, share in enumerate(shares)
        }
        for shares in ((0.58, 0.55, 0.60, 0.42, 0.58), (0.5, 0.56, 0.5, 0.56, 0.52))
    ]
    assert sum(d > 0 for d in compare_arms(*arms).by_seed.values()) == 3
    again = exchanged(arms[0], arms[1])
    assert len(again) == 20 and {d.mean > 0 for d in again} == {True, False}
    assert sum(d.p < 0.05 for d in again) <= 1
    assert again == exchanged(arms[0], arms[1])


def test_the_interval_of_items_that_are_all_alike_holds_the_truth_whatever_the_seeds() -> None:
    """One problem in 15 is answered otherwise, under each seed: where none of these was drawn, the interval still has room for them."""
    a = {s: {f"{k}": 0.0 for k in range(50)} for s in range(8)}
    chance_of_none = (1 - 1 / 15) ** 50
    assert chance_of_none > 0.025 and compare_arms(a, a).high > 1 / 15


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("problems", [1, 2, 5, 6, 7, 30])
@pytest.mark.parametrize("share", [1 / 3, 0.1, 5 / 6, 1.0, 0.0])
def test_where_all_items_differ_alike_nothing_is_claimed_of_their_spread(
    seeds: int, problems: int, share: float
) -> None:
    """Thirds have a mean beside them, and so a spread of rounding: p was 1e-32 for one problem. An interval of no width was shown."""
    a = {s: {f"{k}": share for k in range(problems)} for s in range(seeds)}
    found = compare_arms(a, {s: dict.fromkeys(a[s], 0.0) for s in a})
    p, of_items = (min(1.0, 2 * 0.5**n) if share > 0.5 else 1.0 for n in (problems, seeds * problems))
    assert found.error == 0.0 and found.p == pytest.approx(p) and found.mcnemar == pytest.approx(of_items)
    unseen = 1 - 0.025 ** (1 / problems)
    assert (found.low, found.high) == pytest.approx(
        (share - (1 + share) * unseen, share + (1 - share) * unseen)
    )
    assert -1 <= found.low <= share <= found.high <= 1
    if share == 1.0:
        assert (found.low > 0) == (found.p < 0.05), "interval and test say the same"
