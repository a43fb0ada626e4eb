"""What can be known before the first step: does the tokenizer fit the model, what is in the data, will it fit in memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from undo_hpc.chat.template import prints_date
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, DataError, TrainingError
from undo_hpc.storage.atomic import write_json
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.deepspeed_settings import zero_stage
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.spec import TrainSpec

log = logging.getLogger(__name__)

_PROBED = 64  # positions: all logits of a long example would be gigabytes


def check_match(spec: TrainSpec, tokenizer: Any, model: Any, data: EncodedSet, attention: str) -> list[str]:
    """Whether tokenizer, model, data and attention belong together.

    Returns warnings. Raises DataError (or ConfigError, where a setting is at fault) where training would go wrong.
    """
    warnings = []
    config = model.config.get_text_config()
    room = _embedding_rows(model)
    highest = max(int(data.ids.max()), data.end_token)
    if highest >= room:
        raise DataError(
            f"{spec.model}: the training data has the token {tokenizer.convert_ids_to_tokens(highest)!r} ({highest}), the model's "
            f"embedding has {room}",
            hint="the tokenizer belongs to another model; copy the model's own tokenizer files",
        )
    if len(tokenizer) > room:
        warnings.append(
            f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {room}; none of those beyond it is in the data"
        )
    longest = int(data.lengths.max())
    positions = getattr(config, "max_position_embeddings", None)
    if positions and longest > positions:
        raise DataError(
            f"an example has {longest} tokens, {spec.model} has positions for {positions}",
            hint=f"set train.max_length to at most {positions}",
        )
    window = attention_window(config)
    if spec.config.packing and attention in ("sdpa", "eager") and window and longest > window:
        raise ConfigError(
            f"train.attention is {attention} with packing, but {spec.model} looks back {window} tokens only and an example has {longest}: "
            "the mask of a packed row knows no such window",
            hint=f"set train.packing to false, or train.max_length to {window}, or, on a GPU, train.attention to auto",
        )
    if prints_date(str(tokenizer.chat_template)) and spec.date:
        warnings.append(
            f"the chat template writes the date into each prompt; in this run it is {spec.date} on every day"
        )
    if data.end_token != tokenizer.eos_token_id:
        warnings.append(
            f"the chat template ends a turn with {tokenizer.convert_ids_to_tokens(data.end_token)!r}, not with the tokenizer's "
            f"end of text {tokenizer.eos_token!r}: the student learns the former, and its generation config will say so"
        )
    text = tokenizer.decode(data.tokens(0).tolist())
    again = tokenizer(text, add_special_tokens=False)["input_ids"]
    if (
        tokenizer.unk_token_id is not None
        and tokenizer.unk_token_id in again
        and tokenizer.unk_token_id not in data.tokens(0)
    ):
        warnings.append("the tokenizer does not reproduce its own text: some characters are unknown to it")
    return warnings


def pad_token(tokenizer: Any, model: Any) -> int:
    """The id that fills padded rows: the tokenizer's, or 0 where it has none that the model knows. It is masked everywhere."""
    token = tokenizer.pad_token_id
    return int(token) if token is not None and token < _embedding_rows(model) else 0


def _embedding_rows(model: Any) -> int:
    weight = model.get_input_embeddings().weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])


