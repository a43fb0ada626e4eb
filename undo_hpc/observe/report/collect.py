"""What the report shows, read from a run directory into plain values. Iterations that are not complete are left out."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from undo_hpc.control.finished import all_metrics, left_out
from undo_hpc.control.results import finished_problem
from undo_hpc.control.spent import RunCost, measure
from undo_hpc.data.cards import benchmark_details
from undo_hpc.errors import StorageError, UndoError
from undo_hpc.method.metrics import UNTRAINED, Flips, beats_untrained, compare, share
from undo_hpc.observe.attempts import PromptReader, answered
from undo_hpc.observe.report.asked import Asked, read_asked
from undo_hpc.observe.report.examples import Example, choose, join_sorted
from undo_hpc.observe.wording import figures_left_out
from undo_hpc.pipeline.results import require_outputs
from undo_hpc.pipeline.run import Run
from undo_hpc.records import SPLITS, Feedback
from undo_hpc.stages.answered_problems import counted_slices
from undo_hpc.storage.reading import read_rows_tolerant
from undo_hpc.storage.shards import read_rows

KINDS = ("arithmetic", "setup", "truncated", "format", "no_answer")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Point:
    """An accuracy with what stands beside it, as counts. `iteration` is -1 for the untrained student; `right_unboxed` is None in
    runs that did not count it."""

    iteration: int
    n: int
    answers: int
    correct: int
    accuracy: float
    low: float
    high: float
    truncated: int
    unanswered: int
    right_unboxed: int | None
    mean_tokens: float


@dataclass(frozen=True)
class Series:
    """Accuracies of one benchmark or split."""

    name: str
    title: str
    points: list[Point]

    @property
    def n(self) -> str:
        """Problems that were answered: of all students the same number, or the least and the most."""
        low, high = min(p.n for p in self.points), max(p.n for p in self.points)
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def at(self, iteration: int) -> Point | None:
        """The accuracy of that student."""
        return next((p for p in self.points if p.iteration == iteration), None)


@dataclass
class ReportData:
    """All that the report shows."""

    run: Run
    metrics: list[dict[str, Any]]
    series: list[Series]
    losses: dict[int, list[tuple[float, float]]]
    flips: list[Flips]
    lengths: dict[int, list[float]]
    cost: RunCost
    benchmarks: dict[str, Any]
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    asked: dict[tuple[int, str], Asked] = field(
        default_factory=dict
    )  # by iteration and problem, of the examples that are shown
    prompts: list[tuple[str, str, str]] = field(default_factory=list)
    against: dict[int, Flips] = field(
        default_factory=dict
    )  # the chosen student against the untrained, and the first, on validation

    @property
    def best(self) -> int | None:
        """The iteration that validation chose."""
        return int(self.metrics[-1]["decision"]["best_iteration"]) if self.metrics else None

    @property
    def beats_untrained(self) -> bool | None:
        """Whether the chosen iteration is more accurate on validation than the untrained student."""
        return beats_untrained(self.metrics)

    def one(self, name: str) -> Series | None:
        """The series of that name."""
        return next((s for s in self.series if s.name == name), None)

    def title(self, name: str) -> str:
        """A set's name as it is shown."""
        found = self.one(name)
        return found.title if found else name

    def students(self) -> list[int]:
        """All students that were evaluated, the untrained one first."""
        return sorted({p.iteration for s in self.series for p in s.points})

    def errors(self, item: dict[str, Any]) -> dict[str, int]:
        """Wrong answers of an iteration by kind, over all splits."""
        return {kind: sum(split.get(kind, 0) for split in item["errors"].values()) for kind in KINDS}

    @property
    def headline_flips(self) -> Flips | None:
        """The chosen student against the untrained one (or the first iteration) on validation; None where there is only one."""
        return next((self.against[other] for other in (UNTRAINED, 0) if other in self.against), None)


