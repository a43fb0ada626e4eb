"""PURE: every figure of a run that is shown to people, defined once.

Stages write these figures into manifests and metrics.json; status, list, report, cards and costs show them from there and compute none
of their own. A share is always the quotient of two counts that stand beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undo_hpc.grading.extract import last_boxed
from undo_hpc.grading.reasoning import visible
from undo_hpc.method.stats import clustered_interval, mcnemar, paired_detectable_difference, pass_at_k
from undo_hpc.records import JUDGED, Attempt, Feedback

PASS_AT = (1, 2, 4, 8, 16, 32, 64)
MOST_CATEGORIES = 40
WRONG = ("wrong", "no_answer", "unparsed", "timeout")
UNTRAINED = -1  # stands for the untrained student where iterations are numbered
GENERATION = (
    "rows", "correct", "truncated", "errors", "prompt_tokens", "completion_tokens", "problems", "solved", "new_tokens", "seconds",
)  # fmt: skip

Counts = Mapping[str, Any]


def share(k: int, n: int) -> float:
    """k of n as a share; 0 of nothing is 0."""
    return k / n if n else 0.0


# Attempts: what a shard's manifest counts, and sums over shards


def count_attempts(rows: Sequence[Attempt]) -> dict[str, int]:
    """What a manifest counts of answers; each share that is shown of them is a count over `rows`."""
    verdicts = dict.fromkeys(("correct", *WRONG), 0)
    for row in rows:
        verdicts[row.verdict] += 1
    return {
        "rows": len(rows),
        **verdicts,
        "truncated": sum(row.finish_reason == "length" for row in rows),
        "errors": sum(row.finish_reason == "error" for row in rows),
        "reasoning_kept": sum(row.reasoning == "kept" for row in rows),
        "reasoning_dropped": sum(row.reasoning == "dropped" for row in rows),
        "prompt_tokens": sum(row.prompt_tokens for row in rows),
        "completion_tokens": sum(row.completion_tokens for row in rows),
    } | _judged(rows)


def _judged(rows: Iterable[Attempt]) -> dict[str, int]:
    """Verdicts that a judge model gave; no such key where it gave none."""
    count = sum(row.method == JUDGED for row in rows)
    return {"judged": count} if count else {}


def count_solved(rows: Iterable[Attempt]) -> int:
    """Problems with at least one right attempt."""
    return len({row.problem_id for row in rows if row.verdict == "correct"})


def sum_generation(shards: Iterable[Counts]) -> dict[str, Any]:
    """Yield and cost of the teacher's work, from the counts of its shards' manifests."""
    counts = list(shards)
    return {key: round(sum(c.get(key, 0) for c in counts), 3) for key in GENERATION}


def first_error(rows: Iterable[Attempt]) -> str:
    """What the engine said of the first request that failed, as an example; empty where none did."""
    return next((row.error for row in rows if row.error), "")


# Answers of a student to a problem set


def is_boxed(row: Attempt) -> bool:
    """Whether the answer has a box, as the prompt asks; one in the reasoning before it does not count."""
    return last_boxed(visible(row.text)) is not None


def summarise(rows: Sequence[Attempt]) -> dict[str, Any]:
    """A problem set's entry in metrics.json: accuracy with its 95 % interval, and what stands beside every accuracy.

    `accuracy` is `correct` / `answers`; as every problem has the same number of samples, that is the mean over the `n` problems
    (pass@1). The interval is Wilson's, with the problems as clusters where they have several samples (`clustered_interval`).
    `boxed` counts answers with a box, `right_unboxed` those that are right without one; `pass_at` is there with several samples.
    """
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_problem[row.problem_id].append(row.verdict == "correct")
    counts = [(sum(found), len(found)) for found in by_problem.values()]
    made, n = count_attempts(rows), len(counts)
    low, high = clustered_interval(counts)
    boxed = [is_boxed(row) for row in rows]
    samples = min((total for _, total in counts), default=0)
    return {
        "n": n,
        "answers": made["rows"],
        "correct": made["correct"],
        "accuracy": share(made["correct"], made["rows"]),
        "low": low,
        "high": high,
        "truncated": made["truncated"],
        "errors": made["errors"],
        "error": first_error(rows),
        **{name: made[name] for name in ("no_answer", "unparsed", "timeout")},
        "boxed": sum(boxed),
        "right_unboxed": sum(r.verdict == "correct" and not b for r, b in zip(rows, boxed, strict=True)),
        "mean_tokens": made["completion_tokens"] / made["rows"] if rows else 0.0,
        "pass_at": {
            str(k): sum(pass_at_k(total, right, k) for right, total in counts) / n
            for k in PASS_AT
            if samples > 1 and k <= samples
        },
    } | _judged(rows)


def by_category(
    rows: Sequence[Attempt], metadata: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, Any]]:
    """Accuracies of a problem set for each value of its metadata columns: column -> value -> n, answers, correct, accuracy, interval.

    Args:
        metadata: by problem id. A column with more than MOST_CATEGORIES values is left out: it names problems, no categories.
    """
    groups: dict[str, dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for column, value in metadata.get(row.problem_id, {}).items():
            groups[column][value].append(row)
    keys = ("n", "answers", "correct", "accuracy", "low", "high")
    return {
        column: {
            value: {key: made[key] for key in keys}
            for value, mine in sorted(values.items())
            for made in [summarise(mine)]
        }
        for column, values in groups.items()
        if len(values) <= MOST_CATEGORIES
    }


def count_errors(feedback: Sequence[Feedback]) -> dict[str, dict[str, int]]:
    """Wrong problems by split and kind of error."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in feedback:
        if row.verdict != "correct":
            counts[row.split][row.error_kind] += 1
    return {split: dict(sorted(counter.items())) for split, counter in counts.items()}


