"""The race of the training benchmark: its rows, its spec, and the meter that all contestants carry."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.frame import told_by
from tests.training import tiny_student
from undo_hpc.storage.atomic import write_json
from undo_hpc.training.spec import TrainSpec

ROWS, BATCH = 320, 16
LR = 2e-3
Curve = list[tuple[int, float]]  # a step, and the mean loss since the last one told


def length_spread(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Word problems with rationales whose lengths spread as real ones do: log-normal (sigma 0.7), the longest some five times the median."""
    rng = random.Random(seed)
    out = []
    for idx in range(count):
        problem, solution, answer = tiny_student.word_problem(rng, rng.randint(1, 4))
        first = problem.split(".")[0]
        lines = [
            f"We know that {first}." if rng.random() < 0.5 else f"Check: {line}"
            for line in solution.split(" ")
            for _ in range(max(1, round(rng.lognormvariate(0.6, 0.6))))
        ]
        rng.shuffle(lines)
        wanted = rng.lognormvariate(4.8, 0.7)  # tokens
        text = " ".join((lines * 40)[: max(1, round(wanted / 18))])
        row = dict(tiny_student.rows(1)[0])
        out.append(
            row
            | {
                "id": f"{idx:08d}",
                "idx": idx,
                "problem": problem,
                "teacher_solution": f"{text} {solution}",
                "gt": answer,
            }
        )
    return out


def prepare(
    place: Path,
    rows: int = ROWS,
    batch: int = BATCH,
    *,
    at_once: int | None = None,
    data: list[dict[str, Any]] | None = None,
    autocast: bool = False,
    **changes: Any,
) -> None:
    """Writes data, spec and what the others need to do the same, and a tiny model where there is none in `place`.

    A step learns from some `batch` rows; Trainer takes `at_once` of them at a time (all by default). With `autocast` the others keep fp32
    weights and compute in bf16; without it, in bf16, their weights are bf16 and nothing else.
    """
    if not (place / "model").exists():
        tiny_student.make_student(place / "model", hidden=64, layers=3)
    parquet = tiny_student.write_parquet(place / "data.parquet", data or length_spread(rows))
    train = {
        "epochs": 1.0,
        "max_length": 2048,
        "learning_rate": LR,
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "precision": "fp32",
        "zero_stage": 0,
        "betas": [0.9, 0.999],
        "max_grad_norm": 1.0,
        "log_steps": 5,
        "preflight": False,
        "checkpoint": {"every_steps": 10**6, "every_minutes": 0},
        **changes,
    }
    spec = TrainSpec(
        train=train,
        seed=0,
        model=str(place / "model"),
        data=[str(parquet)],
        instruction="." if data else "",
        work_dir=str(place / "work"),
        out_dir=str(place / "out"),
        run_id="bench",
        data_digest="bench",
    )
    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.student import load_tokenizer

    lengths = encode_spec(spec, load_tokenizer(spec)).lengths
    budget = round(
        (batch + 0.5) * float(np.mean(lengths))
    )  # a step ends before it would overflow: this gives the others' number of steps
    spec = TrainSpec(
        **{**spec.__dict__, "train": {"tokens_per_batch": budget, "micro_batch_tokens": 2 * budget} | train}
    )
    spec.save(place / "spec.json")
    steps = min(changes.get("max_steps") or 10**9, rows // batch)
    write_json(
        place / "race.json",
        {
            "batch": batch,
            "at_once": at_once or batch,
            "steps": steps,
            "tokens": int(lengths.sum()),
            "autocast": int(autocast),
        },
    )


def race_of(place: Path) -> dict[str, int]:
    told: dict[str, int] = json.loads((place / "race.json").read_text())
    return told


def run_contestant(name: str, place: Path, patience_s: float = 1200.0) -> dict[str, Any]:
    """A contestant's figures, from a process of its own; why it has none, under `failed`."""
    needs = {"trl_packed": "trl", "trainer_flattened": "accelerate"}.get(name, "torch")
    if importlib.util.find_spec(needs) is None:
        return {"failed": f"{needs} is not installed (make bench installs it)", "missing": True}
    told = told_by("tests.bench.training_contestants", name, str(place), patience_s=max(1.0, patience_s))
    if "failed" in told:
        return told
    kernels = re.findall(r"\b(?:attention|liger|norms): .*", told.pop("printed"))
    told.setdefault("kernels", "; ".join(dict.fromkeys(kernels)))
    return told


def wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Meter:
    """CPU seconds and memory between `start` and `stop`. Peak memory is read from /proc (Linux)."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.before = self.peak = 0
        self.told: dict[str, Any] = {}  # what a contestant has to say beside

    @staticmethod
    def _status(key: str) -> int:
        found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else 0

    def start(self) -> None:
        """The first step begins."""
        with contextlib.suppress(OSError):  # not every container has it
            Path("/proc/self/clear_refs").write_text("5")
        wait_for_gpu()
        self.before, self._cpu, self._wall = self._status("VmRSS"), time.process_time(), time.monotonic()

    def stop(self) -> None:
        """The last step is done."""
        wait_for_gpu()
        self.cpu, self.wall = time.process_time() - self._cpu, time.monotonic() - self._wall
        self.peak = self._status("VmHWM")


def encoded(place: Path) -> tuple[Any, Any, Any]:
    """The encoded set, the tokenizer and the model, at the rivals' best attention."""
    from transformers import AutoModelForCausalLM

    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.student import load_tokenizer

    spec = TrainSpec.load(place / "spec.json")
    tokenizer = load_tokenizer(spec)
    import torch

    bf16 = spec.config.precision == "bf16" and not race_of(place)["autocast"]
    attention = (
        "flash_attention_2"
        if torch.cuda.is_available() and importlib.util.find_spec("flash_attn")
        else "sdpa"
    )
    model = AutoModelForCausalLM.from_pretrained(
        spec.model, attn_implementation=attention, dtype=torch.bfloat16 if bf16 else torch.float32
    )
    return encode_spec(spec, tokenizer), tokenizer, model


def metered(meter: Meter) -> Any:
    """A callback of the Trainer that starts and stops the meter."""
    from transformers import TrainerCallback

    class Metered(TrainerCallback):  # type: ignore[misc]
        """Starts and stops the meter with the training."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.start()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            meter.stop()

    return Metered()
