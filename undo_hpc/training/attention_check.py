"""Does the chosen attention compute what the model's own does? Asked of the model at hand, before the first step.

An attention may leave out what a model's own code has: a cap on scores (Gemma 2), sinks (gpt-oss), a window. transformers says
nothing then, and the student would be trained with another model than the one it is evaluated with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError
from undo_hpc.training.attention import register_strict_sdpa
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.ranks import DistContext

log = logging.getLogger(__name__)

_LENGTHS = (23, 17)  # two short documents of random tokens
_TOLERANCE = {
    "fp32": 1e-3,
    "bf16": 0.2,
}  # mean difference over the spread of the logits; 0.02 was the most seen in bf16 (24 layers)


def settle_attention(
    model: Any,
    forward: Callable[[MicroBatch], torch.Tensor],
    config: TrainConfig,
    attention: str,
    dist_context: DistContext,
    *,
    spec_model: str,
) -> str:
    """The attention to train with: the chosen one where it computes what eager does, else eager where the choice was ours.

    Args:
        model: the transformers model inside the engine; left with the attention that is returned.
        forward: logits of a micro-batch without dropout and gradients; all ranks take part. Shape (1, kept, vocabulary).
        spec_model: what the model is called, for messages.

    Raises:
        ConfigError: `train.attention` names an attention that computes something else.
    """
    if attention == "eager":
        return attention
    flaw = _difference(model, forward, config, attention, dist_context.device)
    if not dist_context.all_reduce_max(float(bool(flaw)))[0]:
        return attention
    flaw = flaw or "another rank found that it computes something else"
    if config.attention != "auto":
        raise ConfigError(
            f"train.attention is {attention}, which does not compute the attention of {spec_model}: {flaw}",
            hint="set train.attention to auto or eager (or, on a GPU with flash-attn, to flash_attention_2)",
        )
    log.info(f"attention: eager, since {attention} does not compute the attention of {spec_model} ({flaw})")
    model.set_attn_implementation("eager")
    return "eager"


def _difference(
    model: Any,
    forward: Callable[[MicroBatch], torch.Tensor],
    config: TrainConfig,
    attention: str,
    device: torch.device,
) -> str:
    """How the model's logits differ from those with its eager attention; empty where they agree."""

    def logits(name: str) -> torch.Tensor:
        batcher = Batcher(data, config, rank=0, ranks=1, attention=name, pad_token=0, device=device)
        return forward(batcher.build([0, 1])).float()

    text_config = model.config.get_text_config()
    data = _random_documents(int(text_config.vocab_size), getattr(text_config, "sliding_window", None))
    try:
        if attention == "sdpa":
            model.set_attn_implementation(register_strict_sdpa())
            logits("sdpa")
            model.set_attn_implementation("sdpa")
        found = logits(attention)
    except ConfigError as error:
        model.set_attn_implementation(attention)
        return error.message
    try:
        model.set_attn_implementation("eager")
        wanted = logits("eager")
    finally:
        model.set_attn_implementation(attention)
    ratio = float((found - wanted).abs().mean() / wanted.std().clamp(min=1e-9))
    return (
        "" if ratio <= _TOLERANCE[config.precision] else f"its logits differ by {ratio:.1%} of their spread"
    )


def _random_documents(vocabulary: int, window: int | None) -> EncodedSet:
    """Two documents shorter than the model's window, the same on all ranks."""
    lengths = [max(2, min(n, window or n)) for n in _LENGTHS]
    ids = np.random.default_rng(0).integers(0, vocabulary, sum(lengths), dtype=np.int32)
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    return EncodedSet(ids, starts, np.ones(2, dtype=np.int64), np.asarray(["first", "second"]), 0, 2)
