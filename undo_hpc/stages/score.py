"""score: the teacher's log-probabilities of texts: of its rationales (signal soft), or of the student's own answers (on_policy).

One task scores one share of the texts, by key, in groups that are durable; what the student learns of them stands in training/divergence.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from undo_hpc.config.distill import scorer
from undo_hpc.engines import load_engine
from undo_hpc.engines.chat import load_tokenizer
from undo_hpc.engines.scoring import Scorer, ScoreRequest, TokenScores, match_tokenizers
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.method.copying import Copying
from undo_hpc.models.resolve import resolve_model
from undo_hpc.stages.context import StageContext, gate
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.stages.score_rows import PLAIN, Left, ToScore, own_answers, rationales
from undo_hpc.stages.score_store import ScoreStore
from undo_hpc.stages.targets import planned_prompts
from undo_hpc.stages.train import learned_as
from undo_hpc.storage.scores import binary_of
from undo_hpc.training.soft_scores import kept_k

_TEXTS = 100  # of those that are scored: both tokenizers must cut them alike


def run_stage(ctx: StageContext) -> None:
    """Scores this task's share.

    Raises:
        Requeue: asked to stop; all scores so far are kept.
        EvidenceError: the texts are missing or do not match their manifests.
        DataError: student and teacher have different tokenizers, or no text could be scored.
        ConfigError: the engine does not score.
    """
    config, task = ctx.run.config, ctx.task.index
    prompts = planned_prompts(ctx.plan, "generate", config.teacher.prompt)
    merged, _, inputs = gate(ctx, "merge")
    prepared_digest(ctx.run, [ctx.run.problems_file("train")])  # its texts stand before the student's answers
    inputs |= {"prompts": prompts.score_digest} | learned_as(config)
    left = Left()
    teacher, student = ctx.run.model("teacher"), ctx.run.model("student")
    theirs, own = (load_tokenizer(resolve_model(model.model), model) for model in (teacher, student))
    if ctx.plan.sample:
        sampled, _, digests = gate(ctx, "sample")
        inputs |= digests
        texts = own_answers(ctx, prompts, sampled, own, left)
    else:
        texts = rationales(ctx, prompts, merged[0].digest, left)
    shown = [own.decode(text.request.answer) for text in texts[:_TEXTS]]
    words = match_tokenizers(theirs, own, shown)
    if config.distill.k > words:
        raise ConfigError(
            f"distill.k is {config.distill.k}, and the student has {words} tokens", hint="lower it"
        )

    store = ScoreStore(ctx, ctx.at.shard("score", task), kept_k(config.distill), inputs)
    try:
        described, made = _score(ctx, store, texts, words)
    finally:
        store.close()
    copying = _copying(store, texts)
    rows, counts, error = store.publish([(text.text, text.log_q) for text in texts])
    if texts and not rows:
        raise DataError(
            f"not one of {len(texts)} texts could be scored; the first error: {error}",
            hint="correct what it names, and run the same command again in a new run directory, or without iter_*/score of this one",
        )
    ctx.publish(
        {store.shard: len(rows), binary_of(store.shard): None},
        inputs=inputs,
        counts=counts | {**made, "not_learned": left.not_learned, "context_dropped": left.context_dropped},
        details={
            "engine": described,
            "k": kept_k(config.distill),
            "copying": copying.to_dict(),
            "error": error,
        },
    )
    store.finish()


def _score(
    ctx: StageContext, store: ScoreStore, texts: Sequence[ToScore], words: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Scores what has no scores yet; a description of the engine, and what this start took."""
    config, k = ctx.run.config, kept_k(ctx.run.config.distill)
    asked = [
        r for text in texts for r in (text.request, text.plain) if r is not None and r.id not in store.done
    ]
    if not k or not asked:
        with store.buffer() as buffer:
            for request in asked:
                buffer.add(_no_teacher(request))
        return {"engine": "none"}, {"new_tokens": 0, "seconds": 0.0}
    ctx.before_loading("teacher")
    loading = time.monotonic()
    engine = load_engine(
        scorer(config.distill, config.generate.engine),
        ctx.run.model("teacher"),
        run_dir=ctx.run.layout.root,
        prompts=[request.prompt for request in asked],
        max_tokens=max(len(request.answer) for request in asked) + 1,
        score_k=k,
        server_kind=config.distill.server,
    )
    try:
        if not isinstance(engine, Scorer):
            raise ConfigError(
                "the engine that scores gives no log-probabilities of a text",
                hint="set distill.engine to vllm or transformers; an engine of your own needs the method score (undo_hpc/engines/scoring.py)",
            )
        ctx.events.append("ready", load_s=round(time.monotonic() - loading, 3))
        tokens, seconds = store.ask(engine, asked, words)
        return engine.describe(), {"new_tokens": tokens, "seconds": seconds}
    finally:
        engine.close()


def _no_teacher(request: ScoreRequest) -> TokenScores:
    """What stands for the scores of a control that asks no teacher."""
    n = len(request.answer)
    zeros = np.zeros(n, np.float16)
    return TokenScores(request.id, np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float16), zeros, zeros)


def _copying(store: ScoreStore, texts: Sequence[ToScore]) -> Copying:
    """Compares the scores after the rationale with those after the problem alone, on the answers that have both."""
    both = [text for text in texts if text.plain is not None]
    blocks = store.read([key for text in both for key in (text.text.key, text.text.key + PLAIN)])
    found = Copying()
    for text in both:
        pair = [blocks.get(key) for key in (text.text.key, text.text.key + PLAIN)]
        if pair[0] is None or pair[1] is None:
            continue
        after, plain = (block.own.astype(np.float64) for block in pair if block is not None)
        wrong = [at for at in text.wrong_tokens if at < len(after)]
        if text.right:
            found.add_right(float(after.mean()), float(plain.mean()))
        elif wrong:
            found.add_wrong(float(after[wrong].sum()), float(plain[wrong].sum()))
    return found
