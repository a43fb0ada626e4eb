"""advance: what the iteration achieved, what the student gets wrong, and whether the loop goes on.

Writes metrics.json (every accuracy with n, interval, truncated and unanswered), feedback.jsonl (what the next teacher sees),
predictions.parquet (the student's answers to the training problems), and the decision, which looks at validation only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from undo_hpc.data.distilled import read_distilled
from undo_hpc.method.copying import Copying
from undo_hpc.method.diagnosis import diagnose
from undo_hpc.method.metrics import beats_untrained, by_category, count_errors, sum_generation, summarise
from undo_hpc.method.targets import is_chosen
from undo_hpc.pipeline.plan import decide_run
from undo_hpc.pipeline.stages import spec_of
from undo_hpc.records import SPLITS, Attempt, Feedback, Problem
from undo_hpc.stages.context import StageContext, collect, gate
from undo_hpc.stages.verdicts import checker_of_tasks, require_one_checker
from undo_hpc.storage.atomic import read_json, write_bytes, write_json
from undo_hpc.storage.manifest import Manifest, read_manifest
from undo_hpc.storage.shards import dump_rows, read_rows


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
        graded += complete if spec_of(name).keeps_rows else []
    checker = checker_of_tasks(ctx.run, ctx.plan.iteration, graded)
    require_one_checker(ctx.run, ctx.plan.iteration, checker)
    answers = read_answers(ctx, "evaluate", used.get("evaluate", ()))
    untrained = read_answers(ctx, "baseline", used.get("baseline", ()))

    feedback: list[Feedback] = []
    if not cut:
        feedback = sorted(make_feedback(ctx, answers), key=lambda row: (row.idx, row.problem_id))
        write_bytes(ctx.at.feedback, dump_rows([row.to_dict() for row in feedback]))
    if "train" in answers:
        write_predictions(ctx, answers["train"])
    distilled = stage_counts(ctx, "merge") or {"rows": 0, "refreshed": 0, "dropped": {}}
    metrics = {
        "iteration": ctx.plan.iteration,
        "checker": checker,
        "sets": {name: summarise(rows) for name, rows in answers.items()},
        "baseline": {name: summarise(rows) for name, rows in untrained.items()},
        **_categories(ctx, answers),
        "errors": count_errors(feedback),
        "to_refine": sum(is_chosen(row.to_dict(), config.method) for row in feedback),
        "generate": generation_summary(ctx),
        "train": stage_counts(ctx, "train"),
        "distilled": distilled,
    } | ({"until": cut} if cut else {})
    if "score" in graph:
        metrics["score"] = score_summary(ctx)
    earlier = (ctx.run.layout.iteration(k).metrics for k in range(ctx.plan.iteration))
    history = [*map(read_json, earlier), metrics]
    decision = decide_run(config, [item["sets"] for item in history])  # looks at validation, at no test set
    metrics["decision"] = decision.to_dict()
    write_json(ctx.at.metrics, metrics)
    outputs: dict[Path, int | None] = {ctx.at.metrics: None}
    if not cut:
        outputs[ctx.at.feedback] = len(feedback)
    if "train" in answers:
        outputs[ctx.at.predictions] = len(answers["train"])
    ctx.publish(
        outputs,
        inputs=inputs,
        counts={name: len(rows) for name, rows in answers.items()},
        details={f"{stage}_used": indices for stage, indices in used.items()}
        | ({"added": ctx.plan.added} if ctx.plan.added else {}),
    )
    ctx.say(f"decision: {decision.action} ({decision.why}); best iteration so far: {decision.best_iteration}")
    if beats_untrained(history) is False:
        ctx.say("no iteration beats the untrained student on validation")


def _categories(ctx: StageContext, answers: dict[str, list[Attempt]]) -> dict[str, Any]:
    """`categories` of metrics.json: accuracies by metadata column and value; no such key where no problem has any."""
    found = {}
    for name, rows in answers.items():
        metadata = {p.problem_id: p.metadata for p in ctx.run.problems(name) if p.metadata}
        if metadata and (made := by_category(rows, metadata)):
            found[name] = made
    return {"categories": found} if found else {}


def read_answers(ctx: StageContext, stage: str, complete: Iterable[int]) -> dict[str, list[Attempt]]:
    """The answers of a stage's complete tasks by benchmark or split. A shard without a manifest that validates it is not read: it
    may be half of a task, or an earlier student's."""
    answers: dict[str, list[Attempt]] = defaultdict(list)
    tasks = ctx.plan.baseline if stage == "baseline" else ctx.plan.evaluate
    for part in (part for index in sorted(complete) for part in tasks[index]):
        rows = read_rows(ctx.at.shard(stage, part.shard, part.problem_set))
        answers[part.problem_set] += [Attempt.from_dict(row) for row in rows]
    return dict(answers)


