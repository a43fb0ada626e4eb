"""evaluate and baseline: the student (or the untouched one) answers slices of benchmarks and splits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import load_engine
from undo_hpc.method.diagnosis import error_kind
from undo_hpc.method.metrics import count_attempts
from undo_hpc.pipeline.cutting import EvaluationSlice
from undo_hpc.pipeline.workload import longest
from undo_hpc.prompts import PromptSet
from undo_hpc.records import SPLITS, Attempt
from undo_hpc.stages.attempts import AttemptStore, SampleRequest, make_requests, open_checker
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.stages.prepare import require_added, slices_digest
from undo_hpc.stages.targets import planned_prompts
from undo_hpc.stages.verdicts import checker_version


def run_stage(ctx: StageContext) -> None:
    """Answers a task's slices with the model of this iteration (evaluate) or the untrained one (baseline).

    Raises:
        Requeue: asked to stop; all answers so far are kept.
        EvidenceError: the student is missing or does not match its manifest.
    """
    untrained = ctx.stage.name == "baseline"
    parts = (ctx.plan.baseline if untrained else ctx.plan.evaluate)[ctx.task.index]
    answer_slices(ctx, parts, ctx.run.config.evaluate.engine, untrained=untrained)


def answer_slices(
    ctx: StageContext,
    parts: Sequence[EvaluationSlice],
    engine_config: EngineConfig,
    *,
    untrained: bool = False,
) -> None:
    """Answers slices with the student of the iteration, or with the untrained one, and publishes the rows. Raises as `run_stage`."""
    config = ctx.run.config
    inputs = {"splits": slices_digest(ctx.run, (part.problem_set for part in parts))}
    for name in sorted({part.problem_set for part in parts} & ctx.plan.added.keys()):
        require_added(ctx.run, name)
    inputs |= ctx.task.inputs
    if not untrained:
        inputs |= gate(ctx, "train")[2]
    model = ctx.run.model("student")
    if not untrained:
        model = student_of(model, str(ctx.at.student))
    prompts = planned_prompts(ctx.plan, "evaluate", config.student.prompt)
    inputs["prompts"] = prompts.digest
    asked = {part: _requests(ctx, part, prompts) for part in parts}
    stores: dict[EvaluationSlice, AttemptStore] = {}

    ctx.before_loading(*(["student"] if untrained else []))
    loading = time.monotonic()
    engine = load_engine(
        engine_config,
        model,
        run_dir=ctx.run.layout.root,
        prompts=[ask.prompt for part in parts for ask in asked[part]],
        max_tokens=longest(config.evaluate.sampling, ctx.plan.iteration),
    )
    ctx.events.append("ready", load_s=round(time.monotonic() - loading, 3))
    total = sum(map(len, asked.values()))
    try:
        with open_checker(ctx) as checker:
            for part in parts:
                shard = ctx.at.shard(ctx.stage.name, part.shard, part.problem_set)
                # not the stage's name: answers that are repeated are drawn by the same seeds
                role = f"{'baseline' if untrained else 'evaluate'}/{part.problem_set}"
                before = list(stores.values())
                stores[part] = AttemptStore(
                    ctx, shard, role=role, sampling=config.evaluate.asked(part.problem_set)[1], inputs=inputs
                )
                stores[part].answer(engine, checker, asked[part], total, before=before)
        described = engine.describe()
    finally:
        for item in stores.values():
            item.close()
        engine.close()
    rows: dict[EvaluationSlice, list[Attempt]] = {}
    for part in parts:
        golds = {ask.problem.problem_id: ask.problem.ground_truth for ask in asked[part]}
        judged = not untrained and part.problem_set in SPLITS
        complete = partial(with_error_kinds, golds=golds) if judged else list
        rows[part] = stores[part].publish((ask.key for ask in asked[part]), complete)
    ctx.publish(
        {stores[part].shard: len(rows[part]) for part in parts},
        inputs=inputs,
        counts=count_attempts([row for part in parts for row in rows[part]])
        | {
            "new_tokens": sum(a.new_tokens for a in stores.values()),
            "seconds": round(sum(a.seconds for a in stores.values()), 3),
        },
        details={
            "engine": described,
            "sampling": config.evaluate.asked(parts[0].problem_set)[1].model_dump(),
            "prompts": prompts.digest,
            "checker": checker_version(config),
        },
    )
    for item in stores.values():
        item.finish()


def with_error_kinds(rows: list[Attempt], golds: Mapping[str, str]) -> list[Attempt]:
    """The rows, the first wrong one of each problem with the kind of its error: reading the equations of a million answers would take advance an
    hour, and a task a few seconds."""
    told: set[str] = set()
    found = []
    for row in rows:
        if row.verdict != "correct" and row.problem_id not in told:
            told.add(row.problem_id)
            row = replace(row, error_kind=error_kind(row, golds[row.problem_id]))
        found.append(row)
    return found


def _requests(ctx: StageContext, part: EvaluationSlice, prompts: PromptSet) -> list[SampleRequest]:
    """The answers wanted for a slice."""
    samples, sampling = ctx.run.config.evaluate.asked(part.problem_set)
    problems = ctx.run.problems(part.problem_set, part.start, part.stop)
    return make_requests(
        problems,
        range(samples),
        lambda p: prompts.student(p.problem, ctx.run.config.student.instruction),
        sampling.temperature,
    )


def student_of(base: ModelConfig, path: str) -> ModelConfig:
    """The student's settings with the weights of a folder of ours."""
    return base.model_copy(update={"model": path, "revision": "", "trust_remote_code": False})
