"""Attention that keeps packed documents apart, without a dense mask.

Registered with transformers under the name `segment`. On a GPU it is torch's variable-length flash attention; on a CPU the
documents of a row are gathered into buckets of similar length, each one causal call. Padding stands behind a document, where
causality hides it from every real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

NAME = "segment"
_WASTE = 1.1  # a bucket may compute this many times its useful scores, plus a call's own cost
_CALL_COST = 4096  # scores that cost about as much as one more call


@dataclass(frozen=True)
class Bucket:
    """Documents of a row that are attended to in one call. `gather` is None where they have equal lengths and no gap."""

    begin: int
    end: int
    count: int
    longest: int
    gather: torch.Tensor | None
    scatter: torch.Tensor | None


@dataclass(frozen=True)
class Segments:
    """Where the documents of one packed row lie.

    Attributes:
        buckets: for CPUs.
        offsets: cumulative lengths, int32, shape (documents + 1,), for variable-length kernels.
        longest: tokens of the longest document.
    """

    buckets: tuple[Bucket, ...]
    offsets: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Segments:
        """The segments of a row whose documents have these lengths, best in falling order."""
        offsets = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        if torch.device(device).type != "cpu":
            return cls((), offsets.to(device, non_blocking=True), max(lengths))
        return cls(tuple(_buckets(lengths)), offsets, max(lengths))


def _buckets(lengths: Sequence[int]) -> list[Bucket]:
    buckets, first, at = [], 0, 0
    while first < len(lengths):
        longest, useful, last = lengths[first], 0, first
        while last < len(lengths) and lengths[last] <= longest:
            useful += lengths[last] ** 2
            if longest**2 * (last + 1 - first) > _WASTE * useful + _CALL_COST:
                break
            last += 1
        last = max(last, first + 1)
        buckets.append(_bucket(lengths[first:last], at))
        at += sum(lengths[first:last])
        first = last
    return buckets


def _bucket(lengths: Sequence[int], begin: int) -> Bucket:
    longest, total = max(lengths), sum(lengths)
    if total == longest * len(lengths):
        return Bucket(begin, begin + total, len(lengths), longest, None, None)
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    column = torch.arange(longest)
    real = column < sizes[:, None]
    gather = torch.where(real, starts[:, None] + column, starts[:, None]).flatten()
    scatter = torch.nonzero(real.flatten()).flatten()
    return Bucket(begin, begin + total, len(lengths), longest, gather, scatter)


def segment_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, scaling: float | None = None, dropout: float = 0.0,
    segments: Segments | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document of a packed row.

    Args:
        query, key, value: shape (1, heads, tokens, width); key and value may have fewer heads.
        segments: where documents lie; None treats each row as one document (generation, tests).

    Returns the attended values, shape (1, tokens, heads, width), and None for the weights.
    """
    shared = query.shape[1] != key.shape[1]
    if segments is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, scale=scaling, is_causal=query.shape[2] > 1, enable_gqa=shared)
        return out.transpose(1, 2), None
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
        packed = varlen_attn(q, k, v, segments.offsets, segments.offsets, segments.longest, segments.longest,
                             scale=scaling, window_size=(-1, 0), enable_gqa=shared)
        assert isinstance(packed, torch.Tensor)
        return packed.unsqueeze(0), None
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))  # (tokens, heads, width)
    parts = [_attend(q, k, v, bucket, scaling, dropout, shared) for bucket in segments.buckets]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).unsqueeze(0), None


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bucket: Bucket, scaling: float | None, dropout: float, shared: bool
) -> torch.Tensor:
    def rows(t: torch.Tensor) -> torch.Tensor:
        t = t[bucket.begin : bucket.end]
        if bucket.gather is not None:
            t = t.reshape(t.shape[0], -1).index_select(0, bucket.gather).view(-1, *t.shape[1:])
        return t.reshape(bucket.count, bucket.longest, *t.shape[1:]).transpose(1, 2)

    out = torch.nn.functional.scaled_dot_product_attention(
        rows(q), rows(k), rows(v), dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=shared)
    flat = out.transpose(1, 2).reshape(bucket.count * bucket.longest, *q.shape[1:])
    return flat if bucket.scatter is None else flat.index_select(0, bucket.scatter)


def register() -> None:
    """Makes `attn_implementation="segment"` known to transformers, with no mask built for it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, segment_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
