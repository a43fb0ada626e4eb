"""`make bench-gpu`: packed training of a 1.5B-shaped Qwen2 from random weights on one GPU, against transformers' Trainer.

Tokens per second, model FLOP utilisation, and how long training stands still for a checkpoint. Written for one H100 or H200; never
part of CI. `python -m tests.bench --gpu --rehearse training` runs the same code in a tiny shape, on a CPU too.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped, seconds_left
from tests.bench.model_shapes import QWEN2_1_5B, QWEN2_TINY
from tests.bench.training_race import run_contestant

_PATIENCE_S = (
    180  # for a contestant; on an H200 ours should take some 80 s, its checkpoints included, another 60 s
)
_PUBLIC_MFU = 0.418  # of the best table that was found for fine-tuning at 1.5B on one such GPU


@dataclass(frozen=True)
class Shape:
    """How large the race is: the model, the data, `batch` rows a step of which Trainer takes `at_once` at a time, and the steps.

    The first `warm` steps warm up allocator and kernels; they count in G1, for both, and not in G2.
    """

    model: dict[str, Any]
    rows: int
    batch: int
    at_once: int
    steps: int
    warm: int
    micro_batch_tokens: int


_POSITIONS = {"max_position_embeddings": 4096}
REAL = Shape(
    QWEN2_1_5B | _POSITIONS, rows=5000, batch=192, at_once=16, steps=24, warm=8, micro_batch_tokens=16384
)
REHEARSAL = Shape(
    QWEN2_TINY | _POSITIONS, rows=60, batch=8, at_once=4, steps=6, warm=2, micro_batch_tokens=1024
)


IDS = {
    "G2": "model FLOP utilisation",
    "G2p": "model FLOP utilisation against the best public table at this size",
    "G3": "checkpoint",
    "G6": "memory against the preflight",
    "G1": "against Trainer with padding",
    "G1f": "against Trainer without padding",
    "G4": "against TRL with packing",
}
RIVALS = (
    ("G1f", "trainer_flattened", "Trainer with its padding-free collator", ">=1.0", "flash_attn"),
    ("G1", "trainer_padded", "Trainer (padded)", ">=1.5", ""),
    ("G4", "trl_packed", "TRL's SFTTrainer with packing", ">=1.0", "trl"),
)


def measures(rehearse: bool = False) -> Iterator[Measure | Skipped]:
    """MFU, checkpoint and memory of ours, then tokens per second beside the others'; each row as soon as it is known."""
    import torch

    if not (torch.cuda.is_available() or rehearse):
        yield from (Skipped(id_, f"{what}: no CUDA GPU here") for id_, what in IDS.items())
        return
    shape = REHEARSAL if rehearse else REAL
    if not rehearse and torch.cuda.get_device_properties(0).total_memory < 100 * 2**30:
        shape = replace(shape, at_once=shape.at_once // 2, micro_batch_tokens=shape.micro_batch_tokens // 2)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(place, shape)
        ours = run_contestant("ours_then_saved", place, min(_PATIENCE_S, seconds_left()))
        if "failed" in ours:
            yield from (Skipped(id_, f"our training failed: {ours['failed']}", broke=True) for id_ in IDS)
            return
        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
        yield from _utilisation(ours, shape, gpu)
        yield Measure(
            "G3",
            "training stands still for a checkpoint of weights and optimiser (warm)",
            round(ours["blocked"][-1], 3),
            None,
            "<=1.0",
            "s",
            f"{ours['size_mib']:.0f} MiB; the first one {ours['blocked'][0]:.2f} s (takes its host memory from the system); "
            f"and was on disk after {ours['whole'][0]:.1f} s",
        )
        yield _memory(ours, gpu)
        for id_, name, what, goal, needs in RIVALS:
            if needs and importlib.util.find_spec(needs) is None and not rehearse:
                yield Skipped(
                    id_, f"{what}: {needs} is not installed, so it cannot be raced (make gpu-wheels names it)"
                )
            else:
                other = run_contestant(name, place, min(_PATIENCE_S, seconds_left()))
                yield _against(id_, what, goal, ours, other, gpu)


def _against(
    id_: str, what: str, goal: str, ours: dict[str, Any], other: dict[str, Any], gpu: str
) -> Measure | Skipped:
    if "failed" in other:
        return Skipped(id_, f"{what}: {other['failed']}", broke=not other.get("missing"))
    rate, theirs = (told["tokens"] / told["wall_s"] for told in (ours, other))
    note = (
        f"{gpu}, bf16, all weights, fused AdamW; whole run of {ours['steps']} and {other['steps']} steps, warm-up included, no checkpoints; "
        f"ours: {ours['kernels']}, fp32 master weights; other: {other['kernels']}; mean loss of the second half {ours['loss']:.3f} and {other['loss']:.3f}"
    )
    return Measure(
        id_,
        f"packed training of a 1.5B-shaped Qwen2, useful tokens per second, against {what}",
        round(rate),
        round(theirs),
        goal,
        "tokens/s",
        note,
    )


def _utilisation(ours: dict[str, Any], shape: Shape, gpu: str) -> Iterator[Measure | Skipped]:
    mfu = [r["mfu"] for r in ours["rows"] if r["step"] > shape.warm and "mfu" in r]
    if not mfu:
        yield from (Skipped(id_, f"{IDS[id_]}: the bf16 peak of {gpu} is not known") for id_ in ("G2", "G2p"))
        return
    share = round(statistics.median(mfu), 4)
    note = (
        f"{gpu}, dense bf16 peak, median of steps {shape.warm + 1}-{shape.steps}; {ours['kernels']}; recomputation and the last layer on "
        f"prompts are not counted; peak memory {ours['gpu_gib']:.0f} GiB"
    )
    yield Measure(
        "G2", "model FLOP utilisation, counting only work that answers need", share, None, ">=0.45", "", note
    )
    yield Measure("G2p", IDS["G2p"], share, _PUBLIC_MFU, ">=1.0", "", note)


def _memory(ours: dict[str, Any], gpu: str) -> Measure | Skipped:
    """The peak of the whole training over the peak of the preflight's longest batch: above 1 it would promise too much."""
    tried = (ours.get("preflight") or {}).get("longest_micro_batch") or {}
    if not tried.get("peak_gib"):
        return Skipped("G6", f"{IDS['G6']}: {gpu} has no memory of its own that could be measured")
    by_stage = ours["preflight"]["memory_gib_by_zero_stage"]["2"]
    return Measure(
        "G6",
        "peak memory of the training over what the preflight measured before it",
        round(ours["gpu_gib"], 2),
        round(tried["peak_gib"], 2),
        "<=1.05",
        "GiB",
        f"{gpu}; computed without activations: {by_stage:.1f} GiB; longest micro-batch {tried['tokens']:.0f} tokens",
    )


def _prepare(place: Path, shape: Shape) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.bench import training_race
    from tests.training import tiny_student

    tokenizer = tiny_student.make_tokenizer()
    config = Qwen2Config(
        **shape.model,
        use_sliding_window=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    training_race.prepare(
        place,
        shape.rows,
        shape.batch,
        at_once=shape.at_once,
        precision="bf16",
        zero_stage=2,
        learning_rate=1e-5,
        max_steps=shape.steps,
        log_steps=1,
        micro_batch_tokens=shape.micro_batch_tokens,
        liger=True,
        preflight=True,
        gradient_checkpointing=os.environ.get("UNDO_BENCH_RECOMPUTE") == "1",
    )
