"""advance: what the iteration achieved, what the student gets wrong, and whether the loop goes on.

Writes metrics.json (every accuracy with n, interval, truncated and unanswered), feedback.jsonl (what the next teacher sees),
predictions.parquet (the student's answers to the training problems), and the decision, which looks at validation only. All is read once and
as streams, so its memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.method.copying import Copying
from undo_hpc.method.diagnosis import error_kind
from undo_hpc.method.metrics import CategorySummary, ErrorCounts, SetSummary, beats_untrained, sum_generation
from undo_hpc.method.targets import is_chosen
from undo_hpc.pipeline.plan import EvaluationSlice, decide_run
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.stages import is_graded, spec_of
from undo_hpc.records import SPLITS, Feedback
from undo_hpc.stages.answered_problems import (
    AnsweredProblem,
    Slices,
    answered_problems,
    answered_slices,
    with_rationales,
)
from undo_hpc.stages.context import StageContext, gate, how_to_make_again
from undo_hpc.stages.predictions import Predictions
from undo_hpc.stages.prepare import prepared_digest, require_added
from undo_hpc.stages.verdicts import checker_of_tasks, checkers_of_tasks, require_one_checker
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.manifest import Manifest, Output, read_manifest, sealed
from undo_hpc.storage.shards import encode_row


def run_stage(ctx: StageContext) -> None:
    """Writes metrics, feedback, predictions and the decision; of a cut iteration the metrics of what there is.

    Raises:
        EvidenceError: evaluations are missing or do not match their manifests.
        ConfigError: verdicts of different checkers would be compared.
    """
    graph, config = ctx.graph, ctx.run.config
    cut = ctx.task.inputs["until"]
    if not cut:
        gate(ctx, "merge")  # the rationales beside the answers are read too
    used: dict[str, list[int]] = {}
    inputs: dict[str, str] = {"until": cut} if cut else {}
    graded: list[Manifest] = []
    for name in ctx.stage.after if cut else ("evaluate", "baseline", *config.stages):
        if name not in graph:
            continue
        complete, _, digests = gate(ctx, name)
        inputs |= digests
        used[name] = [m.index for m in complete]
        graded += complete if spec_of(name).keeps_rows or is_graded(config, name) else []
    _require_problems(ctx)
    checker = checker_of_tasks(ctx.run, ctx.plan.iteration, graded)
    require_one_checker(ctx.run, ctx.plan.iteration, checker)
    answers = {stage: answered_slices(ctx, stage, used.get(stage, ())) for stage in ("evaluate", "baseline")}
    made = _Figures(ctx, learned="merge" in graph)
    outputs: dict[Path, int | None] = {ctx.at.metrics: None}
    known: dict[Path, Output] = {}
    with Predictions(ctx.at.predictions) as predictions:
        rows = made.read_splits(answers["evaluate"], predictions)
        if cut:  # nothing is taught after it
            deque(rows, maxlen=0)
        else:
            write_bytes(ctx.at.feedback, _same_as_before(ctx, map(encode_row, rows)))
            outputs[ctx.at.feedback] = made.feedback
    if predictions.output is not None:
        known[ctx.at.predictions] = predictions.output
    made.read_benchmarks(answers["evaluate"])
    sets = made.of("evaluate", answers["evaluate"])
    made.read_untrained(answers["baseline"])
    distilled = stage_counts(ctx, "merge") or {"rows": 0, "refreshed": 0, "dropped": {}}
    metrics = {
        "iteration": ctx.plan.iteration,
        "checker": checker,
        "sets": sets,
        "baseline": made.of("baseline", answers["baseline"]),
        **made.categories(answers["evaluate"]),
        "errors": {} if cut else made.errors.to_dict(),
        "to_refine": 0 if cut else made.to_refine,
        "generate": generation_summary(ctx, checker),
        "train": stage_counts(ctx, "train"),
        "distilled": distilled,
    } | ({"until": cut} if cut else {})
    if "score" in graph:
        metrics["score"] = score_summary(ctx)
    history = [*(read_metrics(ctx.run, k) for k in range(ctx.plan.iteration)), metrics]
    decision = decide_run(config, [item["sets"] for item in history])  # looks at validation, at no test set
    metrics["decision"] = decision.to_dict()
    write_json(ctx.at.metrics, sealed(metrics))
    ctx.publish(
        outputs,
        known,
        inputs=inputs,
        counts={name: item["answers"] for name, item in sets.items()},
        details={f"{stage}_used": indices for stage, indices in used.items()}
        | ({"added": ctx.plan.added} if ctx.plan.added else {}),
    )
    ctx.say(f"decision: {decision.action} ({decision.why}); best iteration so far: {decision.best_iteration}")
    if beats_untrained(history) is False:
        ctx.say("no iteration beats the untrained student on validation")


def _same_as_before(ctx: StageContext, rows: Iterator[bytes]) -> Iterator[bytes]:
    """The rows of the feedback. Raises EvidenceError behind the last one where the next iteration was made from others: nothing is written."""
    number = ctx.plan.iteration
    try:
        later = ctx.run.plan(number + 1)
    except StorageError:  # damaged: it is made again, from these rows
        later = None
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row)
        yield row
    if later is not None and later.inputs.get("feedback") not in (None, digest.hexdigest()):
        raise EvidenceError(
            f"iteration {number} would have other feedback now than iteration {number + 1} was made from",
            hint=f"put back what was changed in {ctx.at.root}; or {how_to_make_again(ctx.run, number + 1)}",
            blocked=True,
        )


def _require_problems(ctx: StageContext) -> None:
    """The problems that were answered are still those that were frozen: their texts and ground truths go into the feedback. Raises EvidenceError."""
    names = {part.problem_set for stage in ("evaluate", "baseline") for part in ctx.plan.slices(stage)}
    prepared_digest(ctx.run, map(ctx.run.problems_file, names - ctx.plan.added.keys()))
    for name in sorted(names & ctx.plan.added.keys()):
        require_added(ctx.run, name)


class _Figures:
    """All figures of an iteration's students, each set read once, problem by problem.

    Args:
        learned: whether there is a distilled set, whose rationales stand beside the answers.
    """

    def __init__(self, ctx: StageContext, *, learned: bool) -> None:
        self._ctx, self._method, self._learned = ctx, ctx.run.config.method, learned
        self._sets: dict[tuple[str, str], SetSummary] = defaultdict(SetSummary)
        self._categories: dict[str, CategorySummary] = defaultdict(CategorySummary)
        self.errors = ErrorCounts()
        self.to_refine = self.feedback = 0

    def read_splits(self, answers: Slices, predictions: Predictions) -> Iterator[dict[str, Any]]:
        """A row of Feedback, as on disk, for each evaluated problem of a split: the present rationale, the student's answer, how it failed.

        Where there is no rationale, the data's own solution stands in for it only where it tells the teacher no ground truth of what it is
        to write: on validation; on diagnosis with `method.show_truth`, and where its rows are shown as examples and nothing is written for them.
        """
        method = self._method
        examples_only = (
            method.examples > 0 and method.examples_from == "diagnosis" and method.errors_from == "train"
        )
        solved_by_data = (
            ("validation", "diagnosis") if method.show_truth or examples_only else ("validation",)
        )
        splits = [self._read("evaluate", name, answers[name]) for name in SPLITS if name in answers]
        for answered in with_rationales(self._ctx, splits) if self._learned and splits else chain(*splits):
            if answered.problem_set == "train":
                predictions.add(answered)
            row = _feedback(answered, from_data=answered.problem_set in solved_by_data)
            fields = row.to_dict()
            self.errors.add(row)
            self.to_refine += is_chosen(fields, method)
            self.feedback += 1
            yield fields

    def read_benchmarks(self, answers: Slices) -> None:
        """All that is no split."""
        for name in answers:
            if name not in SPLITS:
                deque(self._read("evaluate", name, answers[name]), maxlen=0)

    def read_untrained(self, answers: Slices) -> None:
        """The untrained student's answers."""
        for name, parts in answers.items():
            deque(self._read("baseline", name, parts), maxlen=0)

    def _read(self, stage: str, name: str, parts: Sequence[EvaluationSlice]) -> Iterator[AnsweredProblem]:
        summary = self._sets[stage, name]
        for answered in answered_problems(self._ctx, stage, name, parts):
            summary.add(answered.rows)
            if stage == "evaluate" and (metadata := answered.problem.get("metadata")):
                self._categories[name].add(answered.rows, metadata)
            yield answered

    def of(self, stage: str, answers: Slices) -> dict[str, dict[str, Any]]:
        """The summary of each set of a stage, in the order of the plan."""
        return {name: self._sets[stage, name].to_dict() for name in answers}

    def categories(self, answers: Slices) -> dict[str, Any]:
        """`categories` of metrics.json: accuracies by metadata column and value; no such key where no problem has any."""
        found = {name: made for name in answers if (made := self._categories[name].to_dict())}
        return {"categories": found} if found else {}