def collect(run: Run) -> ReportData:
    """Reads the run. Damaged parts are left out and named in `notes`."""
    metrics = all_metrics(run)
    benchmarks = benchmark_details(run)
    notes = figures_left_out(left_out(run))
    data = ReportData(
        run, metrics, _series(metrics, benchmarks), {}, [], {}, measure(run), benchmarks, notes=notes
    )
    feedback: dict[int, _FeedbackFile] = {}
    for item in metrics:
        number = int(item["iteration"])
        try:
            data.losses[number] = _loss(run, number)
            if (steps := item.get("train", {}).get("step")) and steps not in dict(data.losses[number][-1:]):
                notes.append(
                    f"iteration {number}: the log of its training is damaged or incomplete, and so is its curve"
                )
            data.lengths[number] = _lengths(run, number)
            if not item.get("until"):
                feedback[number] = _FeedbackFile(run, number)
        except (UndoError, OSError) as error:
            notes.append(f"iteration {number} is shown in part: {str(error).splitlines()[0]}")
    try:
        data.flips, data.against = _flips(run, metrics, data.best)
    except (UndoError, OSError, KeyError) as error:
        notes.append(f"the changes between students are not shown: {str(error).splitlines()[0]}")
    data.examples = _examples(feedback, run.config.display.report_examples, notes)
    try:
        wanted = {
            (number, e.old.idx, e.old.problem_id)
            for e in data.examples
            for number in (e.before, e.after)
            if number is not None
        }
        data.asked = read_asked(run, wanted)
        data.prompts = list(_prompts(run))
    except (UndoError, OSError) as error:
        notes.append(f"what the teacher was asked is not shown: {str(error).splitlines()[0]}")
    return data


class _FeedbackFile:
    """The rows of an iteration's feedback.jsonl, read again as a stream by each who iterates."""

    def __init__(self, run: Run, number: int) -> None:
        self._path = run.layout.iteration(number).feedback
        self.error = finished_problem(run, number, "advance", self._path)
        if self.error:
            raise StorageError(self.error)

    def __iter__(self) -> Iterator[Feedback]:
        try:
            yield from map(Feedback.from_dict, read_rows(self._path))
        except (UndoError, OSError, TypeError) as error:
            self.error = str(error).splitlines()[0]
            raise


def _examples(feedback: dict[int, _FeedbackFile], most: int, notes: list[str]) -> list[Example]:
    """The examples that are shown, of all iterations whose feedback can be read; the others are named in `notes`."""
    while True:
        try:
            return choose(feedback, most)
        except (UndoError, OSError, TypeError):
            for number in [k for k, file in feedback.items() if file.error]:
                notes.append(f"iteration {number} is shown in part: {feedback.pop(number).error}")


def _prompts(run: Run) -> Iterator[tuple[str, str, str]]:
    """Title, remark and text of one prompt of each kind, as the models read them."""
    reader, seen = PromptReader(run), set()
    for stage, iterations in (("generate", run.layout.iterations()), ("evaluate", [0])):
        for iteration in iterations:
            row = next(answered(run, stage, iteration), None)
            if row is not None and (stage, row.attempt.style) not in seen:
                seen.add((stage, row.attempt.style))
                text, remark = reader.as_read(row)
                names = {
                    "plain": "Teacher, a first rationale",
                    "refine": "Teacher, a refinement",
                    "student": "Student",
                }
                yield names.get(row.attempt.style, row.attempt.style), remark, text


def _series(metrics: Sequence[dict[str, Any]], benchmarks: dict[str, Any]) -> list[Series]:
    """Validation first, then the benchmarks, then the other splits."""
    names = list(dict.fromkeys(name for item in metrics for name in item["sets"]))
    order = ["validation", *(n for n in names if n not in SPLITS), "diagnosis", "train"]
    found = []
    for name in order:
        if name not in names:
            continue
        points = []
        if metrics[0].get("baseline", {}).get(name):
            points.append(_point(UNTRAINED, metrics[0]["baseline"][name]))
        points += [
            _point(int(item["iteration"]), item["sets"][name]) for item in metrics if name in item["sets"]
        ]
        title = {"validation": "Validation", "diagnosis": "Diagnosis", "train": "Training problems"}.get(name)
        found.append(Series(name, title or str(benchmarks.get(name, {}).get("title") or name), points))
    return found