def check_documents_apart(
    forward: Callable[[MicroBatch], torch.Tensor], data: EncodedSet, batcher: Batcher, spec: TrainSpec
) -> None:
    """Raises ConfigError where the logits of a packed document depend on the document before it.

    A model may not hand on to its attention where documents lie, or carry a state along the row (Mamba, convolutions): packing
    would then train on cross-talk, and nothing else would show it.

    Args:
        forward: the logits of a micro-batch at the positions that it keeps, without dropout. Shape (1, kept, vocabulary).
    """
    if len(data) < 2:
        return
    batch = batcher.build([int(index) for index in np.argsort(data.lengths, kind="stable")[:2]])
    begin = int(data.lengths[batch.examples[0]])
    ids = batch.inputs["input_ids"]
    changed = ids.clone()
    changed[0, :begin] = changed[0, :begin].flip(0)
    second = torch.arange(begin, ids.shape[1], device=ids.device)[
        :_PROBED
    ]  # its first tokens depend most on what is before them
    before, after = (
        forward(replace(batch, inputs=batch.inputs | {"input_ids": each, "logits_to_keep": second})).float()
        for each in (ids, changed)
    )
    noise = 0.02 if spec.config.precision == "bf16" else 1e-5
    if float((before - after).abs().max()) > noise * float(before.abs().max()):
        raise ConfigError(
            f"{spec.model} does not keep the documents of a packed row apart: what it computes for one depends on the one before",
            hint="set train.packing to false",
        )


def attention_window(config: Any) -> int | None:
    """How many tokens the model's attention looks back in some of its layers; None where all layers see all."""
    layers = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    windows = [
        getattr(config, name, None)
        for name, kind in (
            ("sliding_window", "sliding_attention"),
            ("attention_chunk_size", "chunked_attention"),
        )
        if kind in layers
    ]
    return min((int(window) for window in windows if window), default=None)


def length_histogram(data: EncodedSet) -> dict[str, Any]:
    """How long examples are: quantiles of all, and counts in bins that double."""
    lengths = data.lengths
    edges = [0]
    while edges[-1] < lengths.max():
        edges.append(max(32, edges[-1] * 2))
    counts, _ = np.histogram(lengths, bins=[*edges[:-1], edges[-1] + 1])
    quantiles = {f"p{q}": int(np.percentile(lengths, q)) for q in (0, 10, 50, 90, 99, 100)}
    return {
        "examples": len(data),
        "tokens": int(lengths.sum()),
        "target_tokens": int(data.targets.sum()),
        "quantiles": quantiles,
        "bins": {f"<= {high}": int(n) for high, n in zip(edges[1:], counts, strict=True)},
    }


def memory_by_stage(
    num_params: int, num_trainable: int, ranks: int, precision: str, offload: str = "none"
) -> dict[str, float]:
    """GiB a rank for weights, gradients and optimiser state at each ZeRO stage; activations come on top.

    bf16: 2 bytes a weight, 4 a gradient, 12 for the fp32 copy and AdamW's two moments. fp32: 4, 4 and 8. What is offloaded lies in
    host memory and is not counted: the state from stage 1 on, and the weights of stage 3.
    """
    weight, gradient, state = (2, 4, 12) if precision == "bf16" else (4, 4, 8)
    kept = state if offload == "none" else 0
    shared = 0 if offload == "all" else weight
    totals = {
        "0": num_params * weight + num_trainable * (gradient + state),
        "1": num_params * weight + num_trainable * (gradient + kept / ranks),
        "2": num_params * weight + num_trainable * (gradient + kept) / ranks,
        "3": (num_params * shared + num_trainable * (gradient + kept)) / ranks,
    }
    return {stage: total / 2**30 for stage, total in totals.items()}


def memory_advice(memory: dict[str, float], config: TrainConfig, room: float) -> str:
    """What to change, in words, where another ZeRO stage suits a device of `room` GiB better; empty where the one in use does."""
    stage = str(zero_stage(config))
    fitting = [
        other
        for other, need in memory.items()
        if need < 0.7 * room and (other != "0" or config.precision == "fp32")
    ]
    if stage in fitting:
        return f"; ZeRO {fitting[0]} would fit and is faster" if fitting[0] < stage else ""
    better = (
        f"ZeRO {fitting[0]} would do"
        if fitting
        else "think of more ranks"
        if config.offload != "none"
        else "think of offload, or of more ranks"
    )
    return f"; ZeRO {stage} leaves little of {room:.0f} GiB for activations, {better}"