def _feedback(answered: AnsweredProblem, *, from_data: bool) -> Feedback:
    """The first wrong answer speaks for the problem; where all are right, the first."""
    problem, rows, rationale = answered.problem, answered.rows, answered.rationale
    solution = problem["solution"] if from_data and rationale is None else ""
    right = sum(row.verdict == "correct" for row in rows)
    shown = next((row for row in rows if row.verdict != "correct"), rows[0])
    return Feedback(
        problem_id=problem["problem_id"],
        idx=problem["idx"],
        split=answered.problem_set,
        problem=problem["problem"],
        ground_truth=problem["ground_truth"],
        rationale=solution if rationale is None else rationale,
        student_answer=shown.text,
        verdict=shown.verdict,
        error_kind=""
        if shown.verdict == "correct"
        else shown.error_kind or error_kind(shown, problem["ground_truth"]),
        score=right / len(rows),
        unstable=0 < right < len(rows),
        rationale_from_data=bool(solution),
    )


def generation_summary(ctx: StageContext, checker: str) -> dict[str, Any]:
    """Yield and cost of the teacher's work, over the shards that the distilled set was made of (all, where there is none).

    Names its checkers where one is another than that of the student's answers, as after an update of the program or a fork: nothing is
    made again for that, but figures of them are not told as if they were of one.
    """
    if "generate" not in ctx.graph:
        return sum_generation(()) | {"error": "", "tasks": 0}
    merged = read_manifest(ctx.at.stage_manifest("merge")) if "merge" in ctx.graph else None
    manifests = _counted(ctx, "generate", merged.details["generate_used"] if merged else None)
    error = next((message for m in manifests if (message := m.details.get("error"))), "")
    summary = sum_generation(m.counts for m in manifests) | {"error": error, "tasks": len(manifests)}
    found = sorted(checkers_of_tasks(ctx.run, ctx.plan.iteration, manifests) - {""})  # of old versions
    return summary | ({} if found in ([], [checker]) else {"checkers": found})