def _point(iteration: int, item: dict[str, Any]) -> Point:
    unboxed = item.get("right_unboxed")
    return Point(
        iteration,
        int(item["n"]),
        int(item["answers"]),
        int(item["correct"]),
        float(item["accuracy"]),
        float(item["low"]),
        float(item["high"]),
        int(item["truncated"]),
        int(item["no_answer"]),
        None if unboxed is None else int(unboxed),
        float(item["mean_tokens"]),
    )


def _loss(run: Run, iteration: int) -> list[tuple[float, float]]:
    """(step, loss), thinned to 400 points."""
    found = {}
    for row in read_rows_tolerant(run.layout.iteration(iteration).train_metrics):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found[float(row["step"])] = float(row["loss"])
    points = sorted(found.items())
    thin = max(1, len(points) // 400)
    return points[::thin] + (points[-1:] if points and (len(points) - 1) % thin else [])


def _lengths(run: Run, iteration: int) -> list[float]:
    """Quantiles of the rationales' lengths in the distilled set, in the teacher's tokens."""
    import pyarrow.parquet as pq

    from undo_hpc.data.distilled import parquet_files

    require_outputs(run, iteration, "merge")
    counts: Counter[int] = Counter()
    for path in parquet_files(run.layout.iteration(iteration).distilled):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["completion_tokens"]):
                counts.update(batch.column(0).to_pylist())
    return _quantiles(counts)


def _quantiles(counts: Counter[int]) -> list[float]:
    """QUANTILES of values that are given by how often each is there, between two of them in proportion; empty for none."""
    values = sorted(counts)
    ends = list(accumulate(counts[value] for value in values))
    found = []
    for q in QUANTILES if values else ():
        below, part = divmod(q * (ends[-1] - 1), 1)
        low, high = (values[bisect_right(ends, below + step)] for step in (0, part > 0))
        found.append(low + part * (high - low))
    return found


Score = tuple[int, str, float]  # idx, problem_id, share of right answers


def _scores(run: Run, student: int) -> dict[str, Callable[[], Iterator[Score]]]:
    """By set, what reads the scores of an iteration's student (or the untrained one) as a stream, in the order of the set."""
    at = run.layout.iteration(max(student, 0))
    stage = "baseline" if student == UNTRAINED else "evaluate"
    require_outputs(run, max(student, 0), stage)
    shards: dict[str, list[Path]] = {}
    for part in counted_slices(run, max(student, 0), stage):
        path = at.shard(stage, part.shard, part.problem_set)
        if path.exists():
            shards.setdefault(part.problem_set, []).append(path)
    return {name: partial(_scores_in, paths) for name, paths in shards.items()}


def _scores_in(paths: Sequence[Path]) -> Iterator[Score]:
    rows = chain.from_iterable(map(read_rows, paths))
    for (idx, who), mine in groupby(rows, key=itemgetter("idx", "problem_id")):
        right = [row["verdict"] == "correct" for row in mine]
        yield idx, who, share(sum(right), len(right))


def _compare(before: int, after: int, name: str, old: Iterator[Score], new: Iterator[Score]) -> Flips:
    pairs = join_sorted(old, new, itemgetter(0, 1), itemgetter(0, 1))
    return compare(before, after, name, ((was[2], now[2]) for was, now in pairs))


def _flips(
    run: Run, metrics: Sequence[dict[str, Any]], best: int | None
) -> tuple[list[Flips], dict[int, Flips]]:
    """From the untrained student to the first, from each to the next; a problem counts as right above one half. And the best
    against the untrained and the first, on validation."""
    students = [UNTRAINED] if metrics and metrics[0].get("baseline") else []
    students += [int(item["iteration"]) for item in metrics]
    found: list[Flips] = []
    scores = {student: _scores(run, student) for student in students}
    for before, after in pairwise(students):
        found += [
            _compare(before, after, name, scores[before][name](), read())
            for name, read in scores[after].items()
            if name in scores[before]
        ]
    against = {}
    if best is not None and "validation" in scores.get(best, {}):
        for other in dict.fromkeys((UNTRAINED, 0)):
            if other != best and "validation" in scores.get(other, {}):
                streams = scores[other]["validation"](), scores[best]["validation"]()
                against[other] = _compare(other, best, "validation", *streams)
    return found, against
