"""advance: what the iteration achieved, what the student gets wrong, and whether the loop goes on.

Writes metrics.json (every accuracy with n, interval, truncated and unanswered), feedback.jsonl (what the next teacher sees),
predictions.parquet (the student's answers to the training problems), and the decision, which looks at validation only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from undo_hpc.data.distilled import read_distilled
from undo_hpc.method.decision import Decision, decide_by_sets
from undo_hpc.method.diagnosis import diagnose
from undo_hpc.method.stats import pass_at_k, wilson
from undo_hpc.method.targets import is_chosen
from undo_hpc.pipeline.plan import effective_iterations
from undo_hpc.pipeline.run import Run
from undo_hpc.records import SPLITS, Attempt, Feedback, Problem
from undo_hpc.stages.attempts import first_error
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.storage.atomic import read_json, translate_os_error, write_bytes, write_json
from undo_hpc.storage.shards import dump_rows, read_rows

PASS_AT = (1, 2, 4, 8, 16, 32, 64)


def run_stage(ctx: StageContext) -> None:
    """Writes metrics, feedback, predictions and the decision.

    Raises:
        EvidenceError: evaluations are missing or do not match their manifests.
    """
    gate(ctx, "merge")  # the rationales beside the answers are read too
    complete, _, inputs = gate(ctx, "evaluate")
    used = {"evaluate": [m.index for m in complete]}
    for name in (*(["baseline"] if ctx.plan.baseline else []), *ctx.run.config.stages):
        complete, _, digests = gate(ctx, name)
        inputs |= digests
        used[name] = [m.index for m in complete]
    answers = read_answers(ctx, "evaluate", used["evaluate"])
    untrained = read_answers(ctx, "baseline", used.get("baseline", ()))

    feedback = sorted(make_feedback(ctx, answers), key=lambda row: (row.idx, row.problem_id))
    write_bytes(ctx.at.feedback, dump_rows([row.to_dict() for row in feedback]))
    if "train" in answers:
        write_predictions(ctx, answers["train"])
    metrics = {
        "iteration": ctx.plan.iteration,
        "sets": {name: summarise(rows) for name, rows in answers.items()},
        "baseline": {name: summarise(rows) for name, rows in untrained.items()},
        "errors": count_errors(feedback),
        "to_refine": sum(is_chosen(row.to_dict(), ctx.run.config.method) for row in feedback),
        "generate": generation_summary(ctx),
        "train": stage_counts(ctx, "train"),
        "distilled": stage_counts(ctx, "merge"),
    }
    decision = next_decision(ctx.run, ctx.plan.iteration, metrics)
    metrics["decision"] = decision.to_dict()
    write_json(ctx.at.metrics, metrics)
    outputs: dict[Path, int | None] = {ctx.at.metrics: None, ctx.at.feedback: len(feedback)}
    if "train" in answers:
        outputs[ctx.at.predictions] = len(answers["train"])
    ctx.publish(
        outputs,
        inputs=inputs,
        counts={name: len(rows) for name, rows in answers.items()},
        details={f"{stage}_used": indices for stage, indices in used.items()},
    )
    ctx.say(f"decision: {decision.action} ({decision.why}); best iteration so far: {decision.best_iteration}")


def read_answers(ctx: StageContext, stage: str, complete: Iterable[int]) -> dict[str, list[Attempt]]:
    """The answers of a stage's complete tasks by benchmark or split. A shard without a manifest that validates it is not read: it
    may be half of a task, or an earlier student's."""
    answers: dict[str, list[Attempt]] = defaultdict(list)
    tasks = ctx.plan.baseline if stage == "baseline" else ctx.plan.evaluate
    for part in (part for index in sorted(complete) for part in tasks[index]):
        rows = read_rows(ctx.at.shard(stage, part.shard, part.problem_set))
        answers[part.problem_set] += [Attempt.from_dict(row) for row in rows]
    return dict(answers)


def summarise(rows: Sequence[Attempt]) -> dict[str, Any]:
    """n, correct, accuracy with its 95 % Wilson interval over problems, and what stands beside every accuracy.

    With several samples a problem, accuracy is the mean over problems (pass@1) and the interval takes n as the number of
    problems, which is careful.
    """
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_problem[row.problem_id].append(row.verdict == "correct")
    n = len(by_problem)
    accuracy = sum(sum(v) / len(v) for v in by_problem.values()) / n if n else 0.0
    low, high = wilson(round(accuracy * n), n) if n else (0.0, 1.0)
    samples = min((len(v) for v in by_problem.values()), default=0)
    return {
        "n": n,
        "answers": len(rows),
        "correct": sum(row.verdict == "correct" for row in rows),
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "truncated": sum(row.finish_reason == "length" for row in rows),
        "errors": sum(row.finish_reason == "error" for row in rows),
        "error": first_error(rows),
        **{name: sum(row.verdict == name for row in rows) for name in ("no_answer", "unparsed", "timeout")},
        "mean_tokens": sum(row.completion_tokens for row in rows) / len(rows) if rows else 0.0,
        "pass_at": {
            str(k): sum(pass_at_k(len(v), sum(v), k) for v in by_problem.values()) / n
            for k in PASS_AT
            if n and samples > 1 and k <= samples
        },
    }


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
            rationale = rationales.get(key) or (problems[key].solution if split in solved_by_data else "")
            yield _feedback(problems[key], split, rows, rationale)


def _feedback(problem: Problem, split: str, rows: Sequence[Attempt], rationale: str) -> Feedback:
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
    )


def count_errors(feedback: Sequence[Feedback]) -> dict[str, dict[str, int]]:
    """Kinds of error by split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in feedback:
        if row.verdict != "correct":
            counts[row.split][row.error_kind] += 1
    return {split: dict(sorted(counter.items())) for split, counter in counts.items()}


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
    temporary = ctx.at.predictions.with_name(".predictions.tmp")
    with translate_os_error(ctx.at.predictions):
        pq.write_table(table, temporary)
        write_bytes(ctx.at.predictions, temporary.read_bytes())
        temporary.unlink()


def generation_summary(ctx: StageContext) -> dict[str, Any]:
    """Yield and cost of the teacher's work over all shards."""
    from undo_hpc.stages.context import collect

    manifests, _, _ = collect(ctx, "generate", deep=False)
    keys = (
        "rows",
        "correct",
        "truncated",
        "errors",
        "prompt_tokens",
        "completion_tokens",
        "problems",
        "solved",
        "new_tokens",
        "seconds",
    )
    sums = {key: round(sum(m.counts.get(key, 0) for m in manifests), 3) for key in keys}
    error = next((message for m in manifests if (message := m.details.get("error"))), "")
    return sums | {"error": error, "tasks": len(manifests)}


def stage_counts(ctx: StageContext, stage: str) -> dict[str, Any]:
    """The counts of a single-task stage's manifest."""
    data = read_json(ctx.at.stage_manifest(stage))
    return dict(data["counts"])


def next_decision(run: Run, iteration: int, metrics: dict[str, Any]) -> Decision:
    """The decision after this iteration, from validation accuracies alone (no test set is looked at)."""
    history = [read_json(run.layout.iteration(k).metrics)["sets"] for k in range(iteration)] + [
        metrics["sets"]
    ]
    return decide_by_sets(history, run.config.stop, effective_iterations(run.config))
