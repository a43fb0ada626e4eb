"""generate: the teacher writes rationales for a shard's problems; every attempt is graded and kept.

What it is asked stands in the shard's targets file, and no other file of problems is read: the plain problem in iteration 0, later its
previous rationale and the student's attempt. A problem is asked `samples` times, then again, one attempt a round, until one is
right or `max_attempts` is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from undo_hpc.config.parts import has_rationales
from undo_hpc.config.schema import QualityConfig
from undo_hpc.data.export import boxed_solution
from undo_hpc.engines import load_engine
from undo_hpc.grading import GradeItem
from undo_hpc.method.metrics import count_attempts, count_solved, first_error
from undo_hpc.method.quality import assess
from undo_hpc.pipeline.workload import longest
from undo_hpc.records import Attempt, Grade, Problem, Target
from undo_hpc.stages.attempts import AttemptStore, SampleRequest, open_checker
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.release import canary_rows
from undo_hpc.stages.targets import planned_prompts, prompt_of, read_targets
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.shards import dump_rows


def run_stage(ctx: StageContext) -> None:
    """Writes one shard of rationales. What a canary has written of it is not written again.

    Raises:
        Requeue: asked to stop; all attempts so far are kept.
        EvidenceError: the targets file is missing or damaged.
        DataError: the prompt templates were changed since the iteration was planned.
    """
    write_shard(ctx)


def write_shard(
    ctx: StageContext, count: Callable[[list[Target], list[Attempt]], Mapping[str, Any]] = lambda *_: {}
) -> None:
    """Writes the shard of a task of `generate`, or of the canary, which asks in the same way.

    Args:
        count: further counts of the manifest, from what was asked and the rows.
    """
    config, iteration = ctx.run.config, ctx.plan.iteration
    targets = read_targets(ctx)
    prompts = planned_prompts(ctx.plan, "generate", config.teacher.prompt)
    inputs = ctx.task.inputs | {"prompts": prompts.digest}
    shard = ctx.at.shard(ctx.stage.name, ctx.task.index)
    given = config.method.condition == "ground_truth" or (iteration == 0 and has_rationales(config))
    if given or not targets:  # nothing is asked: no teacher is loaded
        _from_given(ctx, shard, targets, inputs)
        return

    prompt = {t.problem_id: prompt_of(t, prompts, config.teacher.instruction) for t in targets}
    ctx.before_loading("teacher")
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
    store = AttemptStore(
        ctx,
        shard,
        role="teacher",
        sampling=config.generate.sampling,
        quality=config.generate.quality,
        inputs=inputs,
    )
    if ctx.stage.name == "generate":
        store.adopt(canary_rows(ctx, prompts.digest, prompt.keys()))
    try:
        with open_checker(ctx) as checker:
            problems = [(target, target.to_problem()) for target in targets]
            total = len(targets) * config.generate.samples
            for attempts, temperature in _rounds(ctx):
                requests = [
                    SampleRequest(problem, k, prompt[target.problem_id], target.style, temperature)
                    for target, problem in problems
                    if attempts.start == 0 or not _solved(store, problem, attempts.start)
                    for k in attempts
                ]
                store.answer(engine, checker, requests, max(total, len(store.rows) + len(requests)))
        described = engine.describe()
    finally:
        store.close()
        engine.close()
    order = [
        (target.problem_id, k)
        for target in targets
        for k in range(config.generate.max_attempts)
        if (target.problem_id, k) in store.rows
    ]
    rows = store.publish(order)
    ctx.publish(
        {shard: len(rows)},
        inputs=inputs,
        counts={
            **count_attempts(rows),
            **_yield(targets, rows),
            **count(targets, rows),
            "new_tokens": store.new_tokens,
            "seconds": round(store.seconds, 3),
        },
        details={
            "engine": described,
            "sampling": config.generate.sampling.model_dump(),
            "prompts": prompts.digest,
            "checker": checker_version(config),
            "problems": len(targets),
            "error": first_error(rows),
        },
    )
    store.finish()


def _rounds(ctx: StageContext) -> Iterator[tuple[range, float]]:
    """Attempt numbers and temperature of each round: first all samples, then one retry at a time."""
    settings = ctx.run.config.generate
    yield range(settings.samples), settings.sampling.temperature
    for number, attempt in enumerate(range(settings.samples, settings.max_attempts), start=1):
        yield (
            range(attempt, attempt + 1),
            settings.sampling.temperature + number * settings.retry_temperature_step,
        )


def _solved(store: AttemptStore, problem: Problem, before: int) -> bool:
    """Whether an earlier attempt was right."""
    found = (store.rows.get((problem.problem_id, k)) for k in range(before))
    return any(row is not None and row.verdict == "correct" for row in found)


def _yield(targets: list[Target], rows: list[Attempt]) -> dict[str, int]:
    return {"problems": len(targets), "solved": count_solved(rows)}


def _from_given(ctx: StageContext, shard: Path, targets: list[Target], inputs: dict[str, str]) -> None:
    """Rationales that exist already are graded as a teacher's are; no teacher is loaded. In the control `ground_truth` they are the
    data's own solutions, which nothing leaves out for its form. Or no problems at all."""
    config = ctx.run.config
    own = config.method.condition == "ground_truth"
    problems = [target.to_problem() for target in targets]
    given = [
        (problem, number, text)
        for target, problem in zip(targets, problems, strict=True)
        for number, text in enumerate((boxed_solution(problem),) if own else target.given)
    ]
    with open_checker(ctx) as checker:
        items = [GradeItem(text, p.ground_truth, p.kind, p.options) for p, _, text in given]
        rows = [
            _given_attempt(p, number, text, grade, None if own else config.generate.quality)
            for (p, number, text), grade in zip(given, checker.grade_many(items), strict=True)
        ]
    write_bytes(shard, dump_rows([row.to_dict() for row in rows]))
    engine = "none" if not targets else "ground truth" if own else "given rationales"
    ctx.publish(
        {shard: len(rows)},
        inputs=inputs,
        counts=count_attempts(rows) | _yield(targets, rows),
        details={"engine": {"engine": engine}, "problems": len(targets), "checker": checker_version(config)},
    )


def _given_attempt(
    problem: Problem, number: int, text: str, grade: Grade, quality: QualityConfig | None
) -> Attempt:
    """A rationale that no engine wrote, as the attempt `number`; without `quality` it is taken as it is."""
    flags: tuple[str, ...] = ()
    if quality is not None:
        flags = assess(
            text, verdict=grade.verdict, finish_reason="stop", config=quality, problem=problem.problem
        )
    return Attempt(
        problem.problem_id,
        problem.idx,
        number,
        "given" if quality else "ground_truth",
        text,
        grade.verdict,
        grade.answer,
        grade.method,
        "stop",
        0,
        0,
        0,
        0.0,
        flags=flags,
    )
