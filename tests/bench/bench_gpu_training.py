"""`make bench-gpu`: packed training of a 1.5B-shaped Qwen2 from random weights on one GPU, against transformers' Trainer.

Tokens per second, model FLOP utilisation, and how long training stands still for a checkpoint. Written for one H100 or H200; never
part of CI.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped

STEPS, SKIPPED = 24, 8  # the first steps warm up allocator and kernels
ROWS, BATCH = 6144, 192


def measures() -> Iterator[Measure | Skipped]:
    """Tokens per second and MFU of ours beside Trainer's, and the blocking part of a checkpoint."""
    import torch

    if not torch.cuda.is_available():
        for id_ in ("G1", "G2", "G3"):
            yield Skipped(id_, "no CUDA GPU here")
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(place)
        ours = _run("ours", place)
        trainer = _run("trainer_padded", place)
        steady = [r for r in ours["rows"] if r["step"] > SKIPPED]
        rate, theirs = (told["tokens"] * STEPS / (ROWS / BATCH) / told["wall_s"] for told in (ours, trainer))
        gpu = torch.cuda.get_device_name(0)
        yield Measure("G1", "packed training of a 1.5B-shaped Qwen2, useful tokens per second, against Trainer (padded)", round(rate), round(theirs),
                      ">=1.5", "tokens/s", f"{gpu}, bf16, all weights, AdamW; whole run of {STEPS} steps, warm-up and our checkpoints included")
        mfu = [r["mfu"] for r in steady if "mfu" in r]
        if mfu:
            yield Measure("G2", "model FLOP utilisation, counting only work that answers need", round(statistics.median(mfu), 4), None, ">=0.45", "",
                          f"{gpu}, dense bf16 peak, median of steps {SKIPPED + 1}-{STEPS}; recomputation and the last layer on prompts are not counted")
        else:
            yield Skipped("G2", f"the bf16 peak of {gpu} is not known")
        yield Measure("G3", "training stands still for a checkpoint of weights and optimiser (warm)", round(ours["blocked"][-1], 3), None, "<=1.0", "s",
                      f"{ours['size_mib']:.0f} MiB; first one {ours['blocked'][0]:.2f} s (takes its host memory from the system)")


def _prepare(place: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from tests.bench import training_contestants as contestants
    from tests.training import tiny_student
    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.spec import TrainSpec
    from undo_hpc.training.student import load_tokenizer

    tokenizer = tiny_student.make_tokenizer()
    config = Qwen2Config(vocab_size=151_936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
                         num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, use_sliding_window=False,
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None, dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = Qwen2ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    del model
    torch.cuda.empty_cache()
    contestants.prepare(place, ROWS, BATCH, precision="bf16", zero_stage=2, learning_rate=1e-5, max_steps=STEPS, log_steps=1,
                        micro_batch_tokens=16384, gradient_checkpointing=os.environ.get("UNDO_BENCH_RECOMPUTE") == "1",
                        checkpoint={"every_steps": STEPS // 3, "every_minutes": 0, "keep": 1, "asynchronous": True})
    spec = TrainSpec.load(place / "spec.json")
    (place / "tokens.json").write_text(str(int(encode_spec(spec, load_tokenizer(spec)).lengths.sum())))


def _run(name: str, place: Path) -> dict[str, Any]:
    """One contestant in a process of its own; for ours with the log rows and checkpoint times."""
    done = subprocess.run([sys.executable, "-m", "tests.bench.training_contestants", name, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    lines = done.stdout.splitlines()
    told: dict[str, Any] = json.loads(lines[-1])
    if name == "ours":
        work = next(place.glob("ours-*/work"))
        told["rows"] = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
        saves = [line for line in lines if line.startswith("checkpoint after step")]
        told["blocked"] = [float(line.split("stood still for ")[1].split(" s")[0]) for line in saves]
        told["size_mib"] = float(saves[-1].split(": ")[1].split(" MiB")[0].replace(",", ""))
    return told
