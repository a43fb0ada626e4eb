"""PURE: how two arms compare on the same items: differences, tests, and how small a difference could have been seen.

An arm's answers are scores (share of a problem's answers that are right, 0 to 1) by seed and problem. Answers to one problem, and all
answers of one trained student (a seed), go together; whatever takes them for independent claims too much.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from undo_hpc.method.stats import mcnemar, paired_detectable_difference

Scores = Mapping[int, Mapping[str, float]]  # seed -> problem -> share of right answers
RESAMPLES = 10_000


@dataclass(frozen=True)
class PairedDifference:
    """Mean of `a - b` on the same items, as a share.

    Attributes:
        low, high: percentile interval of the clustered bootstrap.
        by_seed: the mean difference of each seed.
        wins, losses: items (problem and seed) that only `a`, and only `b`, has right (above one half).
        p: of McNemar's test, stratified by seed.
        items: pairs of answers that were compared.
        problems, seeds: how many there are of each.
    """

    mean: float
    low: float
    high: float
    by_seed: dict[int, float]
    wins: int
    losses: int
    p: float
    items: int
    problems: int
    seeds: int

    @property
    def discordant(self) -> float:
        """Share of items that exactly one of both has right."""
        return (self.wins + self.losses) / self.items

    @property
    def detectable(self) -> float:
        """Smallest difference that this design finds in four of five trials: from the spread that its bootstrap shows, and where that
        shows none from the number of problems."""
        if self.high <= self.low:
            return paired_detectable_difference(self.problems, self.discordant)
        two_sided, power = (NormalDist().inv_cdf(q) for q in (0.975, 0.8))
        return (two_sided + power) * (self.high - self.low) / (2 * two_sided)


def compare_arms(a: Scores, b: Scores, *, seed: int = 0, resamples: int = RESAMPLES) -> PairedDifference:
    """The difference of two arms on the seeds and problems that both have.

    Raises:
        ValueError: they share no item.
    """
    pairs = {
        (number, key): (score, b[number][key])
        for number, scores in sorted(a.items())
        if number in b
        for key, score in sorted(scores.items())
        if key in b[number]
    }
    if not pairs:
        raise ValueError("the arms share no item")
    differences = {item: x - y for item, (x, y) in pairs.items()}
    low, high = bootstrap_interval(differences, seed=seed, resamples=resamples)
    seeds = sorted({number for number, _ in pairs})
    by_seed = {number: [d for (n, _), d in differences.items() if n == number] for number in seeds}
    strata = [
        (
            sum(x > 0.5 >= y for (n, _), (x, y) in pairs.items() if n == number),
            sum(y > 0.5 >= x for (n, _), (x, y) in pairs.items() if n == number),
        )
        for number in seeds
    ]
    return PairedDifference(
        mean=math.fsum(differences.values()) / len(differences),
        low=low,
        high=high,
        by_seed={number: math.fsum(values) / len(values) for number, values in by_seed.items()},
        wins=sum(only_a for only_a, _ in strata),
        losses=sum(only_b for _, only_b in strata),
        p=stratified_mcnemar(strata),
        items=len(pairs),
        problems=len({key for _, key in pairs}),
        seeds=len(seeds),
    )


def null_splits(scores: Scores) -> list[tuple[Scores, Scores]]:
    """An arm against itself: every way to take two disjoint groups of half of its seeds, renumbered so that they can be paired.

    Whatever `compare_arms` finds between them is noise of seeds and items. Empty with fewer than two seeds.
    """
    half = len(scores) // 2
    found: list[tuple[Scores, Scores]] = []
    for first in itertools.combinations(sorted(scores), half) if half else ():
        rest = [seed for seed in sorted(scores) if seed not in first]
        for second in itertools.combinations(rest, half):
            if first < second:  # each pair of groups once
                a, b = (dict(enumerate(scores[seed] for seed in group)) for group in (first, second))
                found.append((a, b))
    return found


def resampled(
    a: Scores, b: Scores, *, times: int = 20, seed: int = 0, resamples: int = 2000
) -> list[PairedDifference]:
    """The comparison made again `times` times, each with as many problems and seeds drawn with replacement from the real ones.

    How often the interval keeps clear of zero says how surely a campaign of this size sees a difference like this one.
    """
    rng = random.Random(seed)
    seeds = sorted(set(a) & set(b))
    problems = sorted(set.intersection(*({*a[number]} & {*b[number]} for number in seeds)))
    found = []
    for turn in range(times):
        drawn = list(enumerate(rng.choices(seeds, k=len(seeds))))
        keys = [(f"{place}:{key}", key) for place, key in enumerate(rng.choices(problems, k=len(problems)))]
        mine, theirs = (
            {place: {name: arm[number][key] for name, key in keys} for place, number in drawn}
            for arm in (a, b)
        )
        found.append(compare_arms(mine, theirs, seed=turn, resamples=resamples))
    return found


def bootstrap_interval(
    differences: Mapping[tuple[int, str], float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the mean of differences by (seed, problem), resampled by problem AND by seed.

    Problems and seeds are drawn with replacement, independently, and each pair counts as often as both were drawn: the pigeonhole
    bootstrap (Owen 2007, Annals of Applied Statistics 1:386), which errs on the wide side. One seed alone is resampled by problem only,
    and says nothing of other seeds.
    """
    import numpy as np

    seeds = sorted({number for number, _ in differences})
    problems = sorted({key for _, key in differences})
    row, column = {k: i for i, k in enumerate(problems)}, {k: i for i, k in enumerate(seeds)}
    values, there = np.zeros((len(problems), len(seeds))), np.zeros((len(problems), len(seeds)))
    for (number, key), difference in differences.items():
        values[row[key], column[number]] = difference
        there[row[key], column[number]] = 1.0
    rng = np.random.default_rng(seed)
    means = []
    for done in range(0, resamples, 500):  # 500 at once hold little memory
        count = min(500, resamples - done)
        drawn = rng.multinomial(len(problems), np.full(len(problems), 1 / len(problems)), size=count)
        by_seed = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=count)
        total = ((drawn @ there) * by_seed).sum(axis=1)
        means.append(((drawn @ values) * by_seed).sum(axis=1) / np.maximum(total, 1e-300))
    found = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(found[0]), float(found[1])


