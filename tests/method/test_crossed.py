"""Means over seeds and problems against scipy 1.17 (values with their calls), against definitions, and by how often they claim falsely."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from undo_hpc.method.crossed import crossed, crossed_mean, detectable, t_quantile, t_tails


@pytest.mark.parametrize(
    ("q", "freedom", "expected"),
    [(0.975, 1, 12.706204736174694), (0.975, 4, 2.7764451051977934), (0.975, 6.4, 2.410314499647891), (0.9, 2.5, 1.7302509288071766),
     (0.99, 1000, 2.330082674755513)],
)  # fmt: skip
def test_quantiles_are_students(q: float, freedom: float, expected: float) -> None:
    assert t_quantile(2 * (1 - q), freedom) == pytest.approx(expected)  # scipy.stats.t.ppf(q, freedom)


def test_tails_are_students() -> None:
    # 2 * scipy.stats.t.sf(t, freedom)
    assert t_tails(2.0, 4) == pytest.approx(0.11611652351681556) == t_tails(-2.0, 4)
    assert t_tails(0.5, 1) == pytest.approx(0.7048327646991335)
    assert t_tails(9.0, 2.2) == pytest.approx(0.00891992290991913)


def test_one_seed_is_the_t_test_of_its_problems() -> None:
    # scipy.stats.ttest_1samp(x, 0): pvalue, confidence_interval()
    x = [1, 0, 0, 1, 1, -1, 0, 1, 0, 0, 1, 0, -1, 0, 1, 0, 0, 0, 1, 1]
    found = crossed_mean({(7, f"p{k}"): float(value) for k, value in enumerate(x)})
    assert found.p == pytest.approx(0.05525684313899276)
    assert found.interval() == pytest.approx((-0.007460512985089707, 0.6074605129850896))


def test_where_problems_add_nothing_it_is_the_t_test_of_the_seeds() -> None:
    # scipy.stats.ttest_1samp([0.5, 0, 0.8], 0)
    noise = [[0.1, -0.1, 0.0], [-0.1, 0.0, 0.1], [0.0, 0.1, -0.1]]
    found = crossed([[s + e for e in row] for s, row in zip((0.5, 0.0, 0.8), noise, strict=True)])
    assert found.freedom == pytest.approx(2)
    assert found.p == pytest.approx(0.2044129202292641)
    assert found.interval() == pytest.approx((-0.5706189702748745, 1.4372856369415412))


def test_variance_and_freedom_are_those_of_the_two_way_model() -> None:
    table = [[1, 0, 1, 1, 0, 0], [0, -1, 1, 1, 0, -1], [1, 1, 0, 1, 1, 1]]
    by_seed = [statistics.fmean(row) for row in table]
    by_problem = [statistics.fmean(column) for column in zip(*table, strict=True)]
    mean = statistics.fmean(by_seed)
    rest = [
        (table[s][p] - by_seed[s] - by_problem[p] + mean) ** 2 for s in range(3) for p in range(6)
    ]  # with 10 degrees of freedom
    of_seeds, of_problems, noise = (
        6 * statistics.variance(by_seed),
        3 * statistics.variance(by_problem),
        sum(rest) / 10,
    )
    assert of_seeds > noise and of_problems > noise
    found = crossed(table)
    assert found.error**2 == pytest.approx((of_seeds + of_problems - noise) / 18)
    assert found.freedom == pytest.approx(2 * ((of_seeds + of_problems - noise) / of_seeds) ** 2)
    alike = crossed(
        [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    )  # means of seeds are more alike than their items allow
    assert alike.error > 0.1 and alike.freedom >= 2


def test_a_table_with_holes_and_one_without_spread_are_told() -> None:
    with pytest.raises(ValueError, match="each seed has a difference for each problem"):
        crossed_mean({(0, "a"): 1.0, (0, "b"): 0.0, (1, "a"): 1.0})
    same = crossed([[1, 1], [1, 1]])
    assert same.interval() == (1.0, 1.0)
    with pytest.raises(ValueError, match="spread says nothing"):
        _ = same.p


def claims(seeds: int, effect: float, of_seeds: float, trials: int = 300) -> float:
    """Share of trials with 200 problems that show a difference; students of both arms differ by `of_seeds` from seed to seed."""
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(trials):
        talent = rng.random(200)
        arms = []
        for shift in (effect, 0.0):
            own = rng.normal(0, 0.05, 200)  # an arm is better at some problems, worse at others
            level = shift + rng.normal(0, of_seeds, (seeds, 1)) + own
            arms.append(rng.random((seeds, 200)) < 0.1 + 0.8 * talent + level)
        found += crossed(arms[0].astype(float) - arms[1]).p < 0.05
    return found / trials


@pytest.mark.parametrize("seeds", [3, 4, 5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.02, 0.1])
def test_what_is_not_there_is_seldom_claimed(seeds: int, of_seeds: float) -> None:
    assert claims(seeds, 0.0, of_seeds) <= 0.05 + 2 * 0.0126  # two standard errors of 300 trials


def test_what_is_there_is_found() -> None:
    assert claims(5, 0.15, 0.02) > 0.9
    assert detectable(1.0, 1e6) == pytest.approx(1.959964 + 0.841621, rel=1e-4)
    assert detectable(1.0, 4) == pytest.approx(
        2.7764451 + 0.9409646
    )  # scipy.stats.t.ppf(.975, 4) + t.ppf(.8, 4)
