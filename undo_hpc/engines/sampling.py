"""Drawing the next token of many requests at once, each from its own seed and settings.

A request's random numbers are drawn in advance from its seed, one for each token it may write, and used as the point
at which the cumulative distribution over the tokens, likeliest first, is cut. So a draw depends on the request's own
seed, position and logits alone, never on which other requests share the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_LARGE = 8192  # words from which on not all of them are sorted
_LIKELIEST = 256


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
    scaled = logits / temperature.clamp(min=1e-5)[:, None]
    if logits.shape[1] < _LARGE:
        chosen = _cut(scaled, uniform, top_p, top_k)
    else:
        chosen, settled = _cut_of_likeliest(scaled, uniform, top_p, top_k)
        if len(rest := torch.nonzero(~settled & (temperature > 0))[:, 0]):
            chosen[rest] = _cut(scaled[rest], uniform[rest], top_p[rest], top_k[rest])
    return torch.where(temperature > 0, chosen, likeliest)


def _cut(
    scaled: torch.Tensor, uniform: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor
) -> torch.Tensor:
    """The tokens at which the cumulative distributions are cut. Shape (rows,)."""
    import torch

    ordered, tokens = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scaled.shape[1], device=scaled.device)
    ordered = ordered.masked_fill((rank >= top_k[:, None]) & (top_k[:, None] > 0), float("-inf"))
    cumulative = ordered.softmax(-1).cumsum(-1)
    # The mass of the nucleus: up to the first token at which the share is reached.
    last = (cumulative < top_p[:, None]).sum(-1).clamp(max=scaled.shape[1] - 1)
    mass = cumulative.gather(1, last[:, None])
    chosen = torch.minimum((cumulative <= uniform[:, None] * mass).sum(-1), last)
    return tokens.gather(1, chosen[:, None])[:, 0]


def _cut_of_likeliest(
    scaled: torch.Tensor, uniform: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the `_LIKELIEST` tokens alone, and whether that settles it; shapes (rows,).

    Sorting 50,000 words takes a CPU about as long as a model of 135 million weights takes for the row. Where the cut
    lies among the likeliest, the rest counts as a sum only. Not settled: the cut, or the end of the nucleus, lies behind
    them or at a value that others behind them may share.
    """
    import torch

    values, tokens = scaled.topk(_LIKELIEST, dim=-1)
    tokens, order = tokens.sort(dim=-1)  # of equal values the first token comes first, as above
    values, order = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
    tokens = tokens.gather(1, order)
    rank = torch.arange(_LIKELIEST, device=scaled.device)
    beyond = (rank >= top_k[:, None]) & (top_k[:, None] > 0)
    few = (top_k > 0) & (top_k <= _LIKELIEST)  # then nothing behind them counts
    total = torch.where(few, values.masked_fill(beyond, float("-inf")).logsumexp(-1), scaled.logsumexp(-1))
    cumulative = (values - total[:, None]).masked_fill(beyond, float("-inf")).exp().cumsum(-1)
    whole = top_p >= 1  # the nucleus is everything
    last = (cumulative < top_p[:, None]).sum(-1)
    mass = torch.where(whole, 1.0, cumulative.gather(1, last.clamp(max=_LIKELIEST - 1)[:, None])[:, 0])
    chosen = (cumulative <= (uniform * mass)[:, None]).sum(-1)
    chosen = torch.where(whole, chosen, torch.minimum(chosen, last)).clamp(max=_LIKELIEST - 1)
    above = values.gather(1, chosen[:, None])[:, 0] > values[:, -1]
    settled = above & (whole | (last < _LIKELIEST - 1)) & ((top_k == 0) | few)
    return tokens.gather(1, chosen[:, None])[:, 0], settled
