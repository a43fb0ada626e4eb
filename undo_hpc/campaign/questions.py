"""PURE: what somebody who doubts the method asks of a comparison, and what this campaign answers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from undo_hpc.campaign.answers import RunResult
from undo_hpc.campaign.comparison import Comparison, Results, mean_ledger
from undo_hpc.system.wording import percentage, points

# The ledger's measures, as the questions that they answer.
MEASURES = (
    ("student_tokens", "trained longer? student tokens"),
    ("problems", "on more data? distinct problems"),
    ("rationale_tokens", "on longer rationales? tokens each"),
    ("kept", "the filter? attempts right"),
    ("teacher_tokens", "a busier teacher? its tokens"),
)


@dataclass(frozen=True)
class Doubts:
    """A comparison under all questions.

    Attributes:
        used: of each of MEASURES (first arm, second arm, the first beside the second), in words.
        seeds: under how many of how many seeds the difference has the sign of its mean.
        bases: base model -> mean difference, where there are several.
        detectable: the smallest difference seen, in points.
    """

    a: str
    b: str
    used: list[tuple[str, str, str]]
    seeds: tuple[int, int]
    bases: dict[str, float]
    detectable: float


def doubts(results: Results, comparisons: Sequence[Comparison]) -> list[Doubts]:
    """Each comparison under the questions."""
    return [_doubts(results, comparison) for comparison in comparisons]


def _doubts(results: Results, c: Comparison) -> Doubts:
    by_seed = c.difference.by_seed
    arms = [{seed: results[arm][seed] for seed in by_seed} for arm in (c.a, c.b)]
    mine, theirs = (mean_ledger([r.ledger for r in arm.values()]) for arm in arms)
    return Doubts(
        c.a,
        c.b,
        [_beside(name, mine[name], theirs[name]) for name, _ in MEASURES],
        (sum(value * c.difference.mean > 0 for value in by_seed.values()), len(by_seed)),
        _by_base(arms[0], arms[1], by_seed),
        100 * c.detectable,
    )


def _beside(name: str, mine: float, theirs: float) -> tuple[str, str, str]:
    if name == "kept":
        return f"{percentage(mine)} %", f"{percentage(theirs)} %", f"{points(mine - theirs)} points"
    digits = 1 if name == "rationale_tokens" else 0
    change = round(100 * (mine / theirs - 1)) if theirs else 0
    text = f"{change:+d} %".replace("-", "\u2212").replace("+0", "0") if theirs or not mine else ""
    return f"{mine:,.{digits}f}", f"{theirs:,.{digits}f}", text


def _by_base(
    a: Mapping[int, RunResult], b: Mapping[int, RunResult], by_seed: Mapping[int, float]
) -> dict[str, float]:
    """Mean difference of each base model that both arms began with; empty where there is one."""
    found: dict[str, list[float]] = {}
    for seed, difference in by_seed.items():
        bases = {arm[seed].run.config.student.model for arm in (a, b)}
        if len(bases) == 1:
            found.setdefault(bases.pop(), []).append(difference)
    return {base: statistics.fmean(values) for base, values in found.items()} if len(found) > 1 else {}


_OTHERS = {
    "blind": "writes the same problems again, without the attempt",
    "shuffled": "writes them in view of another problem's attempt",
}


def only_problems(results: Results, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What arms that write the same problems again show."""
    for c in comparisons:
        run = next(iter(results[c.b].values())).run
        if what := _OTHERS.get(run.config.method.condition):
            yield f"{c.b} {what}: {c.sentence}"


def unanswered(results: Results, comparisons: Sequence[Comparison], transfer: Results) -> Iterator[str]:
    """Questions that no arm of the campaign answers, with what would."""
    some = {arm: next(iter(runs.values())).run.config for arm, runs in results.items() if runs}
    compared = {arm for c in comparisons for arm in (c.a, c.b)}
    conditions = {config.method.condition for arm, config in some.items() if arm in compared}
    if not conditions & {"blind", "shuffled"}:
        yield (
            "Is it only which problems are written again? No comparison has an arm that writes the same ones without the attempt "
            "(method.preset: blind) or with another problem's (shuffled)."
        )
    if not any(config.method.condition == "one_shot" for arm, config in some.items() if arm in compared):
        yield "Would one round, trained longer or on more samples, do as well? No comparison has an arm with method.preset: one_shot."
    bases = {r.run.config.student.model for runs in results.values() for r in runs.values()}
    if len(bases) == 1:
        yield f"Would it hold with another base model? All runs began with {min(bases)}; student.model: {{by_seed: [...]}} takes several."
    if not any(transfer.values()):
        yield "Would the data help another student? Not tried here; `transfer` does it."
    if results and max((len(runs) for runs in results.values()), default=0) == 1:
        yield "Would it hold with another seed? There is one."
