"""G5: do the attention kernels compute what the reference forward does? Beside the rounding of bf16 that eager attention has anyway.

Two layers of Qwen2.5-1.5B, documents as long as real rationales in one packed row; the reference is eager attention in fp32.
`python -m tests.bench --gpu --rehearse kernels` runs the same code in a tiny shape, on a CPU too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.bench.frame import Measure, Skipped
from tests.bench.model_shapes import QWEN2_1_5B, QWEN2_TINY
from tests.bench.rationale_lengths import PAIRS

KERNELS = {"varlen": "G5", "flash_attention_2": "G5f", "sdpa": "G5s"}


def measures(rehearse: bool = False) -> Iterator[Measure | Skipped]:
    """A row a kernel: mean difference of its bf16 logits from the reference, over that of eager attention in bf16."""
    import torch

    from undo_hpc.training import student

    if not (torch.cuda.is_available() or rehearse):
        yield from (Skipped(id_, f"{name}: no CUDA GPU here") for name, id_ in KERNELS.items())
        return
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    shape = (QWEN2_TINY if rehearse else QWEN2_1_5B) | {"num_hidden_layers": 2}
    lengths = sorted((p + a for p, a in PAIRS[: 8 if rehearse else 24]), reverse=True)
    wanted = _logits(shape, "eager", "float32", lengths, device)
    eager = _difference(_logits(shape, "eager", "bfloat16", lengths, device), wanted)
    for name, id_ in KERNELS.items():
        missing = student.flash_missing() if name == "flash_attention_2" else ""
        if not missing and name == "flash_attention_2" and device.type == "cpu":
            missing = "it needs a GPU"
        if missing:
            yield Skipped(id_, f"{name}: {missing} (make gpu-wheels names what is needed)")
            continue
        try:
            found = _difference(_logits(shape, name, "bfloat16", lengths, device), wanted)
        except (RuntimeError, ValueError, ImportError) as error:
            yield Skipped(id_, f"{name} broke: {type(error).__name__}: {str(error)[:300]}", broke=True)
            continue
        yield Measure(
            id_,
            f"attention {name} in bf16: distance from eager attention in fp32, over that of eager in bf16",
            found,
            eager,
            "<=1.5",
            "mean difference of logits over their spread",
            f"{device.type}, {len(lengths)} documents of {lengths[-1]} to {lengths[0]} tokens in a row, 2 layers of the 1.5B shape",
        )


def _difference(found: Any, wanted: Any) -> float:
    return float((found - wanted).abs().mean() / wanted.std())


def _logits(shape: dict[str, Any], attention: str, dtype: str, lengths: list[int], device: Any) -> Any:
    """Logits of the packed row, one position in eight. Shape (kept, vocabulary)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from undo_hpc.config.train import TrainConfig
    from undo_hpc.training import attention as attentions
    from undo_hpc.training.batches import Batcher
    from undo_hpc.training.encoding import EncodedSet

    attentions.register()
    config = Qwen2Config(
        **(shape | {"dtype": dtype}), max_position_embeddings=4096, attn_implementation=attention
    )
    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(config).to(device, getattr(torch, dtype)).eval()
    ids = np.random.default_rng(0).integers(3, shape["vocab_size"], sum(lengths)).astype(np.int32)
    data = EncodedSet(
        ids,
        np.cumsum([0, *lengths]),
        np.ones(len(lengths), dtype=np.int64),
        np.asarray([str(i) for i in range(len(lengths))]),
        2,
        len(lengths),
    )
    precision = "bf16" if dtype == "bfloat16" else "fp32"
    batcher = Batcher(
        data,
        TrainConfig(precision=precision),
        rank=0,
        ranks=1,
        attention=attention,
        pad_token=0,
        device=device,
    )
    inputs = batcher.build(list(range(len(lengths)))).inputs
    inputs["logits_to_keep"] = torch.arange(0, sum(lengths), 8, device=device)
    with torch.no_grad():
        return model(**inputs).logits[0].float().cpu()
