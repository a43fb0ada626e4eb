"""One token's attention where several query heads share a key head, without copying the keys.

With a mask transformers' SDPA first writes each key head once for each of its queries: for a row of 500 tokens and three queries a
head, more memory traffic than the model's weights. Here the queries of a head stand where the tokens of a longer query would, so the
cache is read as it lies. Registered with transformers as `sdpa_grouped`; all but single masked tokens takes transformers' own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "sdpa_grouped"
_LARGE = 512  # channels from which on the copies cost more than the calls


def is_large(model: PreTrainedModel) -> bool:
    """Whether reading weights and cache is what a step costs, rather than the calls."""
    return bool(getattr(model.config.get_text_config(), "hidden_size", 0) >= _LARGE)


def install(model: PreTrainedModel) -> bool:
    """Gives a model with SDPA this attention, where heads are shared and the model is large enough; whether it did."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    shared = heads > (getattr(config, "num_key_value_heads", None) or heads)
    if getattr(model.config, "_attn_implementation", "") != "sdpa" or not (shared and is_large(model)):
        return False
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)
    return True


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of query (rows, heads, 1, width) on key and value (rows, fewer heads, tokens, width), with a mask (rows, 1, 1, tokens).

    Returns the attended values, shape (rows, 1, heads, width), and no weights.
    """
    rows, heads, tokens, width = query.shape
    if tokens != 1 or attention_mask is None or attention_mask.shape[1] != 1 or heads == key.shape[1]:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return out
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, key.shape[1], -1, width), key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(rows, 1, heads, width), None
