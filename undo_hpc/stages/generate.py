"""generate: the teacher writes rationales for a shard's problems; every attempt is graded and kept.

Iteration 0 asks for the plain problem. Later iterations show the teacher its previous rationale and the student's attempt.
A problem is asked `samples` times, then again, one attempt a round, until one is right or `max_attempts` is reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from undo_hpc.data.export import boxed_solution
from undo_hpc.engines import load_engine
from undo_hpc.grading import GradeItem
from undo_hpc.pipeline.plan import deal
from undo_hpc.pipeline.workload import longest
from undo_hpc.records import Attempt, Problem
from undo_hpc.stages.answering import Answers, Ask, counts, first_error, open_checker
from undo_hpc.stages.context import StageContext, previous_evidence
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.stages.targets import planned_prompts, prompts_of, targets_of
from undo_hpc.storage.atomic import sha256_file, write_bytes
from undo_hpc.storage.shards import dump_rows


def run_stage(ctx: StageContext) -> None:
    """Writes one shard of rationales.

    Raises:
        Requeue: asked to stop; all attempts so far are kept.
        EvidenceError: the last iteration is not complete.
        DataError: the prompt templates were changed since the iteration was planned.
    """
    config, iteration = ctx.run.config, ctx.plan.iteration
    inputs = _check_inputs(ctx)
    targets = targets_of(ctx.run, iteration)
    style = {target.problem.problem_id: target.style for target in targets}
    mine = sorted(
        deal([t.problem for t in targets], ctx.plan.shards, ctx.task.index),
        key=lambda p: (p.idx, p.problem_id),
    )
    shard = ctx.at.shard("generate", ctx.task.index)
    prompts = planned_prompts(ctx.plan, "generate", config.teacher.prompt)
    inputs["prompts"] = prompts.digest
    if config.method.condition == "ground_truth":
        _from_solutions(ctx, shard, mine, inputs)
        return

    ids = {p.problem_id for p in mine}
    wanted = [target for target in targets if target.problem.problem_id in ids]
    prompted = zip(wanted, prompts_of(ctx.run, iteration, wanted, prompts), strict=True)
    prompt = {target.problem.problem_id: text for target, text in prompted}
    ctx.before_loading()
    loading = time.monotonic()
    engine = load_engine(
        config.generate.engine,
        ctx.run.model("teacher"),
        run_dir=ctx.run.layout.root,
        iteration=iteration,
        service_slack_s=config.generate.service_slack_s,
        prompts=list(prompt.values()),
        max_tokens=longest(config.generate.sampling, iteration),
    )
    ctx.events.append("ready", load_s=round(time.monotonic() - loading, 3))
    answers = Answers(ctx, shard, role="teacher", sampling=config.generate.sampling, inputs=inputs)
    try:
        with open_checker(ctx) as checker:
            total = len(mine) * config.generate.samples
            for attempts, temperature in _rounds(ctx):
                asks = [
                    Ask(p, k, prompt[p.problem_id], style[p.problem_id], temperature)
                    for p in mine
                    if attempts.start == 0 or not _solved(answers, p, attempts.start)
                    for k in attempts
                ]
                answers.answer(engine, checker, asks, max(total, len(answers.rows) + len(asks)))
        described = engine.describe()
    finally:
        answers.close()
        engine.close()
    order = [
        (p.problem_id, k)
        for p in mine
        for k in range(config.generate.max_attempts)
        if (p.problem_id, k) in answers.rows
    ]
    rows = answers.publish(order)
    ctx.publish(
        {shard: len(rows)},
        inputs=inputs,
        counts=counts(rows)
        | _yield(mine, rows)
        | {"new_tokens": answers.new_tokens, "seconds": round(answers.seconds, 3)},
        details={
            "engine": described,
            "sampling": config.generate.sampling.model_dump(),
            "prompts": prompts.digest,
            "problems": len(mine),
            "error": first_error(rows),
        },
    )
    answers.finish()


def _check_inputs(ctx: StageContext) -> dict[str, str]:
    """The evidence that this shard rests on: the splits, and for a refinement the whole last iteration."""
    inputs = {"splits": prepared_digest(ctx.run)}
    if ctx.plan.iteration:
        previous_evidence(ctx, "advance")
        inputs["feedback"] = sha256_file(ctx.run.layout.iteration(ctx.plan.iteration - 1).feedback)
    return inputs


def _rounds(ctx: StageContext) -> Iterator[tuple[range, float]]:
    """Attempt numbers and temperature of each round: first all samples, then one retry at a time."""
    settings = ctx.run.config.generate
    yield range(settings.samples), settings.sampling.temperature
    for number, attempt in enumerate(range(settings.samples, settings.max_attempts), start=1):
        yield (
            range(attempt, attempt + 1),
            settings.sampling.temperature + number * settings.retry_temperature_step,
        )


def _solved(answers: Answers, problem: Problem, before: int) -> bool:
    """Whether an earlier attempt was right."""
    found = (answers.rows.get((problem.problem_id, k)) for k in range(before))
    return any(row is not None and row.verdict == "correct" for row in found)


def _yield(problems: list[Problem], rows: list[Attempt]) -> dict[str, int]:
    solved = {row.problem_id for row in rows if row.verdict == "correct"}
    return {"problems": len(problems), "solved": len(solved)}


def _from_solutions(ctx: StageContext, shard: Path, mine: list[Problem], inputs: dict[str, str]) -> None:
    """The control `ground_truth`: the data's own solutions stand in for rationales; no teacher is loaded."""
    with open_checker(ctx) as checker:
        solutions = [boxed_solution(p) for p in mine]
        items = [
            GradeItem(s, p.ground_truth, p.kind, p.options) for s, p in zip(solutions, mine, strict=True)
        ]
        rows = [
            Attempt(
                p.problem_id, p.idx, 0, "ground_truth", s, g.verdict, g.answer, g.method, "stop", 0, 0, 0, 0.0
            )
            for p, s, g in zip(mine, solutions, checker.grade_many(items), strict=True)
        ]
    write_bytes(shard, dump_rows([row.to_dict() for row in rows]))
    details = {"engine": {"engine": "ground truth"}, "problems": len(mine)}
    ctx.publish({shard: len(rows)}, inputs=inputs, counts=counts(rows) | _yield(mine, rows), details=details)
