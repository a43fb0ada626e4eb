"""Drawing from a large vocabulary: the short way gives what sorting everything gives."""

from __future__ import annotations

import pytest
import torch

from undo_hpc.engines import sampling
from undo_hpc.engines.sampling import draw

WORDS = 20_000


def settings(rows: int) -> tuple[torch.Tensor, ...]:
    """Uniform numbers, temperatures (some 0), top_p and top_k of many kinds."""
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(1))
    temperature = torch.tensor([(0.0, 0.6, 1.0, 1.5)[i % 4] for i in range(rows)])
    top_p = torch.tensor([(1.0, 0.95, 0.5, 1e-6)[i // 4 % 4] for i in range(rows)])
    top_k = torch.tensor([(0, 20, 1, 256, 300, 50_000)[i // 16 % 6] for i in range(rows)])
    return uniform, temperature, top_p, top_k


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0, 8.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_large_vocabulary_draws_as_if_all_words_were_sorted(
    monkeypatch: pytest.MonkeyPatch, spread: float, rounded: bool
) -> None:
    """Flat and peaked distributions; rounded to bf16, many words share a value."""
    logits = torch.randn(192, WORDS, generator=torch.Generator().manual_seed(0)) * spread
    if rounded:
        logits = logits.bfloat16().float()
    short = draw(logits, *settings(192))
    alone = torch.cat([draw(logits[i : i + 1], *(s[i : i + 1] for s in settings(192))) for i in range(192)])
    monkeypatch.setattr(sampling, "_LARGE", WORDS + 1)
    whole = draw(logits, *settings(192))
    assert torch.equal(short, alone), "a row's draw depends on its neighbours"
    assert (short == whole).float().mean() > 0.98  # a cut at the last bit of a sum can fall on the next word
    exact = (spread, rounded) == (0.0, False)
    assert torch.equal(short, whole) or not exact


def test_most_rows_of_a_peaked_distribution_are_settled_without_sorting_all() -> None:
    logits = torch.randn(64, WORDS, generator=torch.Generator().manual_seed(0)) * 6
    uniform, _, _, _ = settings(64)
    ones, zeros = torch.ones(64), torch.zeros(64, dtype=torch.long)
    _, settled = sampling._cut_of_likeliest(logits, uniform, ones, zeros)
    assert settled.float().mean() > 0.9
