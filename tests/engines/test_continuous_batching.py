"""Samples of one prompt: it is computed once, and each sample is what it would be alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engines.test_transformers_engine import engine, mixture
from undo_hpc.engines import Request
from undo_hpc.engines.slot_cache import SlotModel


def samples(prompts: int, each: int) -> list[Request]:
    """`each` samples of prompts of several lengths."""
    return [replace(r, id=f"{r.id}-{k}", seed=r.seed + k) for r in mixture(prompts) for k in range(each)]


@pytest.mark.parametrize("invariant", [True, False])
def test_a_prompt_that_a_row_holds_is_not_computed_again(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, invariant: bool
) -> None:
    filled: list[tuple[int, ...]] = []
    fill = SlotModel.fill

    def seen(self: SlotModel, prompts: torch.Tensor, rows: torch.Tensor) -> None:
        filled.extend(tuple(p) for p in prompts[: len(rows)].tolist())
        fill(self, prompts, rows)

    monkeypatch.setattr(SlotModel, "fill", seen)
    asked = samples(6, 4)
    together = engine(tiny_model, max_batch=8, batch_invariant=invariant)
    filled.clear()  # of the engine's own check
    found = {c.id: c.token_ids for c in together.generate(asked)}
    assert len(found) == 24 and len(filled) <= 12, "each sample's prompt was computed"
    filled.clear()
    alone: dict[str, Any] = {c.id: c.token_ids for r in asked for c in together.generate([r])}
    assert len(filled) == 24
    same = [found[r.id] == alone[r.id] for r in asked]
    assert all(same) if invariant else sum(same) >= 22  # without, the last bits of logits depend on the batch


def test_dummies_are_dropped_where_the_bits_stay_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towards the end fewer rows are computed; a size at which any bit of any logit differs is tried once and never used."""
    rows: list[int] = []
    step = SlotModel.step

    def seen(self: SlotModel, tokens: torch.Tensor, *args: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return step(self, tokens, *args)

    def depends_on_rows(self: SlotModel, tokens: torch.Tensor, *args: Any) -> torch.Tensor:
        logits = seen(self, tokens, *args)
        return torch.nextafter(logits, logits + 1) if len(tokens) < 16 else logits

    monkeypatch.setattr(SlotModel, "step", seen)
    asked = samples(5, 1)
    tested = engine(tiny_model, max_batch=16, batch_invariant=True)
    found = {c.id: c.token_ids for c in tested.generate(asked)}
    assert rows.count(8) + rows.count(4) > rows.count(16), (
        "five requests were computed in sixteen rows to the end"
    )
    monkeypatch.setattr(SlotModel, "step", depends_on_rows)
    tested = engine(tiny_model, max_batch=16, batch_invariant=True)
    rows.clear()  # of the engine's own check
    assert {c.id: c.token_ids for c in tested.generate(asked)} == found
    tried = [case for case, same in (tested._same_bits or {}).items() if not same]
    assert tried and sum(rows.count(size) for size in (1, 2, 4, 8)) == len(tried)
