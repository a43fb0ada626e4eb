"""The whole of a small training: it learns, it is published, and how it is spread over ranks does not change what it learns."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.conftest import Trainings, metrics, same_bits, weights
from undo_hpc.config.train import TrainConfig
from undo_hpc.training import loop
from undo_hpc.training.ranks import RankInfo


def test_a_student_learns_and_is_published(trainings: Trainings) -> None:
    spec = trainings.spec(rows=200, epochs=3.0)
    running = trainings.run(spec)
    rows = metrics(spec)
    assert [r["step"] for r in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    out = Path(spec.out_dir)
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        p.name for p in out.iterdir()
    }
    assert not list(out.parent.glob(".student*"))
    progress = json.loads((Path(spec.work_dir) / "progress.json").read_text())
    assert progress["done"] == progress["total"] == rows[-1]["step"]
    assert "tok/s" in running.text() and "useful 100%" in running.text()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.use_cache is True
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Ann has 10 pens."}], tokenize=False, add_generation_prompt=True
    )
    made = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=5)
    assert made.shape[1] > 0

    again = trainings.run(spec)
    assert "complete already" in again.text()


def test_the_same_training_twice_gives_the_same_bits(trainings: Trainings) -> None:
    one, two = trainings.spec(), trainings.spec(preflight=False)
    trainings.run(one)
    trainings.run(two)
    assert same_bits(weights(one), weights(two))
    assert [r["loss"] for r in metrics(one)] == [r["loss"] for r in metrics(two)]


@pytest.fixture(scope="module")
def reference(trainings: Trainings) -> list[float]:
    """Losses of a training on one rank without ZeRO."""
    spec = trainings.spec("reference")
    trainings.run(spec)
    return [r["loss"] for r in metrics(spec)]


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (1, {"micro_batch_tokens": 180}),
        (1, {"packing": False}),
        (1, {"attention": "sdpa"}),
        (1, {"gradient_checkpointing": True}),
        (2, {"zero_stage": 0}),
        (2, {"zero_stage": 1}),
        (2, {"zero_stage": 2, "micro_batch_tokens": 180}),
        (2, {"zero_stage": 3}),
        (3, {"zero_stage": 2, "tokens_per_batch": 600}),
    ],
)
def test_how_the_work_is_spread_does_not_change_what_is_learned(
    trainings: Trainings, reference: list[float], ranks: int, changes: dict[str, object]
) -> None:
    spec = trainings.spec(**changes)
    running = trainings.run(spec, ranks)
    assert [r["loss"] for r in metrics(spec)] == pytest.approx(reference, abs=1e-4)
    shares = re.findall(
        r"ZeRO 3: this rank holds ([\d,]+) of ([\d,]+) weights; no rank loaded them all", running.text()
    )
    assert bool(shares) == (changes.get("zero_stage") == 3)
    for mine, whole in shares:
        assert int(mine.replace(",", "")) == pytest.approx(int(whole.replace(",", "")) / ranks, rel=0.01)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_bf16_trains_on_two_ranks(trainings: Trainings, reference: list[float], stage: int) -> None:
    spec = trainings.spec(precision="bf16", zero_stage=stage)
    running = trainings.run(spec, 2)
    assert ("ZeRO: stage 0 was asked for, stage 1 runs: bf16 weights need" in running.text()) == (stage == 0)
    assert [r["loss"] for r in metrics(spec)] == pytest.approx(reference, abs=0.1)
    assert all(w.dtype == torch.bfloat16 for w in weights(spec).values())


@pytest.mark.parametrize(("ranks", "stage", "adds_up"), [(1, 0, False), (2, 0, True), (1, 2, True)])
def test_one_rank_without_zero_copies_no_gradients_to_add_them_up(
    monkeypatch: pytest.MonkeyPatch, ranks: int, stage: int, adds_up: bool
) -> None:
    """DeepSpeed flattens all gradients into new memory for that, at each step; ZeRO's own optimisers need it."""
    import deepspeed

    made = SimpleNamespace(enable_backward_allreduce=True, train=lambda: None)
    monkeypatch.setattr(deepspeed, "initialize", lambda **_: (made, None, None, None))
    context: Any = SimpleNamespace(info=RankInfo(0, ranks, 0), device=torch.device("cpu"))
    loop.build_engine(torch.nn.Linear(2, 2), TrainConfig(precision="fp32", zero_stage=stage), {}, context)
    assert made.enable_backward_allreduce is adds_up
    source = inspect.getsource(deepspeed.DeepSpeedEngine)
    assert "if self.enable_backward_allreduce and" in source, "DeepSpeed calls it otherwise now"
