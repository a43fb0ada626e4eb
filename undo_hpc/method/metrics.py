"""PURE: every figure of a run that is shown to people, defined once.

Stages write these figures into manifests and metrics.json; status, list, report, cards and costs show them from there and compute none
of their own. A share is always the quotient of two counts that stand beside it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undo_hpc.method.stats import clustered_interval, mcnemar, paired_detectable_difference, pass_at_k
from undo_hpc.records import JUDGED, Attempt, Feedback

PASS_AT = (1, 2, 4, 8, 16, 32, 64)
MOST_CATEGORIES = 40
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)")
WRONG = ("wrong", "no_answer", "unparsed", "timeout")
NOT_REACHED = "not reached: the steps end within the first pass"  # why training left rows out that it could have learned
UNTRAINED = -1  # stands for the untrained student where iterations are numbered
GENERATION = (
    "rows", "correct", "truncated", "truncated_right", "errors", "prompt_tokens", "completion_tokens", "problems", "solved", "new_tokens", "seconds",
)  # fmt: skip

Counts = Mapping[str, Any]


def share(k: int, n: int) -> float:
    """k of n as a share; 0 of nothing is 0."""
    return k / n if n else 0.0


# Attempts: what a shard's manifest counts, and sums over shards


class AttemptCounts:
    """What a manifest counts of answers, row by row; each share that is shown of them is a count over `rows`."""

    def __init__(self) -> None:
        self._verdicts: Counter[str] = Counter()
        self._finished: Counter[str] = Counter()
        self._reasoning: Counter[str] = Counter()
        self._judged = self._truncated_right = self._prompt_tokens = self._completion_tokens = 0

    def add(self, row: Attempt) -> None:
        """Counts an answer."""
        self._verdicts[row.verdict] += 1
        self._finished[row.finish_reason] += 1
        self._reasoning[row.reasoning] += 1
        self._judged += row.method == JUDGED
        self._truncated_right += row.finish_reason == "length" and row.verdict == "correct"
        self._prompt_tokens += row.prompt_tokens
        self._completion_tokens += row.completion_tokens

    def to_dict(self) -> dict[str, int]:
        """The counts so far. `judged`, verdicts that a judge model gave, is there only where it gave any."""
        return {
            "rows": self._verdicts.total(),
            **{name: self._verdicts[name] for name in ("correct", *WRONG)},
            "truncated": self._finished["length"],
            "truncated_right": self._truncated_right,
            "errors": self._finished["error"],
            "reasoning_kept": self._reasoning["kept"],
            "reasoning_dropped": self._reasoning["dropped"],
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        } | ({"judged": self._judged} if self._judged else {})


def count_attempts(rows: Iterable[Attempt]) -> dict[str, int]:
    """`AttemptCounts` of all rows."""
    counts = AttemptCounts()
    for row in rows:
        counts.add(row)
    return counts.to_dict()


def count_solved(rows: Iterable[Attempt]) -> int:
    """Problems with at least one right attempt."""
    return len({row.problem_id for row in rows if row.verdict == "correct"})


def sum_generation(shards: Iterable[Counts]) -> dict[str, Any]:
    """Yield and cost of the teacher's work, from the counts of its shards' manifests; `judged` as in AttemptCounts."""
    counts = list(shards)
    judged = sum(c.get("judged", 0) for c in counts)
    found = {key: round(sum(c.get(key, 0) for c in counts), 3) for key in GENERATION}
    return found | ({"judged": judged} if judged else {})


def first_error(rows: Iterable[Attempt]) -> str:
    """What the engine said of the first request that failed, as an example; empty where none did."""
    return next((row.error for row in rows if row.error), "")


# Answers of a student to a problem set


def is_boxed(row: Attempt) -> bool:
    """Whether the answer has a box, as the prompt asks; one in the reasoning before it does not count."""
    if "\\" not in row.text:  # of most answers without a box the rest is not read
        return False
    from undo_hpc.grading.reasoning import find_boxes, visible  # a look at a run reads no answer

    text = visible(row.text)
    if not (first := _BOX.search(text)):
        return False
    start = first.start()
    while start and text[start - 1] == "\\":  # all of them: each pair is a line break
        start -= 1
    return bool(find_boxes(text[start:]))


class SetSummary:
    """A problem set's entry in metrics.json, made problem by problem; what is held does not grow with the set."""

    def __init__(self) -> None:
        self._counts = AttemptCounts()
        self._problems: Counter[tuple[int, int]] = Counter()  # by (right answers, answers)
        self._boxed = self._right_unboxed = self.answers = 0
        self._error = ""

    def add(self, rows: Sequence[Attempt]) -> None:
        """Adds all answers to one problem."""
        right = 0
        for row in rows:
            boxed, correct = is_boxed(row), row.verdict == "correct"
            self._counts.add(row)
            self._boxed += boxed
            self._right_unboxed += correct and not boxed
            right += correct
            self._error = self._error or row.error
        self.answers += len(rows)
        self._problems[right, len(rows)] += 1

    def to_dict(self) -> dict[str, Any]:
        """Accuracy with its 95 % interval, and what stands beside every accuracy.

        `accuracy` is `correct` / `answers`; as every problem has the same number of samples, that is the mean over the `n` problems
        (pass@1). The interval is Wilson's, with the problems as clusters where they have several samples (`clustered_interval`).
        `boxed` counts answers with a box, `right_unboxed` those that are right without one; `pass_at` is there with several samples;
        `error` is what the engine said of the first request that failed.
        """
        made, n = self._counts.to_dict(), self._problems.total()
        low, high = clustered_interval(self._problems)
        samples = min((total for _, total in self._problems), default=0)
        return {
            "n": n,
            "answers": made["rows"],
            "correct": made["correct"],
            "accuracy": share(made["correct"], made["rows"]),
            "low": low,
            "high": high,
            "truncated": made["truncated"],
            "errors": made["errors"],
            "error": self._error,
            **{name: made[name] for name in ("no_answer", "unparsed", "timeout")},
            "boxed": self._boxed,
            "right_unboxed": self._right_unboxed,
            "mean_tokens": share(made["completion_tokens"], made["rows"]),
            "pass_at": {
                str(k): sum(
                    times * pass_at_k(total, right, k) for (right, total), times in self._problems.items()
                )
                / n
                for k in PASS_AT
                if samples > 1 and k <= samples
            },
        } | {name: made[name] for name in ("judged",) if name in made}


