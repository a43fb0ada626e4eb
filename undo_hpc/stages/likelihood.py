"""likelihood: how likely the student, as its training begins, finds each right rationale, for `method.select: likeliest`.

One task reads one shard of generate, and scores only what there is a choice of. Scores are durable in groups, as those of `score` are; what
stays is a row a rationale: its mean log-probability a token (longer ones are not punished for their length), in the tokens that the student
would learn.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from undo_hpc.engines import load_engine
from undo_hpc.engines.scoring import Scorer, ScoreRequest
from undo_hpc.errors import ConfigError
from undo_hpc.method.selection import candidates, choice_of
from undo_hpc.pipeline.state import combined_digest
from undo_hpc.stages.context import StageContext, previous_evidence, read_evidence
from undo_hpc.stages.evaluate import student_of
from undo_hpc.stages.score_store import ScoreStore
from undo_hpc.stages.targets import planned_prompts, read_targets
from undo_hpc.stages.train import learned_as, make_spec
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.shards import dump_rows, read_rows
from undo_hpc.training import student
from undo_hpc.training.encoding import Encoder, encoded_rows

_K = 1  # the engines' least; only the rationale's own tokens count here


def run_stage(ctx: StageContext) -> None:
    """Scores the rationales of one shard.

    Raises:
        Requeue: asked to stop; all scores so far are kept.
        EvidenceError: the shard, its targets or the last student are missing or damaged.
        ConfigError: the student's engine gives no log-probabilities.
    """
    config, index = ctx.run.config, ctx.task.index
    prompts = planned_prompts(ctx.plan, "evaluate", config.student.prompt)
    made = read_evidence(
        ctx.run,
        ctx.plan.iteration,
        ctx.graph["generate"].tasks[index],
        deep=True,
        wait_s=ctx.visibility_wait_s,
    )
    inputs = {"generate": combined_digest([made]), "prompts": prompts.digest} | learned_as(config)
    if ctx.plan.iteration and config.method.start_from == "previous":
        inputs["parent"] = previous_evidence(ctx, "train").digest
    problem = {target.problem_id: target.problem for target in read_targets(ctx)}
    choice, asked = choice_of(config.method, config.generate.samples), list[dict[str, Any]]()
    rows = read_rows(ctx.at.shard("generate", index))
    for _, attempts in itertools.groupby(rows, key=itemgetter("problem_id")):
        asked += candidates(list(attempts), choice)

    spec = make_spec(ctx, "")
    texts = [
        {
            "id": f"{row['problem_id']}/{row['attempt']}",
            "problem": problem[row["problem_id"]],
            "teacher_solution": row["text"],
        }
        for row in asked
    ]
    encoder = Encoder(student.load_tokenizer(spec), spec) if texts else None
    encoded = encoded_rows(texts, encoder, spec.config) if encoder else ()
    requests = [
        ScoreRequest(row["id"], prompts.student(row["problem"], config.student.instruction), tuple(found[1]))
        for row, found in encoded
        if not isinstance(found, str)
    ]
    store = ScoreStore(ctx, ctx.at.shard("likelihood", index), _K, inputs)
    try:
        engine, counts = _score(ctx, store, requests, spec.model)
        blocks = store.read([request.id for request in requests])
    finally:
        store.close()
    found_rows = [
        {
            "problem_id": row["problem_id"],
            "idx": row["idx"],
            "attempt": row["attempt"],
            "log_p": round(float(block.own.astype(np.float64).mean()), 6),
            "tokens": len(block.own),
        }
        for row, text in zip(asked, texts, strict=True)
        if (block := blocks.get(text["id"])) is not None and len(block.own)
    ]
    ctx.lease.check()
    write_bytes(store.shard, dump_rows(found_rows))
    ctx.publish(
        {store.shard: len(found_rows)},
        inputs=inputs,
        counts={"rows": len(found_rows), "not_scored": len(asked) - len(found_rows), **counts},
        details={"engine": engine, "generate_used": [index]},
    )
    store.finish()


def _score(
    ctx: StageContext, store: ScoreStore, requests: Sequence[ScoreRequest], weights: str
) -> tuple[dict[str, Any], dict[str, float]]:
    """Scores what has no score yet; a description of the engine, and what this start took. Without a choice no model is loaded."""
    asked = [request for request in requests if request.id not in store.done]
    if not asked:
        return {"engine": "none"}, {"new_tokens": 0, "seconds": 0.0}
    config = ctx.run.config
    model, base = ctx.run.model("student"), ["student"]
    if ctx.plan.iteration and config.method.start_from == "previous":
        model, base = student_of(model, weights), []
    ctx.before_loading(*base)
    loading = time.monotonic()
    engine = load_engine(
        config.evaluate.engine,
        model,
        run_dir=ctx.run.layout.root,
        prompts=[request.prompt for request in asked],
        max_tokens=max(len(request.answer) for request in asked) + 1,
        score_k=_K,
    )
    try:
        if not isinstance(engine, Scorer):
            raise ConfigError(
                f"method.select is likeliest, and evaluate.engine ({config.evaluate.engine.name}) gives no log-probabilities of a text",
                hint="set it to vllm or transformers; an engine of your own needs the method score (undo_hpc/engines/scoring.py)",
            )
        ctx.events.append("ready", load_s=round(time.monotonic() - loading, 3))
        tokens, seconds = store.ask(engine, asked)
        return engine.describe(), {"new_tokens": tokens, "seconds": seconds}
    finally:
        engine.close()
