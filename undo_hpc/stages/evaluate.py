"""evaluate and baseline: the student (or the untouched one) answers a slice of a benchmark or split."""

from __future__ import annotations

import time

from undo_hpc.config.schema import ModelConfig
from undo_hpc.engines import load_engine
from undo_hpc.plan import baseline_slices
from undo_hpc.prompts import load_prompts
from undo_hpc.stages.answering import Answers, counts, make_asks, open_checker
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.stages.prepare import prepared_digest


def run_stage(ctx: StageContext) -> None:
    """Answers one slice with the model of this iteration (evaluate) or the untrained one (baseline).

    Raises:
        Requeue: asked to stop; all answers so far are kept.
        EvidenceError: the student is missing or does not match its manifest.
    """
    config = ctx.run.config
    untrained = ctx.stage.name == "baseline"
    inputs = {"splits": prepared_digest(ctx.run)}
    if not untrained:
        inputs |= gate(ctx, "train")[2]
    part = (baseline_slices(ctx.plan) if untrained else ctx.plan.slices)[ctx.task.index]
    problems = ctx.run.problems(part.group)[part.start : part.stop]
    model = config.student if untrained else student_of(config.student, str(ctx.at.student))
    shard = ctx.at.shard(ctx.stage.name, part.shard, part.group)
    prompts = load_prompts(config.evaluate.prompt)

    loading = time.monotonic()
    engine = load_engine(config.evaluate.engine, model, run_dir=ctx.run.layout.root)
    ctx.events.append("ready", load_s=round(time.monotonic() - loading, 3))
    answers = Answers(ctx, shard, role=f"{ctx.stage.name}/{part.group}", sampling=config.evaluate.sampling)
    try:
        with open_checker(ctx) as checker:
            asks = make_asks(
                problems,
                range(config.evaluate.samples),
                lambda p: prompts.student(p.problem, config.evaluate.instruction),
                lambda _: "student",
                config.evaluate.sampling.temperature,
            )
            answers.answer(engine, checker, asks, len(asks))
        described = engine.describe()
    finally:
        answers.close()
        engine.close()
    rows = answers.publish(ask.key for ask in asks)
    ctx.publish(
        {shard: len(rows)},
        inputs=inputs,
        counts=counts(rows) | {"new_tokens": answers.new_tokens, "seconds": round(answers.seconds, 3)},
        details={"engine": described, "sampling": config.evaluate.sampling.model_dump(), "prompts": prompts.digest},
    )
    answers.finish()


def student_of(base: ModelConfig, path: str) -> ModelConfig:
    """The student's settings with the weights of a folder of ours."""
    return base.model_copy(update={"model": path, "revision": "", "trust_remote_code": False})
