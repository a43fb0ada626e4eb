"""Arms compared on the same items: every primary pair with its difference, tests, compute, and what can be concluded from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from undo_hpc.campaign.answers import Ledger, RunResult
from undo_hpc.campaign.definition import MatchConfig
from undo_hpc.config.differences import is_neutral
from undo_hpc.control.finished import all_metrics
from undo_hpc.errors import DataError
from undo_hpc.method.paired import (
    PairedDifference,
    bootstrap_interval,
    compare_arms,
    exchanged,
    holm,
    null_splits,
    resampled,
)
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.system.wording import counted, points

Results = Mapping[str, Mapping[int, RunResult]]  # arm -> seed
MEASURES = {
    "teacher_tokens": "teacher tokens",
    "student_tokens": "student tokens",
    "problems": "distinct problems",
}
SHOWN_ITEMS = 20
RESAMPLINGS = 20  # of a control
LEVEL = 0.05  # chance of any false claim among the comparisons of a campaign
SEEDS_TO_SPLIT = (
    6  # halves of fewer have one or two seeds each, and an interval of these is too wide to claim anything
)


@dataclass(frozen=True)
class Comparison:
    """One pair of arms, a - b.

    Attributes:
        p: of the difference's test, adjusted by Holm over all comparisons of the campaign.
        family: how many these are.
        bootstrap: percentile interval of a bootstrap over problems and seeds, for comparison.
        unmatched: measures that differ by more than the tolerance, with both means.
        reasons: of those that the campaign's file states, measure by measure, why.
        same: seeds under which both arms have the very same student: both chose an iteration before they differ.
        fixed: problems that `a` has right and `b` wrong in most of the seeds.
    """

    a: str
    b: str
    difference: PairedDifference
    p: float
    unmatched: dict[str, tuple[float, float]]
    reasons: dict[str, str] = field(default_factory=dict)
    family: int = 1
    bootstrap: tuple[float, float] = (0.0, 0.0)
    same: int = 0
    fixed: list[str] = field(default_factory=list)

    @property
    def claimed(self) -> bool:
        """Whether a difference is shown."""
        return self.p < LEVEL

    @property
    def detectable(self) -> float:
        """The smallest difference that such a campaign shows in four of five trials, all of its comparisons corrected."""
        return self.difference.detectable(LEVEL / self.family)

    @property
    def sentence(self) -> str:
        """What can and cannot be concluded, in one sentence."""
        d = self.difference
        size = f"{counted(d.problems, 'problem')}, {counted(d.seeds, 'seed')}"
        interval = f"{points(d.mean)} points (95 % interval {points(d.low)} to {points(d.high)}, {size}; p = {self.p:.2g})"
        if self.claimed:
            better, worse = (self.a, self.b) if d.mean > 0 else (self.b, self.a)
            text = f"{better} is better than {worse}: {interval}"
        else:
            text = f"No difference between {self.a} and {self.b} is shown: {interval}"
            if d.p < LEVEL:
                text += f"; alone it would be, p = {d.p:.2g}, but not as one of {self.family}"
            text += f"; one below {100 * self.detectable:.1f} points would mostly not have been seen"
        if d.seeds == 1:
            text += "; with one seed it says nothing of other seeds"
        if self.same:
            text += f"; under {self.same} of {d.seeds} seeds both have the same student, of an iteration before they differ"
        for name, (mine, theirs) in self.unmatched.items():
            why = self.reasons.get(name, "")
            text += f"; {MEASURES[name]} are not matched ({mine:,.0f} and {theirs:,.0f})"
            text += (
                f", as the campaign's file says: {why}"
                if why
                else ", so that a difference may come from there"
            )
        return f"{text}."


def compare(
    results: Results, pairs: Sequence[Sequence[str]], match: MatchConfig | None = None
) -> list[Comparison]:
    """All pairs whose arms both have results under a common seed; p-values are corrected over all of them.

    Raises:
        DataError: two runs were not evaluated on the same items, or not judged alike.
    """
    match = match or MatchConfig()
    require_same_items([r for by_seed in results.values() for r in by_seed.values()])
    found = []
    for a, b in pairs:
        common = results.get(a, {}).keys() & results.get(b, {}).keys()
        if not common:
            continue
        mine, theirs = ({seed: results[arm][seed].scores for seed in sorted(common)} for arm in (a, b))
        ledgers = [mean_ledger([results[arm][seed].ledger for seed in sorted(common)]) for arm in (a, b)]
        apart = unmatched(ledgers[0], ledgers[1], match)
        same = sum(results[a][seed].student == results[b][seed].student for seed in common)
        difference = compare_arms(mine, theirs)
        if same == len(common) and not difference.error and not difference.mean:
            # One student, compared with itself, which answered alike: nothing is unseen.
            difference = replace(difference, low=0.0, high=0.0)
        found.append(
            Comparison(
                a,
                b,
                difference,
                p=1.0,
                unmatched=apart,
                reasons={name: why for name in apart if (why := match.reason(a, b, name))},
                bootstrap=bootstrap_interval(mine, theirs),
                same=same,
                fixed=_fixed(mine, theirs),
            )
        )
    adjusted = holm([comparison.difference.p for comparison in found])
    return [replace(c, p=p, family=len(found)) for c, p in zip(found, adjusted, strict=True)]


@dataclass(frozen=True)
class Control:
    """Whether a campaign of this size sees what is known to be there, or sees what is not.

    Attributes:
        above, below: of `times` resamplings those whose interval lies wholly above, and below, zero.
    """

    a: str
    b: str
    difference: PairedDifference
    above: int
    below: int
    times: int = RESAMPLINGS

    @property
    def interval(self) -> str:
        """The difference and its interval, in points."""
        d = self.difference
        return f"{points(d.mean)} points (95 % interval {points(d.low)} to {points(d.high)})"


def control(results: Results, pair: Sequence[str], *, null: bool = False) -> Control | None:
    """A control pair, resampled from the real rows; None where there is none, or its arms have no result under a common seed.

    Args:
        null: both arms are the same but for chance, so their names are exchanged at random; else seeds are drawn with replacement.
    """
    if not pair or not (common := results.get(pair[0], {}).keys() & results.get(pair[1], {}).keys()):
        return None
    a, b = ({seed: results[arm][seed].scores for seed in sorted(common)} for arm in pair)
    again = (exchanged if null else resampled)(a, b, times=RESAMPLINGS)
    above, below = sum(d.low > 0 for d in again), sum(d.high < 0 for d in again)
    return Control(pair[0], pair[1], compare_arms(a, b), above, below)


def null_control(results: Results) -> dict[str, tuple[int, int]]:
    """Each arm against itself: in how many ways its seeds can be split into halves, and in how many of them the interval claims a
    difference. Several in a hundred are chance; many more say that the differences above are noise, too. Fewer than six seeds are not
    split: an interval of two seeds is too wide to claim anything."""
    found = {}
    for arm, by_seed in results.items():
        if len(by_seed) < SEEDS_TO_SPLIT:
            continue
        splits = null_splits({seed: result.scores for seed, result in by_seed.items()})[:RESAMPLINGS]
        claims = [compare_arms(a, b) for a, b in splits]
        if claims:
            found[arm] = (len(claims), sum(not d.low <= 0 <= d.high for d in claims))
    return found


def repeated(results: Results) -> tuple[str, int, int, int] | None:
    """(arm, seed, answers judged otherwise, answers) of the student that answered twice; None where no run has that."""
    return next(
        (
            (arm, seed, *result.repeated)
            for arm, by_seed in results.items()
            for seed, result in by_seed.items()
            if result.repeated[1]
        ),
        None,
    )


def mean_ledger(ledgers: Sequence[Ledger]) -> dict[str, float]:
    """Means over runs, by the names of `Ledger`."""
    names = Ledger.__dataclass_fields__
    return {name: statistics.fmean(getattr(ledger, name) for ledger in ledgers) for name in names}


def unmatched(
    a: Mapping[str, float], b: Mapping[str, float], match: MatchConfig
) -> dict[str, tuple[float, float]]:
    """Measures of compute whose means differ by more than their tolerance."""
    found = {}
    for name in MEASURES:
        if abs(a[name] - b[name]) > getattr(match, name) * max(a[name], b[name]):
            found[name] = (a[name], b[name])
    return found


def require_same_items(results: Sequence[RunResult]) -> None:
    """Raises DataError where runs were not evaluated on the same items, or their answers were not judged alike."""
    for other in results[1:]:
        first = results[0]
        places = f"{first.run.layout.root} and {other.run.layout.root}"
        if first.scores.keys() != other.scores.keys():
            alike = len(first.scores.keys() & other.scores.keys())
            raise DataError(
                f"{places} have other items: {len(first.scores)} and {len(other.scores)} problems, {alike} of them in both",
                hint="compare runs of the same benchmark, with the same evaluate.limit and overrides",
            )
        if first.truths != other.truths:
            raise DataError(
                f"{places} have other ground truths for the same problems: the benchmark's data was changed between them",
                hint="compare runs that were prepared from the same data",
            )
        if _judge(first.run) != _judge(other.run):
            raise DataError(
                f"{places} were judged by other checkers (grading)", hint="compare runs with the same one"
            )
        versions = {str(m.get("checker", "")) for r in (first, other) for m in all_metrics(r.run)}
        if len(versions) > 1:
            raise DataError(
                f"{places} were graded by different checkers ({', '.join(sorted(versions))})",
                hint="undo-hpc regrade RUN --apply for each, then its launcher again",
            )
        if first.sampling != other.sampling:
            raise DataError(
                f"{places} were sampled differently (evaluate.sampling, or that of the added set)",
                hint="compare runs with the same one",
            )


def cautions(results: Results) -> list[str]:
    """What a reader must know beside the comparisons."""
    runs: list[Run] = [r.run for by_seed in results.values() for r in by_seed.values()]
    found = []
    versions = {(run.environment.get("undo_hpc"), run.environment.get("git")) for run in runs}
    if len(versions) > 1:
        found.append(
            f"The runs were made by {len(versions)} versions of the code; their checkers may differ. undo-hpc regrade RUN "
            "judges the stored answers of each by the present one."
        )
    if mixed := [run for run in runs if any(m["generate"].get("checkers") for m in all_metrics(run))]:
        found.append(
            f"The teacher's attempts of {mixed[0].layout.root}{' and others' if len(mixed) > 1 else ''} were not all judged by the checker of the "
            "student's answers, so that the share of right attempts mixes several. undo-hpc regrade RUN --apply judges all by one."
        )
    if any(run.config.evaluate.sampling.temperature == 0 for run in runs) and not repeated(results):
        found.append(
            "Answers are greedy, one a problem: another batch composition can flip some of them unless the engine is batch-invariant."
        )
    learned: list[
        tuple[list[str], dict[int, str]]
    ] = []  # arms, and their problems by seed: splits may follow it
    for arm, by_seed in results.items():
        mine = {seed: _problems_digest(r.run) for seed, r in by_seed.items()}
        for arms, theirs in learned:
            if all(mine[seed] == theirs[seed] for seed in mine.keys() & theirs.keys()):
                arms.append(arm)
                theirs |= mine
                break
        else:
            learned.append(([arm], mine))
    if len(learned) > 1:
        found.append(
            "Not all arms had the same training problems: "
            + "; others: ".join(", ".join(arms) for arms, _ in learned)
            + ". Compare the distinct problems in the ledger."
        )
    return found


def _judge(run: Run) -> list[tuple[str, object]]:
    """The keys of the checker on which verdicts rest."""
    values = leaves({"grading": run.config.model_dump(mode="json")["grading"]})
    return [(key, value) for key, value in values if not is_neutral(key)]


def _problems_digest(run: Run) -> str:
    manifest = read_manifest(run.layout.prepared)
    problems = manifest and manifest.outputs.get(run.layout.relative(run.problems_file("train")))
    return problems.sha256 if problems else ""


def _fixed(a: Mapping[int, Mapping[str, float]], b: Mapping[int, Mapping[str, float]]) -> list[str]:
    won = {key: sum(a[seed][key] > 0.5 >= b[seed][key] for seed in a) for key in next(iter(a.values()))}
    most = sorted((key for key in won if won[key] > len(a) / 2), key=lambda key: (-won[key], key))
    return most[:SHOWN_ITEMS]
