"""`make bench-gpu`: packed training of a 1.5B-shaped Qwen2 from random weights on one GPU, against transformers' Trainer.

Tokens per second, model FLOP utilisation, and how long training stands still for a checkpoint. Written for one H100 or H200; never
part of CI. `python -m tests.bench --gpu --rehearse training` runs the same code in a tiny shape, on a CPU too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped
from tests.bench.model_shapes import QWEN2_1_5B, QWEN2_TINY

_PATIENCE_S = 400  # for all contestants together; they should take some three minutes on an H200


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


def measures(rehearse: bool = False) -> Iterator[Measure | Skipped]:
    """Tokens per second and MFU of ours beside Trainer's, and the blocking part of a checkpoint."""
    import torch

    if not (torch.cuda.is_available() or rehearse):
        for id_ in ("G1", "G2", "G3", "G4"):
            yield Skipped(id_, "no CUDA GPU here")
        return
    shape = REHEARSAL if rehearse else REAL
    if not rehearse and torch.cuda.get_device_properties(0).total_memory < 100 * 2**30:
        shape = replace(shape, at_once=shape.at_once // 2, micro_batch_tokens=shape.micro_batch_tokens // 2)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(place, shape)
        deadline = time.monotonic() + _PATIENCE_S
        ours = _run("ours_then_saved", place, deadline)
        if "failed" in ours:
            for id_ in ("G1", "G2", "G3", "G4"):
                yield Skipped(id_, f"our training failed: {ours['failed']}")
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
        for id_, name, what, goal in (
            ("G1", "trainer_padded", "Trainer (padded)", ">=1.5"),
            ("G4", "trl_packed", "TRL's SFTTrainer with packing", ">=1.0"),
        ):
            yield _against(id_, what, goal, ours, _run(name, place, deadline), gpu)


def _against(
    id_: str, what: str, goal: str, ours: dict[str, Any], other: dict[str, Any], gpu: str
) -> Measure | Skipped:
    if "failed" in other:
        return Skipped(id_, f"{what}: {other['failed']}")
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
    if mfu:
        yield Measure(
            "G2",
            "model FLOP utilisation, counting only work that answers need",
            round(statistics.median(mfu), 4),
            None,
            ">=0.45",
            "",
            f"{gpu}, dense bf16 peak, median of steps {shape.warm + 1}-{shape.steps}; {ours['kernels']}; recomputation and the last layer on "
            f"prompts are not counted; peak memory {ours['gpu_gib']:.0f} GiB",
        )
    else:
        yield Skipped("G2", f"the bf16 peak of {gpu} is not known")


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
        gradient_checkpointing=os.environ.get("UNDO_BENCH_RECOMPUTE") == "1",
    )


def _run(name: str, place: Path, deadline: float) -> dict[str, Any]:
    """One contestant in a process of its own: its figures, or why it has none under `failed`."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.training_contestants", name, str(place)],
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done {_PATIENCE_S} s after the first contestant began"}
    if done.returncode:
        print(f"{name}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", file=sys.stderr, flush=True)
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    *lines, last = done.stdout.splitlines()
    told: dict[str, Any] = json.loads(last)
    told.setdefault(
        "kernels", "; ".join(line for line in lines if line.startswith(("attention:", "liger:", "norms:")))
    )
    return told
