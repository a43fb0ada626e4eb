"""The few statistics that every accuracy needs: intervals, paired tests, pass@k. Pure Python, exact where exact is cheap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
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
    return _score_interval(correct / n, n, z) if n else (0.0, 1.0)


def _score_interval(share: float, n: float, z: float) -> tuple[float, float]:
    square = z * z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, middle - half)
    high = 1.0 if share == 1 else min(1.0, middle + half)
    return low, high


def clustered_interval(clusters: Iterable[tuple[int, int]], z: float = 1.96) -> tuple[float, float]:
    """Interval of the share of right answers where the answers of one problem depend on each other, (0, 1) without answers.

    The standard error is the clustered one (Miller 2024, arXiv 2411.00640, equation 4), with the problems as clusters:
    sqrt(sum over problems of (sum of its deviations from the mean)^2) / answers. Wilson's interval is then taken with the number
    of independent answers that has this error, share * (1 - share) / error^2 (Kott and Carr 1997, J. Off. Stat. 13:367), at most
    the number of answers. With one answer a problem this is `wilson`; where all or none are right, each problem counts once.

    Args:
        clusters: (right answers, answers) of each problem, or a Counter of such pairs.
        z: quantile of the normal distribution; 1.96 gives 95 %.
    """
    counts = Counter(clusters)
    if any(not 0 <= right <= answers for right, answers in counts):
        raise ValueError("a problem has between 0 and all of its answers right")
    right, answers = (sum(times * pair[k] for pair, times in counts.items()) for k in (0, 1))
    if not answers or all(count == 1 for _, count in counts):
        return wilson(right, answers, z)
    share = right / answers
    if share in (0.0, 1.0):
        return _score_interval(share, sum(times for (_, count), times in counts.items() if count), z)
    square_error = sum(times * (k - share * n) ** 2 for (k, n), times in counts.items()) / answers**2
    spread = share * (1 - share)
    independent = min(float(answers), spread / square_error) if square_error else float(answers)
    return _score_interval(share, independent, z)


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

    For evaluations on different items; on the same items `paired_detectable_difference` is the one to show.

    Normal approximation for two independent shares (Fleiss, Levin, Paik 2003, Statistical Methods for Rates and
    Proportions, chapter 4): (z(1-alpha/2) + z(power)) * sqrt(2 p (1-p) / n). Two right and two wrong items
    are added to p (Agresti and Coull 1998), for near 0 and 1 the approximation would take any difference for significant.
    """
    if n < 1 or not 0 <= p <= 1:
        raise ValueError("n is at least 1 and p a share")
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    p = (p * n + 2) / (n + 4)
    return min(1.0, z * math.sqrt(2 * p * (1 - p) / n))


def paired_detectable_difference(
    n: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest difference of two accuracies on the same n items that a two-sided McNemar test finds with the given power; 1.0
    where n is too small for any.

    With psi the share of items that exactly one of the two gets right, a difference d is found where
    sqrt(n) d >= z(1-alpha/2) sqrt(psi) + z(power) sqrt(psi - d^2) (Connor 1987, Biometrics 43:207, solved for d; Miettinen 1968,
    Biometrics 24:339, conditions on the number of such items and differs little).

    Assumed: items are independent; psi is known and stays what was observed (a difference above it needs as many such items, so
    there psi = d); both sums are normal. The exact test of `mcnemar` needs a little more where few items differ.

    Args:
        n: number of items that both answered.
        discordant: share of them that exactly one got right.
    """
    if n < 1 or not 0 <= discordant <= 1:
        raise ValueError("n is at least 1 and the discordant share between 0 and 1")
    normal = NormalDist()
    z_alpha, z_power = normal.inv_cdf(1 - alpha / 2), normal.inv_cdf(power)

    def found(d: float) -> bool:
        psi = max(discordant, d)
        return math.sqrt(n) * d >= z_alpha * math.sqrt(psi) + z_power * math.sqrt(max(0.0, psi - d * d))

    low, high = 0.0, 1.0  # the left side grows with d, the right side divided by sqrt(psi) falls: bisection
    if not found(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high
