"""The few statistics that every accuracy needs: intervals, paired tests, pass@k. Pure Python, exact where exact is cheap."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22:209), (0, 1) for n = 0.

    It stays inside [0, 1] and keeps its coverage near 0 and 1, where the normal interval fails.

    Args:
        correct: how many of the n were right.
        n: how many there were.
        z: quantile of the normal distribution; 1.96 gives 95 %.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} is no share")
    if n == 0:
        return 0.0, 1.0
    share, square = correct / n, z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == n else min(1.0, middle + half)
    return low, high


def mcnemar(b: int, c: int) -> float:
    """Two-sided exact p-value of McNemar's test (McNemar 1947, Psychometrika 12:153), 1.0 where nothing differs.

    Args:
        b: items that the first got right and the second wrong.
        c: items that the second got right and the first wrong.
    """
    if b < 0 or c < 0:
        raise ValueError("counts are not negative")
    n, few = b + c, min(b, c)
    tail = term = 1
    for k in range(few):  # exact integers: term is n over k+1
        term = term * (n - k) // (k + 1)
        tail += term
    return float(min(1.0, _ratio(2 * tail, 1 << n)))


def _ratio(above: int, below: int) -> float:
    """above / below for integers too large for a float."""
    shift = max(0, below.bit_length() - 1000)
    return (above >> shift) / (below >> shift)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right, from n samples with c right.

    1 - C(n-c, k) / C(n, k): Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} samples with {c} right is not defined")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod((n - c - i) / (n - i) for i in range(k))


def smallest_detectable_difference(n: int, p: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest difference of two accuracies near p that two evaluations of n items each show with the given power.

    Normal approximation for two independent shares (Fleiss, Levin, Paik 2003, Statistical Methods for Rates and
    Proportions, chapter 4): (z(1-alpha/2) + z(power)) * sqrt(2 p (1-p) / n). On the same items, with positively correlated
    outcomes a paired test detects smaller differences still, so this errs on the careful side. Two right and two wrong items
    are added to p (Agresti and Coull 1998), for near 0 and 1 the approximation would take any difference for significant.
    """
    if n < 1 or not 0 <= p <= 1:
        raise ValueError("n is at least 1 and p a share")
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    p = (p * n + 2) / (n + 4)
    return min(1.0, z * math.sqrt(2 * p * (1 - p) / n))