def make_feedback(ctx: StageContext, answers: dict[str, list[Attempt]]) -> Iterable[Feedback]:
    """A row for each evaluated problem: the teacher's present rationale, the student's answer, how it failed.

    Where there is no rationale, the data's own solution stands in for it only where it tells the teacher no ground truth of what it is
    to write: on validation; on diagnosis with `method.show_truth`, and where its rows are shown as examples and nothing is written for them.
    """
    method = ctx.run.config.method
    examples_only = (
        method.examples > 0 and method.examples_from == "diagnosis" and method.errors_from == "train"
    )
    solved_by_data = ("validation", "diagnosis") if method.show_truth or examples_only else ("validation",)
    rationales: dict[str, str] = {}
    for example in read_distilled(ctx.at.distilled):
        rationales.setdefault(example.id, example.teacher_solution)
    for split in SPLITS:
        if split not in answers:
            continue
        problems = {p.problem_id: p for p in ctx.run.problems(split)}
        by_problem: dict[str, list[Attempt]] = defaultdict(list)
        for row in answers[split]:
            by_problem[row.problem_id].append(row)
        for key, rows in by_problem.items():
            solution = problems[key].solution if split in solved_by_data and key not in rationales else ""
            yield _feedback(
                problems[key], split, rows, rationales.get(key, solution), from_data=bool(solution)
            )


def _feedback(
    problem: Problem, split: str, rows: Sequence[Attempt], rationale: str, *, from_data: bool
) -> Feedback:
    """The first wrong answer speaks for the problem; where all are right, the first."""
    right = sum(row.verdict == "correct" for row in rows)
    shown = next((row for row in rows if row.verdict != "correct"), rows[0])
    kind = ""
    if shown.verdict != "correct":
        kind = diagnose(shown.text, problem.ground_truth, shown.verdict, shown.finish_reason, rationale).kind
    return Feedback(
        problem_id=problem.problem_id,
        idx=problem.idx,
        split=split,
        problem=problem.problem,
        ground_truth=problem.ground_truth,
        rationale=rationale,
        student_answer=shown.text,
        verdict=shown.verdict,
        error_kind=kind,
        score=right / len(rows),
        unstable=0 < right < len(rows),
        rationale_from_data=from_data,
    )


def write_predictions(ctx: StageContext, rows: Sequence[Attempt]) -> None:
    """The student's answers beside the teacher's, in the reference implementation's columns and ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    problems = {p.problem_id: p for p in ctx.run.problems("train")}
    solutions: dict[str, str] = {}
    for example in read_distilled(ctx.at.distilled):
        solutions.setdefault(example.id, example.teacher_solution)
    table = pa.Table.from_pylist(
        [
            {
                "problem": problems[row.problem_id].problem,
                "teacher_solution": solutions.get(row.problem_id, ""),
                "student_solution": row.text,
                "gt": problems[row.problem_id].ground_truth,
                "idx": row.idx,
                "id": row.problem_id,
                "attempt": row.attempt,
                "verdict": row.verdict,
                "answer": row.answer,
                "finish_reason": row.finish_reason,
            }
            for row in rows
        ]
    )
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(ctx.at.predictions, content.getvalue().to_pybytes())


def generation_summary(ctx: StageContext) -> dict[str, Any]:
    """Yield and cost of the teacher's work, over the shards that the distilled set was made of (all, where there is none)."""
    if "generate" not in ctx.graph:
        return sum_generation(()) | {"error": "", "tasks": 0}
    manifests = collect(ctx, "generate", deep=False)[0]
    merged = read_manifest(ctx.at.stage_manifest("merge")) if "merge" in ctx.graph else None
    if merged is not None:
        manifests = [m for m in manifests if m.index in merged.details["generate_used"]]
    error = next((message for m in manifests if (message := m.details.get("error"))), "")
    return sum_generation(m.counts for m in manifests) | {"error": error, "tasks": len(manifests)}


def score_summary(ctx: StageContext) -> dict[str, Any]:
    """What the teacher scored, prompts included, and whether it copied the student's errors."""
    manifests = collect(ctx, "score", deep=False)[0]
    counts = (
        {name: sum(m.counts[name] for m in manifests) for name in manifests[0].counts} if manifests else {}
    )
    return counts | {"copying": Copying.total(m.details["copying"] for m in manifests).to_dict()}


def stage_counts(ctx: StageContext, stage: str) -> dict[str, Any]:
    """The counts of a single-task stage's manifest; none where a cut iteration does not have the stage."""
    return dict(read_json(ctx.at.stage_manifest(stage))["counts"]) if stage in ctx.graph else {}