# Two students on the same problems


@dataclass(frozen=True)
class Flips:
    """What changed on the same problems from one student to another; `p` is McNemar's exact two-sided value."""

    before: int
    after: int
    name: str
    fixed: int
    broken: int
    wrong: int
    right: int
    p: float

    @property
    def n(self) -> int:
        """Problems that both answered."""
        return self.fixed + self.broken + self.wrong + self.right

    @property
    def detectable(self) -> float:
        """Smallest difference, as a share, that the paired test finds in four cases of five, from the problems that differ here."""
        return (
            paired_detectable_difference(self.n, share(self.fixed + self.broken, self.n)) if self.n else 1.0
        )


def compare(before: int, after: int, name: str, old: Mapping[str, float], new: Mapping[str, float]) -> Flips:
    """The flips on the problems that both answered.

    Args:
        before, after: iterations of the students, UNTRAINED for the untrained one.
        old, new: their share of right answers to each problem; above one half a problem counts as right.
    """
    fixed = broken = wrong = right = 0
    for key in old.keys() & new.keys():
        was, now = old[key] > 0.5, new[key] > 0.5
        fixed += now and not was
        broken += was and not now
        wrong += not was and not now
        right += was and now
    return Flips(before, after, name, fixed, broken, wrong, right, mcnemar(fixed, broken))


# A run: its iterations' metrics.json, oldest first


def validation_of(metrics: Counts) -> Counts | None:
    """An iteration's validation figures, None without a validation split."""
    return (metrics.get("sets") or {}).get("validation") or None


def untrained_validation(history: Sequence[Counts]) -> Counts | None:
    """The untrained student's validation figures, which iteration 0 measures; None where it did not."""
    return ((history[0].get("baseline") or {}).get("validation") or None) if history else None


def best_validation(history: Sequence[Counts]) -> Counts | None:
    """The best iteration's validation figures: the first with the highest accuracy, as the decision chooses it."""
    found = [item for metrics in history if (item := validation_of(metrics))]
    return max(found, key=lambda item: item["accuracy"], default=None)


def beats_untrained(history: Sequence[Counts]) -> bool | None:
    """Whether the best iteration is more accurate on validation than the untrained student; None where one was not measured."""
    best, untrained = best_validation(history), untrained_validation(history)
    return None if best is None or untrained is None else bool(best["accuracy"] > untrained["accuracy"])


def gain(history: Sequence[Counts]) -> float | None:
    """Validation accuracy of the best iteration above the untrained student's (above iteration 0's, where that was not measured)."""
    best, first = best_validation(history), untrained_validation(history)
    if best is None:
        return None
    first = first or next(item for metrics in history if (item := validation_of(metrics)))
    return float(best["accuracy"]) - float(first["accuracy"])


def rows_learned(train: Counts, distilled: Counts) -> tuple[int, int]:
    """Rows of the distilled set that training learned, and rows that it was given, from the counts of train and merge."""
    given = int(train.get("rows_given", distilled.get("rows", 0)))
    return int(train.get("rows_learned", given)), given
