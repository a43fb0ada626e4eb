"""sample: the last student answers the training problems at temperature 1, to learn from its own tokens (signal on_policy).

Evaluations are greedy, or of another temperature: such answers are not drawn from what the student is. The tokens themselves are kept, for
a text may be cut into others; and their log-probabilities, by which later steps can tell how far the student has moved.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from undo_hpc.config.schema import SamplingConfig
from undo_hpc.engines import Engine, load_engine
from undo_hpc.engines.scoring import Scorer, ScoreRequest
from undo_hpc.errors import ConfigError, EngineError, Requeue
from undo_hpc.method.metrics import count_attempts
from undo_hpc.pipeline.cutting import EvaluationSlice
from undo_hpc.pipeline.workload import longest
from undo_hpc.records import Attempt
from undo_hpc.stages.attempts import AttemptStore, Key, SampleRequest, make_requests, open_checker
from undo_hpc.stages.context import StageContext, previous_evidence
from undo_hpc.stages.evaluate import student_of
from undo_hpc.stages.prepare import slices_digest
from undo_hpc.stages.targets import planned_prompts
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.storage.scores import unpack_ids


def run_stage(ctx: StageContext) -> None:
    """Answers a task's slices with the student of the last iteration.

    Raises:
        Requeue: asked to stop; all answers so far are kept.
        EvidenceError: that student is missing or does not match its manifest.
        ConfigError: the engine cannot tell tokens and log-probabilities.
    """
    config, parts = ctx.run.config, ctx.plan.sample[ctx.task.index]
    prompts = planned_prompts(ctx.plan, "evaluate", config.student.prompt)
    inputs = {
        "splits": slices_digest(ctx.run, ["train"]),
        "parent": previous_evidence(ctx, "train").digest,
        "prompts": prompts.digest,
    }
    limit = longest(config.evaluate.sampling, ctx.plan.iteration)
    sampling = SamplingConfig(temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=limit)
    asked = {
        part: make_requests(
            ctx.run.problems(part.problem_set, part.start, part.stop),
            range(config.distill.samples),
            lambda p: prompts.student(p.problem, config.student.instruction),
            sampling.temperature,
        )
        for part in parts
    }
    ctx.before_loading()
    model = student_of(
        ctx.run.model("student"), str(ctx.run.layout.iteration(ctx.plan.iteration - 1).student)
    )
    texts = [ask.prompt for part in parts for ask in asked[part]]
    engine = load_engine(
        config.evaluate.engine,
        model,
        run_dir=ctx.run.layout.root,
        prompts=texts,
        max_tokens=limit + 1,
        score_k=1,
    )
    stores: dict[EvaluationSlice, AttemptStore] = {}
    try:
        if not isinstance(engine, Scorer):
            raise ConfigError(
                f"evaluate.engine.name is {config.evaluate.engine.name}, which gives no log-probabilities of the student's answers",
                hint="set it to vllm or transformers; an engine of your own needs the method score (undo_hpc/engines/scoring.py)",
            )
        with open_checker(ctx) as checker:
            for part in parts:
                shard, before = ctx.at.shard("sample", part.shard, part.problem_set), list(stores.values())
                stores[part] = AttemptStore(
                    ctx, shard, role="student/sample", sampling=sampling, inputs=inputs, keeps_ids=True
                )
                stores[part].answer(
                    engine, checker, asked[part], sum(map(len, asked.values())), before=before
                )
                _add_log_q(ctx, engine, stores[part].rows, {ask.key: ask for ask in asked[part]})
        described = engine.describe()
    finally:
        for item in stores.values():
            item.close()
        engine.close()
    rows = {part: stores[part].publish(ask.key for ask in asked[part]) for part in parts}
    ctx.publish(
        {stores[part].shard: len(rows[part]) for part in parts},
        inputs=inputs,
        counts=count_attempts([row for part in parts for row in rows[part]]),
        details={"engine": described, "sampling": sampling.model_dump(), "checker": checker_version(config)},
    )
    for item in stores.values():
        item.finish()


def _add_log_q(
    ctx: StageContext, engine: Engine, rows: dict[Key, Attempt], asked: Mapping[Key, SampleRequest]
) -> None:
    """Has the student score its own answers: one pass, far shorter than the sampling."""
    names = {f"{problem}/{attempt}": (problem, attempt) for problem, attempt in asked}
    requests = []
    for name, key in names.items():
        row = rows[key]
        if row.finish_reason != "error" and not row.ids:
            raise EngineError(
                f"answer {name}: the engine tells no token ids", hint="take vllm or transformers"
            )
        if row.ids:
            requests.append(ScoreRequest(name, asked[key].prompt, tuple(unpack_ids(row.ids).tolist())))
    assert isinstance(engine, Scorer)
    done = 0
    for scores in engine.score(requests, 1, should_stop=ctx.should_stop):
        row, own = rows[names[scores.id]], scores.own
        if scores.error or len(own) != len(unpack_ids(row.ids)):
            raise EngineError(f"answer {scores.id} of the student cannot be scored by itself: {scores.error}")
        own = np.minimum(own, np.float16(-6e-8))  # below 0, which stands for a text of the teacher
        rows[names[scores.id]] = replace(row, log_q=base64.b64encode(own.tobytes()).decode())
        done += 1
    if done < len(requests):
        raise Requeue(
            f"{ctx.stage.name} {ctx.task.label}: all answers are saved, their log-probabilities are wanted"
        )
