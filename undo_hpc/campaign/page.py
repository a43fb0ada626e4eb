"""The page of a campaign, and of any comparison of runs: one HTML file of the same kind as a run's report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.campaign import charts
from undo_hpc.campaign.answers import RunResult
from undo_hpc.campaign.comparison import (
    Comparison,
    Control,
    Results,
    cautions,
    compare,
    control,
    mean_ledger,
    null_control,
    repeated,
)
from undo_hpc.campaign.definition import MatchConfig, tells_runs_apart
from undo_hpc.campaign.questions import MEASURES, doubts, only_problems, unanswered
from undo_hpc.pipeline.own_prompts import by_content
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.prompts import load_prompts
from undo_hpc.storage.shards import read_rows
from undo_hpc.system.templates import render
from undo_hpc.system.wording import percentage, points

_HERE = Path(__file__).resolve().parent
_REPORT = _HERE.parent / "observe" / "report"


@dataclass(frozen=True)
class CampaignData:
    """All that the page shows.

    Attributes:
        pending: runs that have no result yet, in words.
    """

    name: str
    problem_set: str
    results: Results
    comparisons: list[Comparison]
    match: MatchConfig
    student: str
    pending: list[str]
    notes: list[str]
    positive: Control | None = None
    null: Control | None = None
    transfer: Results = field(default_factory=dict)
    transferred: list[Comparison] = field(default_factory=list)

    @property
    def some(self) -> list[RunResult]:
        """All results, arm by arm."""
        return [r for by_seed in self.results.values() for r in by_seed.values()]


def gather(
    name: str, results: Results, pairs: Sequence[Sequence[str]], *, problem_set: str, student: str = "best",
    match: MatchConfig | None = None, pending: Sequence[str] = (), positive: Sequence[str] = (), null: Sequence[str] = (),
    transfer: Results | None = None,
) -> CampaignData:  # fmt: skip
    """Results and their comparisons. Raises DataError where runs cannot be compared."""
    match = match or MatchConfig()
    found = compare(results, pairs, match)
    return CampaignData(
        name, problem_set, results, found, match, student, list(pending), cautions(results),
        control(results, positive), control(results, null, null=True), transfer or {}, compare(transfer or {}, pairs, match),
    )  # fmt: skip


def page(data: CampaignData, written: str) -> str:
    """The whole page; `written` says when, in words."""
    arms = {arm: list(runs.values()) for arm, runs in data.results.items() if runs}
    return render(
        _HERE / "page.html.jinja",
        [_REPORT],
        data=data,
        points=points,
        percentage=percentage,
        arms=arms,
        forest=charts.forest(data.comparisons),
        curves=charts.curves({arm: [r.accuracies for r in runs] for arm, runs in arms.items()}),
        table=[
            (
                arm,
                *spread([r.accuracy for r in runs]),
                _sampled(runs),
                len(runs),
                sum(r.correct for r in runs),
                sum(r.answers for r in runs),
                _steps(runs),
            )
            for arm, runs in arms.items()
        ],
        ledger={arm: mean_ledger([r.ledger for r in runs]) for arm, runs in arms.items()},
        settings=settings({arm: [r.run for r in runs] for arm, runs in arms.items()}),
        everything={arm: _everything(runs[0].run) for arm, runs in arms.items()},
        prompts=_prompts([runs[0].run for runs in arms.values()]),
        items=_items(data),
        doubts=doubts(data.results, data.comparisons),
        questions=[question for _, question in MEASURES],
        only_problems=list(only_problems(data.results, data.comparisons)),
        unanswered=list(unanswered(data.results, data.comparisons, data.transfer))
        if data.comparisons
        else [],
        halves=null_control(data.results),
        repeated=repeated(data.results),
        transfer_table=[
            (
                arm,
                ", ".join(dict.fromkeys(r.run.config.student.model for r in runs.values())),
                *spread([r.accuracy for r in runs.values()]),
                len(runs),
            )
            for arm, runs in data.transfer.items()
            if runs
        ],
        style=(_REPORT / "style.css").read_text(encoding="utf-8"),
        written=written,
        version=__version__,
    )


def spread(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, standard deviation over seeds (0 for one), lowest and highest."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), deviation, min(values), max(values)


def settings(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    """Keys that belong to the results and differ between arms or seeds, with the values of each arm."""
    found: dict[str, dict[str, list[str]]] = {}
    for arm, of_arm in runs.items():
        for run in of_arm:
            for key, value in by_content(leaves(run.config.model_dump(mode="json"))):
                if tells_runs_apart(key):
                    values = found.setdefault(key, {}).setdefault(arm, [])
                    if str(value) not in values:
                        values.append(str(value))
    return {
        key: [", ".join(own.get(arm, [""])) for arm in runs]
        for key, own in sorted(found.items())
        if len({tuple(own.get(arm, ())) for arm in runs}) > 1 or any(len(v) > 1 for v in own.values())
    }


def _everything(run: Run) -> str:
    """All keys that differ from their defaults, a line each."""
    explicit = run.config.model_dump(mode="json", exclude_defaults=True)
    return "\n".join(f"{key}: {value}" for key, value in by_content(leaves(explicit)))


def to_dict(data: CampaignData) -> dict[str, Any]:
    """The figures of the page for programs: results.json."""
    return {
        "name": data.name,
        "problem_set": data.problem_set,
        "student": data.student,
        "pending": data.pending,
        "runs": [
            {"arm": arm, "seed": seed, "base": r.run.config.student.model, "iteration": r.iteration, "student": r.student,
             "correct": r.correct, "answers": r.answers, "n": len(r.scores), "accuracy": r.accuracy, "accuracies": r.accuracies,
             "validation": r.validation, "chosen": r.run.layout.root.parent.name, "pass_at": r.pass_at, "majority": r.majority,
             "ledger": vars(r.ledger)}
            for arm, by_seed in data.results.items() for seed, r in by_seed.items()
        ],
        "comparisons": [_figures(c) for c in data.comparisons],
        "transfer": {
            "runs": [
                {"arm": arm, "seed": seed, "correct": r.correct, "answers": r.answers, "accuracy": r.accuracy}
                for arm, by_seed in data.transfer.items() for seed, r in by_seed.items()
            ],
            "comparisons": [_figures(c) for c in data.transferred],
        },
        "controls": {
            kind: {"a": c.a, "b": c.b, "mean": c.difference.mean, "low": c.difference.low, "high": c.difference.high, "by_seed": c.difference.by_seed,
                   "above": c.above, "below": c.below, "resamplings": c.times}
            for kind, c in (("positive", data.positive), ("null", data.null)) if c
        },
        "halves": {arm: {"splits": ways, "differ": claims} for arm, (ways, claims) in null_control(data.results).items()},
        "repeated": dict(zip(("arm", "seed", "changed", "answers"), repeated(data.results) or (), strict=False)),
    }  # fmt: skip


def _figures(c: Comparison) -> dict[str, Any]:
    return {
        "a": c.a, "b": c.b, "mean": c.difference.mean, "low": c.difference.low, "high": c.difference.high, "p_holm": c.p,
        "p": c.difference.p, "mcnemar": c.difference.mcnemar, "bootstrap": list(c.bootstrap), "error": c.difference.error,
        "freedom": c.difference.freedom, "claimed": c.claimed, "wins": c.difference.wins, "losses": c.difference.losses, "problems": c.difference.problems,
        "seeds": c.difference.seeds, "by_seed": c.difference.by_seed, "detectable": c.detectable,
        "same_student": c.same, "unmatched": sorted(c.unmatched), "reasons": c.reasons, "sentence": c.sentence,
    }  # fmt: skip


def _steps(runs: Sequence[RunResult]) -> str:
    """Mean accuracy of the untrained student, where it was evaluated, and of each iteration, in per cent."""
    steps = sorted({k for r in runs for k in r.accuracies})
    means = [statistics.fmean(r.accuracies[k] for r in runs if k in r.accuracies) for k in steps]
    return ", ".join([*([] if -1 in steps else ["-"]), *(f"{100 * value:.1f}" for value in means)])


def _sampled(runs: Sequence[RunResult]) -> str:
    """pass@k and maj@k over seeds, in words; empty with one sample a problem."""
    if any(r.majority is None for r in runs):
        return ""
    each = [f"pass@{k} {100 * statistics.fmean(r.pass_at[k] for r in runs):.1f}" for k in runs[0].pass_at]
    votes = 100 * statistics.fmean(r.majority or 0.0 for r in runs)
    return ", ".join([*each, f"majority {votes:.1f}"])


def _prompts(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """The teacher's and the student's templates of each set that is used, word for word."""
    names = {run.config.teacher.prompt: None for run in runs} | {
        run.config.student.prompt: None for run in runs
    }
    return {name: load_prompts(name).texts() for name in names}


def _items(data: CampaignData) -> list[tuple[Comparison, list[str]]]:
    """For each comparison the problems that the first arm fixed and the second did not, in their words."""
    if not data.some:
        return []
    wanted = {key for c in data.comparisons for key in c.fixed}
    run = data.some[0].run
    words = {
        row["problem_id"]: row["problem"]
        for row in read_rows(run.problems_file(data.problem_set))
        if row["problem_id"] in wanted
    }
    return [(c, [words[key] for key in c.fixed if key in words]) for c in data.comparisons if c.fixed]
