"""Attention that reads shared heads as they lie gives transformers' own logits, whatever stands beside a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.conftest import build_model
from tests.engines.test_transformers_engine import engine, mixture
from undo_hpc.engines import grouped_attention
from undo_hpc.engines.decoding import Work
from undo_hpc.engines.slot_cache import SlotModel, why_unsupported

WIDE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("wide") / "model", **WIDE)


def test_a_step_gives_the_logits_of_transformers_own_attention(wide_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(wide_model, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits() -> torch.Tensor:
        slots = SlotModel(model, rows=3, length=64)
        prompts = torch.arange(3 * 20).reshape(3, 20) % 300
        slots.fill(prompts, torch.arange(3))
        return slots.step(torch.tensor([5, 6, 7]), torch.tensor([20, 11, 3]), 64)

    plain = logits()
    assert grouped_attention.install(model) and model.config._attn_implementation == grouped_attention.NAME
    assert not why_unsupported(model)
    torch.testing.assert_close(logits(), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [{"hidden_size": 256}, {"num_key_value_heads": 8}])
def test_small_models_and_heads_that_are_not_shared_keep_transformers_own(
    tmp_path: Path, change: dict[str, int]
) -> None:
    loaded = engine(build_model(tmp_path / "model", **(WIDE | change)))
    assert loaded.describe()["attention"] == "sdpa"


def test_batch_invariance_holds_with_it(wide_model: Path) -> None:
    asked = mixture(8)
    loaded = engine(wide_model, max_batch=4, batch_invariant=True)
    assert loaded.describe()["attention"] == grouped_attention.NAME
    together = {c.id: c.token_ids for c in loaded.generate(asked)}
    assert together == {c.id: c.token_ids for r in asked for c in loaded.generate([r])}


def test_requests_of_a_large_model_share_one_decoder_on_a_cpu(wide_model: Path) -> None:
    """Its weights are read once a step, whatever the number of rows."""
    loaded = engine(wide_model, max_batch=8)
    works = [Work(r, [3] * 4, total - 4) for r, total in zip(mixture(3), (250, 120, 30), strict=True)]
    merged = loaded._merged({64: [works[2]], 128: [works[1]], 256: [works[0]]})
    assert [[work.total for work in bucket] for _, bucket in merged] == [[250, 120, 30]]
