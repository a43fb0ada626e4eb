"""PURE: how two arms compare on the same items: differences, tests, and how small a difference could have been seen.

An arm's answers are scores (share of a problem's answers that are right, 0 to 1) by seed and problem. Answers to one problem, and all
answers of one trained student (a seed), go together; whatever takes them for independent claims too much. What is claimed rests on
`crossed`; McNemar's test and the bootstrap are shown beside it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undo_hpc.method import crossed
from undo_hpc.method.stats import mcnemar, paired_detectable_difference

Scores = Mapping[int, Mapping[str, float]]  # seed -> problem -> share of right answers
RESAMPLES = 10_000


@dataclass(frozen=True)
class PairedDifference:
    """Mean of `a - b` on the same items, as a share.

    Attributes:
        low, high: 95 % interval over problems and seeds (`crossed.crossed_mean`); where all items differ alike, of what may be unseen.
            Never beyond -1 and 1, as few seeds and problems would have it.
        p: of the test that this interval belongs to; where all items differ alike, McNemar's of one seed.
        by_seed: the mean difference of each seed.
        wins, losses: items (problem and seed) that only `a`, and only `b`, has right (above one half).
        mcnemar: p of McNemar's test, stratified by seed.
        items: pairs of answers that were compared.
        problems, seeds: how many there are of each.
        error, freedom: standard error of the mean, and the degrees of freedom of Student's t.
    """

    mean: float
    low: float
    high: float
    p: float
    by_seed: dict[int, float]
    wins: int
    losses: int
    mcnemar: float
    items: int
    problems: int
    seeds: int
    error: float
    freedom: float

    @property
    def discordant(self) -> float:
        """Share of items that exactly one of both has right."""
        return (self.wins + self.losses) / self.items

    def detectable(self, alpha: float = 0.05) -> float:
        """Smallest difference that this design finds in four of five trials, at this level: from the spread that it shows, and where that
        shows none from the number of problems."""
        if not self.error:
            return paired_detectable_difference(self.problems, self.discordant, alpha=alpha)
        return min(1.0, crossed.detectable(self.error, self.freedom, alpha=alpha))


def compare_arms(a: Scores, b: Scores) -> PairedDifference:
    """The difference of two arms on the seeds that both have, and the problems that both have under all of these.

    Raises:
        ValueError: they share no item.
    """
    seeds, problems = shared_items(a, b)
    differences = {(n, key): a[n][key] - b[n][key] for n in seeds for key in problems}
    strata = [
        (
            sum(a[n][key] > 0.5 >= b[n][key] for key in problems),
            sum(b[n][key] > 0.5 >= a[n][key] for key in problems),
        )
        for n in seeds
    ]
    found, of_items = crossed.crossed_mean(differences), stratified_mcnemar(strata)
    low, high = found.interval() if found.error else _interval_of_alike(found.mean, len(problems))
    return PairedDifference(
        mean=found.mean,
        low=max(-1.0, low),
        high=min(1.0, high),
        p=found.p if found.error else stratified_mcnemar(strata[:1]),
        by_seed={n: math.fsum(differences[n, key] for key in problems) / len(problems) for n in seeds},
        wins=sum(only_a for only_a, _ in strata),
        losses=sum(only_b for _, only_b in strata),
        mcnemar=of_items,
        items=len(differences),
        problems=len(problems),
        seeds=len(seeds),
        error=found.error,
        freedom=found.freedom,
    )


def _interval_of_alike(mean: float, problems: int) -> tuple[float, float]:
    """95 % interval of a mean where all items differ alike, so that their spread says nothing: as many other problems may be unseen as the
    exact binomial interval allows (Clopper and Pearson 1934, Biometrika 26:404), and these differ by 1 at most to either side. The same
    problem under another seed is no other draw."""
    unseen = 1 - 0.025 ** (1 / problems)
    return mean - (1 + mean) * unseen, mean + (1 - mean) * unseen


def shared_items(a: Scores, b: Scores) -> tuple[list[int], list[str]]:
    """Seeds that both have, and problems that both have under all of these. Raises ValueError where there are none."""
    seeds = sorted(a.keys() & b.keys())
    problems = sorted(set.intersection(*(set(a[n].keys() & b[n].keys()) for n in seeds))) if seeds else []
    if not problems:
        raise ValueError("the arms share no item")
    return seeds, problems


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


def resampled(a: Scores, b: Scores, *, times: int = 20, seed: int = 0) -> list[PairedDifference]:
    """The comparison made again `times` times, each with as many problems and seeds drawn with replacement from the real ones.

    How often a difference is claimed says how surely a campaign of this size sees one like this.
    """
    rng = random.Random(seed)
    seeds, problems = shared_items(a, b)
    found = []
    for _ in range(times):
        drawn, keys = rng.choices(seeds, k=len(seeds)), rng.choices(problems, k=len(problems))
        mine, theirs = ({place: _drawn(arm[n], keys) for place, n in enumerate(drawn)} for arm in (a, b))
        found.append(compare_arms(mine, theirs))
    return found


def exchanged(a: Scores, b: Scores, *, times: int = 20, seed: int = 0) -> list[PairedDifference]:
    """Two arms that are the same but for chance, compared again `times` times, each with their names exchanged under seeds drawn at random
    (Fisher 1935, The Design of Experiments, section 21) and as many problems drawn with replacement.

    Whatever is claimed is false.
    """
    rng = random.Random(seed)
    seeds, problems = shared_items(a, b)
    found = []
    for _ in range(times):
        keys = rng.choices(problems, k=len(problems))
        mine, theirs = {}, {}
        for n in seeds:
            first, second = (a, b) if rng.random() < 0.5 else (b, a)
            mine[n], theirs[n] = _drawn(first[n], keys), _drawn(second[n], keys)
        found.append(compare_arms(mine, theirs))
    return found


def _drawn(scores: Mapping[str, float], keys: Sequence[str]) -> dict[str, float]:
    return {f"{place}:{key}": scores[key] for place, key in enumerate(keys)}


def bootstrap_interval(
    a: Scores, b: Scores, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of a - b, resampled by problem AND by seed. With few seeds it is too narrow.

    Problems and seeds are drawn with replacement, independently, and each pair counts as often as both were drawn: the pigeonhole
    bootstrap (Owen 2007, Annals of Applied Statistics 1:386). One seed alone is resampled by problem only, and says nothing of other seeds.
    """
    import numpy as np

    seeds, problems = shared_items(a, b)
    values = np.array([[a[n][key] - b[n][key] for n in seeds] for key in problems])
    rng = np.random.default_rng(seed)
    means = []
    for done in range(0, resamples, 500):  # 500 at once hold little memory
        count = min(500, resamples - done)
        drawn = rng.multinomial(len(problems), np.full(len(problems), 1 / len(problems)), size=count)
        by_seed = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=count)
        means.append(((drawn @ values) * by_seed).sum(axis=1) / values.size)
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