def summarise(rows: Iterable[Attempt]) -> dict[str, Any]:
    """`SetSummary` of rows in any order."""
    by_problem: dict[str, list[Attempt]] = defaultdict(list)
    for row in rows:
        by_problem[row.problem_id].append(row)
    summary = SetSummary()
    for mine in by_problem.values():
        summary.add(mine)
    return summary.to_dict()


class CategorySummary:
    """Accuracies of a problem set for each value of its metadata columns: column -> value -> n, answers, correct, accuracy, interval.

    A column with more than MOST_CATEGORIES values is left out: it names problems, no categories.
    """

    _KEYS = ("n", "answers", "correct", "accuracy", "low", "high")

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, Counter[tuple[int, int]]]] = {}

    def add(self, rows: Sequence[Attempt], metadata: Mapping[str, str]) -> None:
        """Adds all answers to one problem with its columns."""
        if not metadata:
            return
        found = (sum(row.verdict == "correct" for row in rows), len(rows))
        for column, value in metadata.items():
            values = self._columns.setdefault(column, {})
            if (
                value in values or len(values) <= MOST_CATEGORIES
            ):  # one more than are shown tells that there are too many
                values.setdefault(value, Counter())[found] += 1

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The figures so far; empty where no problem has any column."""
        return {
            column: {value: self._figures(counts) for value, counts in sorted(values.items())}
            for column, values in self._columns.items()
            if len(values) <= MOST_CATEGORIES
        }

    def _figures(self, counts: Counter[tuple[int, int]]) -> dict[str, Any]:
        right, answers = (sum(times * pair[k] for pair, times in counts.items()) for k in (0, 1))
        figures = (counts.total(), answers, right, share(right, answers), *clustered_interval(counts))
        return dict(zip(self._KEYS, figures, strict=True))


class ErrorCounts:
    """Wrong problems by split and kind of error, row by row."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, row: Feedback) -> None:
        """Counts a problem, where it is wrong."""
        if row.verdict != "correct":
            self._counts[row.split][row.error_kind] += 1

    def to_dict(self) -> dict[str, dict[str, int]]:
        """The counts so far, in the order of split and kind."""
        return {split: dict(sorted(counter.items())) for split, counter in sorted(self._counts.items())}


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


def is_right(score: float) -> bool:
    """Whether a problem counts as right where two students are compared: with several answers, more than half of them."""
    return score > 0.5


def compare(before: int, after: int, name: str, scores: Iterable[tuple[float, float]]) -> Flips:
    """The flips on the problems that both answered.

    Args:
        before, after: iterations of the students, UNTRAINED for the untrained one.
        scores: their shares of right answers to each of these problems (`is_right`).
    """
    counts = Counter((is_right(old), is_right(new)) for old, new in scores)
    fixed, broken = counts[False, True], counts[True, False]
    return Flips(
        before, after, name, fixed, broken, counts[False, False], counts[True, True], mcnemar(fixed, broken)
    )


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


def rows_encoded(train: Counts, distilled: Counts) -> tuple[int, int]:
    """`rows_learned`, with those that the student could have learned: the steps did not reach them."""
    learned, given = rows_learned(train, distilled)
    return learned + int(train.get("rows_left_out", {}).get(NOT_REACHED, 0)), given