def stratified_mcnemar(strata: Sequence[tuple[int, int]]) -> float:
    """Two-sided exact p-value of McNemar's test over strata, each with (only the first right, only the second right).

    Under the null hypothesis each discordant pair falls to either side with chance one half, whatever its stratum, so given their number
    the sum over strata is binomial (the exact form of the Mantel-Haenszel test for matched pairs; Agresti 2013, Categorical Data Analysis,
    section 11.1). Answers of several seeds to one problem are taken for independent: read it beside the clustered interval.
    """
    return mcnemar(sum(first for first, _ in strata), sum(second for _, second in strata))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the chance of any false finding among all (Holm 1979, Scandinavian Journal of Statistics 6:65)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = so_far
    return adjusted


def maj_at_k(answers: Sequence[tuple[str, bool]], k: int) -> float:
    """Whether the majority of the first k answers to a problem is right; of answers that tie, the share that is right.

    Args:
        answers: (answer, whether the checker took it for right), in the order of attempts. Right answers count as one, whatever their
            form; an empty answer does not vote.

    Raises:
        ValueError: there are fewer than k answers.
    """
    if not 1 <= k <= len(answers):
        raise ValueError(f"maj@{k} of {len(answers)} answers is not defined")
    votes: dict[str | None, int] = {}
    for answer, right in answers[:k]:
        if right or answer.strip():
            name = None if right else answer.strip()
            votes[name] = votes.get(name, 0) + 1
    most = max(votes.values(), default=0)
    ahead = [name for name, count in votes.items() if count == most]
    return (None in ahead) / len(ahead) if ahead else 0.0
