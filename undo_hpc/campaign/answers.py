"""What a run contributes to a comparison: the compared student's scores on a benchmark, and what it cost."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from undo_hpc.config.schema import SamplingConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.data.distilled import parquet_files
from undo_hpc.errors import DataError
from undo_hpc.method.paired import maj_at_k
from undo_hpc.method.stats import pass_at_k
from undo_hpc.pipeline.results import require_outputs
from undo_hpc.pipeline.run import Run
from undo_hpc.stages.answered_problems import counted_slices
from undo_hpc.stages.prepare import prepared_digest, require_added
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import read_rows


@dataclass(frozen=True)
class Ledger:
    """What a run used.

    Attributes:
        teacher_tokens: read and written by the teacher in all iterations.
        student_tokens: the compared student was trained on; with `start_from: previous`, its parents too.
        all_student_tokens: of all students of the run.
        problems: distinct ones that the compared student learned from, or the one of its parents that learned from most (later
            distilled sets carry earlier ones on; a student's own answers need not).
        rationale_tokens: mean length of the rationales of its distilled set, in the teacher's tokens.
        kept: share of the teacher's attempts that were right.
        scored_tokens: of `teacher_tokens` those that were read to score a text, in one pass; the others were read to write, or written.
    """

    teacher_tokens: int
    student_tokens: int
    all_student_tokens: int
    problems: int
    rationale_tokens: float
    kept: float
    scored_tokens: int = 0


@dataclass(frozen=True)
class RunResult:
    """A finished run as a comparison sees it.

    Attributes:
        iteration: of the compared student.
        student: digest of its files: two arms may have the very same one, of an iteration before they differ.
        scores: share of right answers by problem.
        correct, answers: over all samples.
        pass_at: pass@k by k, of several samples a problem.
        majority: maj@k with all samples; None with one.
        accuracies: of the benchmark by iteration, the untrained student first where it was evaluated (-1).
        validation: accuracy of the compared student on validation; 0 where there is none.
        repeated: (answers judged otherwise, answers) where the student answered again in other batches.
        truths: digest of what the answers were judged by: ids, ground truths and options of the problems.
        sampling: how the answers were drawn.
    """

    run: Run
    iteration: int
    student: str
    scores: dict[str, float]
    correct: int
    answers: int
    pass_at: dict[int, float]
    majority: float | None
    accuracies: dict[int, float]
    ledger: Ledger
    validation: float = 0.0
    repeated: tuple[int, int] = (0, 0)
    truths: str = ""
    sampling: SamplingConfig | None = None

    @property
    def accuracy(self) -> float:
        """Mean over problems of the share of right answers."""
        return sum(self.scores.values()) / len(self.scores)


def has_ended(run: Run, iterations: int | None = None) -> bool:
    """Whether its last iteration is finished and decides to stop, under the present configuration, or that of so many iterations."""
    metrics = _metrics(run, iterations)
    return bool(metrics) and metrics[-1]["decision"]["action"] != "continue"


def _metrics(run: Run, iterations: int | None) -> list[dict[str, Any]]:
    """`all_metrics`; of the first so many iterations, as if no more had been asked for: a run of a campaign may have been continued by itself."""
    if iterations is None:
        return all_metrics(run)
    asked = replace(run, config=run.config.model_copy(update={"iterations": iterations}))
    return all_metrics(asked)[:iterations]


def best_of(results: Sequence[RunResult]) -> RunResult | None:
    """The one that is best on validation, of equals the first; None of none."""
    return max(results, key=lambda result: result.validation, default=None)


def read_result(
    run: Run, problem_set: str, student: Literal["best", "last"] = "best", iterations: int | None = None
) -> RunResult | None:
    """The result of a run that has ended; None while it has not.

    Args:
        iterations: what a campaign asks for; without it what the run was last asked for.

    Raises:
        DataError: it has no such set; or a reported accuracy is not the share that its rows give.
    """
    metrics = _metrics(run, iterations)
    if not metrics or metrics[-1]["decision"]["action"] == "continue":
        return None
    iteration = int(
        metrics[-1]["decision"]["best_iteration"] if student == "best" else metrics[-1]["iteration"]
    )
    reported = metrics[iteration]["sets"].get(problem_set)
    if reported is None:
        there = ", ".join(metrics[iteration]["sets"])
        raise DataError(
            f"{run.layout.root} was not evaluated on {problem_set!r}", hint=f"its sets are {there}"
        )
    rows = _rows(run, iteration, problem_set)
    right = {key: [ok for _, ok in answers] for key, answers in rows.items()}
    samples = min(map(len, right.values()))
    result = RunResult(
        run=run,
        iteration=iteration,
        student=trained.digest
        if (trained := read_manifest(run.layout.iteration(iteration).stage_manifest("train")))
        else "",
        scores={key: sum(v) / len(v) for key, v in right.items()},
        correct=sum(map(sum, right.values())),
        answers=sum(map(len, right.values())),
        pass_at={
            k: sum(pass_at_k(len(v), sum(v), k) for v in right.values()) / len(right)
            for k in (1, 2, 4, 8, 16)
            if samples > 1 and k <= samples
        },
        majority=sum(maj_at_k(a, samples) for a in rows.values()) / len(rows) if samples > 1 else None,
        accuracies=_accuracies(metrics, problem_set),
        ledger=_ledger(run, metrics, iteration),
        validation=float(metrics[iteration]["sets"].get("validation", {}).get("accuracy", 0.0)),
        repeated=_repeated(run, iteration, problem_set, rows),
        truths=truths_of(run, problem_set),
        sampling=run.config.evaluate.asked(problem_set)[1],
    )
    counted = (len(rows), result.answers, result.correct)
    if (
        counted != (reported["n"], reported["answers"], reported["correct"])
        or abs(result.accuracy - reported["accuracy"]) > 1e-9
    ):
        raise DataError(
            f"{run.layout.root}: metrics.json says {reported['correct']} of {reported['answers']} answers of {problem_set} are right, "
            f"its rows say {result.correct} of {result.answers}",
            hint="the answers were changed after they were counted; see undo-hpc regrade",
        )
    return result


def truths_of(run: Run, problem_set: str) -> str:
    """Digest of what answers to a set are judged by. Raises EvidenceError where its frozen problems have changed."""
    if problem_set in run.config.evaluate.added:
        require_added(run, problem_set)
    else:
        prepared_digest(run, [run.problems_file(problem_set)])
    judged = sorted((p.problem_id, p.ground_truth, p.options) for p in run.problems(problem_set))
    return hashlib.sha256(repr(judged).encode("utf-8", "surrogatepass")).hexdigest()


def _repeated(
    run: Run, iteration: int, problem_set: str, rows: dict[str, list[tuple[str, bool]]]
) -> tuple[int, int]:
    again = _rows(run, iteration, problem_set, "repeat")
    pairs = [
        (mine[1], theirs[1]) for key in again for mine, theirs in zip(rows[key], again[key], strict=True)
    ]
    return sum(mine != theirs for mine, theirs in pairs), len(pairs)


def _rows(
    run: Run, iteration: int, problem_set: str, stage: str = "evaluate"
) -> dict[str, list[tuple[str, bool]]]:
    """(answer, whether it is right) of each problem, in the order of attempts. Raises StorageError where a shard has changed."""
    at = run.layout.iteration(iteration)
    require_outputs(run, iteration, stage, at.answers(stage) / problem_set)
    found: dict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for part in counted_slices(run, iteration, "evaluate"):
        path = at.shard(stage, part.shard, part.problem_set)
        if part.problem_set == problem_set and path.exists():
            for row in read_rows(path):
                found[row["problem_id"]].append((row["attempt"], row["answer"], row["verdict"] == "correct"))
    return {key: [(answer, right) for _, answer, right in sorted(rows)] for key, rows in found.items()}


def _accuracies(metrics: list[dict[str, Any]], problem_set: str) -> dict[int, float]:
    untrained = metrics[0].get("baseline", {}).get(problem_set)
    found = {-1: float(untrained["accuracy"])} if untrained else {}
    return found | {
        int(m["iteration"]): float(m["sets"][problem_set]["accuracy"])
        for m in metrics
        if problem_set in m["sets"]
    }


def _problems_learned(run: Run, train: dict[str, Any], iteration: int) -> int:
    """Distinct problems that one training learned from; those of its distilled set where the training counted none."""
    import pyarrow.parquet as pq

    if "problems_learned" in train:
        return int(train["problems_learned"])
    if files := parquet_files(run.layout.iteration(iteration).distilled):
        require_outputs(run, iteration, "merge")
    return len({each for path in files for each in pq.read_table(path, columns=["id"]).column(0).to_pylist()})


def _ledger(run: Run, metrics: list[dict[str, Any]], iteration: int) -> Ledger:
    import pyarrow.parquet as pq

    trained = [int(m["train"].get("tokens", 0)) for m in metrics]
    first = 0 if run.config.method.start_from == "previous" else iteration
    lineage = range(first, iteration + 1)
    require_outputs(run, iteration, "merge")
    lengths: list[int] = []
    for path in parquet_files(run.layout.iteration(iteration).distilled):
        lengths += pq.read_table(path, columns=["completion_tokens"]).column(0).to_pylist()
    made = sum(m["generate"]["rows"] for m in metrics)
    # The control asks no teacher, though earlier scores count the student's own tokens as read.
    no_teacher = run.config.distill.loss == "fixed_advantage"
    scored = 0 if no_teacher else sum(int(m.get("score", {}).get("tokens", 0)) for m in metrics)
    return Ledger(
        teacher_tokens=sum(
            m["generate"]["prompt_tokens"] + m["generate"]["completion_tokens"] for m in metrics
        )
        + scored,
        scored_tokens=scored,
        student_tokens=sum(trained[k] for k in lineage),
        all_student_tokens=sum(trained),
        problems=max(_problems_learned(run, metrics[k]["train"], k) for k in lineage),
        rationale_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        kept=sum(m["generate"]["correct"] for m in metrics) / made if made else 0.0,
    )
