"""PURE: the mean of differences over seeds and problems where both stand for more of their kind, with an interval that few seeds can bear.

A bootstrap that draws three to five seeds gives intervals that are too narrow (`tests.bench.claims` measures it). The variance here is that of
the two-way random model, and Student's t takes the place of the normal, with few degrees of freedom where seeds make up most of it: the
analysis of readers and cases of Dorfman, Berbaum and Metz (1992, Investigative Radiology 27:723) with the degrees of freedom of Hillis (2007,
Statistics in Medicine 26:596), for two arms. A seed's part is taken to be no smaller than the noise of its items would make it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ROUNDING = 1e-9  # shares of right answers that differ by less are the same


@dataclass(frozen=True)
class Estimate:
    """A mean with what is needed to judge it.

    Attributes:
        error: standard error; 0 where all differences are the same.
        freedom: degrees of freedom of Student's t.
    """

    mean: float
    error: float
    freedom: float

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference. Raises ValueError where the error is 0: nothing is known of it."""
        if not self.error:
            raise ValueError("all differences are the same: their spread says nothing")
        return t_tails(self.mean / self.error, self.freedom)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the mean."""
        half = t_quantile(1 - level, self.freedom) * self.error
        return self.mean - half, self.mean + half


def crossed_mean(differences: Mapping[tuple[int, str], float]) -> Estimate:
    """The mean over all seeds and problems, each seed with the same problems.

    With one seed only problems are taken to stand for more of their kind: it says nothing of other seeds.

    Args:
        differences: by (seed, problem).

    Raises:
        ValueError: a problem is missing under a seed.
    """
    import numpy as np

    seeds = sorted({seed for seed, _ in differences})
    problems = sorted({key for _, key in differences})
    if not differences or len(differences) < len(seeds) * len(problems):
        raise ValueError("each seed has a difference for each problem")
    return crossed(np.array([[differences[seed, key] for key in problems] for seed in seeds]))


def crossed(values: object) -> Estimate:
    """`crossed_mean` of an array of shape (seeds, problems)."""
    import numpy as np

    table = np.asarray(values, dtype=float)
    seeds, problems = table.shape
    if (
        np.ptp(table) < ROUNDING
    ):  # thirds that are all alike have a mean beside them, and a spread of rounding that would claim anything
        return Estimate(float(table[0, 0]), 0.0, max(1, max(seeds, problems) - 1))
    mean, by_seed, by_problem = table.mean(), table.mean(axis=1), table.mean(axis=0)
    of_problems = seeds * float(((by_problem - mean) ** 2).sum()) / max(1, problems - 1)
    if seeds == 1:
        return Estimate(float(mean), math.sqrt(of_problems / problems), max(1, problems - 1))
    rest = table - by_seed[:, None] - by_problem[None] + mean
    noise = float((rest**2).sum()) / max(1, (seeds - 1) * (problems - 1))
    of_seeds = max(problems * float(((by_seed - mean) ** 2).sum()) / (seeds - 1), noise)
    square = of_seeds + max(of_problems - noise, 0.0)
    freedom = min((seeds - 1) * (square / of_seeds) ** 2 if of_seeds else math.inf, max(seeds, problems) - 1)
    return Estimate(float(mean), math.sqrt(square / (seeds * problems)), freedom)


def detectable(error: float, freedom: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The difference that a two-sided t test with this standard error finds with the given power, to the usual approximation: the sum
    of both quantiles times the error."""
    return (t_quantile(alpha, freedom) + t_quantile(2 * (1 - power), freedom)) * error


def t_tails(t: float, freedom: float) -> float:
    """Chance that Student's t is as far from 0 as `t`, to either side: the regularised incomplete beta function (Abramowitz and Stegun
    26.7.1)."""
    import mpmath

    x = freedom / (freedom + t * t)
    return float(mpmath.betainc(freedom / 2, 0.5, 0, x, regularized=True))


def t_quantile(tails: float, freedom: float) -> float:
    """The t that lies as far from 0 as to leave the chance `tails` outside, to both sides together. By bisection."""
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > tails:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > tails else (low, middle)
    return high