def _counted(ctx: StageContext, stage: str, used: Sequence[int] | None = None) -> list[Manifest]:
    """The manifests of a stage's tasks (those with the indices `used`), for what they count. Raises EvidenceError where one of them is
    missing or damaged: the figures would be of the others alone."""
    found = []
    for task in ctx.graph[stage].tasks:
        if used is None or task.index in used:
            manifest = read_manifest(ctx.run.layout.root / task.manifest)
            if manifest is not None:
                found.append(manifest)
            elif used is not None or stage == "score":
                hint = "run the launcher again; it submits what is missing"
                raise EvidenceError(f"{task.stage} {task.label}: {task.manifest} is missing", hint=hint)
    return found


def score_summary(ctx: StageContext) -> dict[str, Any]:
    """What the teacher scored, prompts included, and whether it copied the student's errors."""
    manifests = _counted(ctx, "score")
    counts = (
        {name: sum(m.counts[name] for m in manifests) for name in manifests[0].counts} if manifests else {}
    )
    return counts | {"copying": Copying.total(m.details["copying"] for m in manifests).to_dict()}


def stage_counts(ctx: StageContext, stage: str) -> dict[str, Any]:
    """The counts of a single-task stage's manifest; none where a cut iteration does not have the stage."""
    manifest = read_manifest(ctx.at.stage_manifest(stage)) if stage in ctx.graph else None
    return dict(manifest.counts) if manifest else {}
