"""Drawing the next token of many requests at once, each from its own seed and settings.

A request's random numbers are drawn in advance from its seed, one for each token it may write, and used as the point
at which the cumulative distribution over the tokens, likeliest first, is cut. So a draw depends on the request's own
seed, position and logits alone, never on which other requests share the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def uniforms(seed: int, count: int) -> torch.Tensor:
    """The random numbers of a request: float32 in [0, 1), shape (count,), on the CPU whatever the model's device."""
    import torch

    return torch.rand(count, generator=torch.Generator().manual_seed(seed % 2**63))


def draw(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor,
    top_k: torch.Tensor,
    *,
    greedy: bool | None = None,
) -> torch.Tensor:
    """The next token of each row.

    Top-k comes before top-p, and top-p keeps the smallest set of likeliest tokens that reaches its share, as in vLLM
    and transformers.

    Args:
        logits: (rows, vocabulary).
        uniform: (rows,), the random number of each row's token.
        temperature, top_p: (rows,) float; a temperature of 0 is greedy.
        top_k: (rows,) integer; 0 for all.
        greedy: whether all temperatures are 0, where the caller knows; asking a GPU means waiting for it.

    Returns:
        (rows,) token ids.
    """
    import torch

    logits = logits.float()
    likeliest = logits.argmax(-1)
    if greedy if greedy is not None else not bool((temperature > 0).any()):
        return likeliest
    ordered, tokens = (logits / temperature.clamp(min=1e-5)[:, None]).sort(
        dim=-1, descending=True, stable=True
    )
    rank = torch.arange(logits.shape[1], device=logits.device)
    ordered = ordered.masked_fill((rank >= top_k[:, None]) & (top_k[:, None] > 0), float("-inf"))
    cumulative = ordered.softmax(-1).cumsum(-1)
    # The mass of the nucleus: up to the first token at which the share is reached.
    last = (cumulative < top_p[:, None]).sum(-1).clamp(max=logits.shape[1] - 1)
    mass = cumulative.gather(1, last[:, None])
    chosen = torch.minimum((cumulative <= uniform[:, None] * mass).sum(-1), last)
    return torch.where(temperature > 0, tokens.gather(1, chosen[:, None])[:, 0], likeliest)