def longest_micro_batch(data: EncodedSet, batcher: Batcher, config: TrainConfig) -> MicroBatch:
    """The heaviest micro-batch that can come: the longest examples, up to the micro-batch's token budget."""
    order = np.argsort(-data.lengths, kind="stable")
    chosen, longest = [int(order[0])], int(data.lengths[order[0]])
    used = longest
    for index in order[1:]:
        cost = int(data.lengths[index]) if config.packing else longest
        if used + cost > config.micro_batch_tokens:
            break
        chosen.append(int(index))
        used += cost
    return batcher.build(chosen)


def try_longest(
    run: Callable[[MicroBatch], None], batch: MicroBatch, config: TrainConfig, device: torch.device
) -> dict[str, float]:
    """One forward and backward pass of the heaviest micro-batch. Raises TrainingError with advice where memory is too small."""
    with memory_explained(
        f"the longest micro-batch ({batch.padded_tokens:,} tokens) does not fit in the memory of {device}",
        config,
    ):
        run(batch)
    used = {"tokens": float(batch.padded_tokens)}
    if device.type == "cuda":
        used["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        used["device_gib"] = torch.cuda.get_device_properties(device).total_memory / 2**30
    return used


@contextlib.contextmanager
def memory_explained(what: str, config: TrainConfig) -> Iterator[None]:
    """Turns 'out of memory' inside the block, of a GPU or of this machine, into a TrainingError with advice."""
    try:
        yield
    except (
        RuntimeError,
        MemoryError,
    ) as error:  # torch's OutOfMemoryError is a RuntimeError; on a CPU it has no class of its own
        known = isinstance(
            error, torch.cuda.OutOfMemoryError | MemoryError
        ) or "can't allocate memory" in str(error)
        if not known:
            raise
        advice = ["lower train.micro_batch_tokens"]
        if not config.gradient_checkpointing:
            advice.append("set train.gradient_checkpointing")
        if config.zero_stage < 3:
            advice.append("raise train.zero_stage")
        if config.offload == "none":
            advice.append("set train.offload to optimizer")
        raise TrainingError(what, hint="; or ".join(advice)) from error


def report(
    spec: TrainSpec,
    config: TrainConfig,
    data: EncodedSet,
    *,
    num_params: int,
    num_trainable: int,
    ranks: int,
    device: torch.device,
    steps: int,
    warnings: list[str],
    tried: dict[str, float] | None,
) -> None:
    """Writes preflight.json and says the essentials."""
    histogram, memory = (
        length_histogram(data),
        memory_by_stage(num_params, num_trainable, ranks, config.precision, config.offload),
    )
    q = histogram["quantiles"]
    log.info(
        f"data: {len(data):,} of {data.rows:,} rows, {histogram['tokens']:,} tokens ({histogram['target_tokens']:,} learned); "
        f"length median {q['p50']}, 90% {q['p90']}, longest {q['p100']}; {steps:,} steps"
    )
    for reason, ids in data.left_out.items():
        log.info(f"left out: {len(ids):,} rows, {reason} (e.g. {', '.join(ids[:3])})")
    for warning in warnings:
        log.warning(warning)
    advice = ""
    if device.type == "cuda":
        advice = memory_advice(memory, config, torch.cuda.get_device_properties(device).total_memory / 2**30)
    log.info(
        f"model: {num_params:,} weights; GiB a rank without activations at ZeRO 0-3: {', '.join(f'{m:.2f}' for m in memory.values())}{advice}"
    )
    write_json(
        Path(spec.work_dir) / "preflight.json",
        {
            "rows": data.rows,
            "rows_learned": len(data),
            "left_out": {
                reason: {"rows": len(ids), "ids": ids[:100]} for reason, ids in data.left_out.items()
            },
            "lengths": histogram,
            "memory_gib_by_zero_stage": memory,
            "num_params": num_params,
            "num_trainable": num_trainable,
            "ranks": ranks,
            "end_token": data.end_token,
            "warnings": warnings,
            "longest_micro_batch": tried,
            "steps": steps,
        },
    )
