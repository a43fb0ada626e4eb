"""Attention that keeps packed documents apart, without a dense mask.

Registered with transformers under the name `varlen`. On a GPU it is torch's variable-length flash attention. Where that kernel
cannot run (CPUs, fp32, GPUs before Ampere) the documents of a row are gathered into buckets of similar length, each one causal
call. Padding stands behind a document, where causality hides it from every real token.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from undo_hpc.errors import ConfigError

NAME = "varlen"
_AMPERE = (8, 0)
_WIDEST = 256  # channels of a head that the kernel takes
_WASTE = 1.1  # a bucket may compute this many times its useful scores, plus a call's own cost
_CALL_COST = 4096  # scores that cost about as much as one more call


def kernel_missing(precision: str, capability: tuple[int, int] | None) -> str:
    """Why variable-length flash kernels, torch's or FlashAttention's, cannot run; empty where they can.

    Args:
        capability: of the GPU; None where there is none. (AMD's GPUs report 9.0 and above.)
    """
    if capability is None:
        return "there is no GPU"
    if precision != "bf16":
        return f"no flash kernel takes {precision}"
    if capability < _AMPERE:
        return f"flash kernels need compute capability {_AMPERE[0]}.{_AMPERE[1]}, this GPU has {capability[0]}.{capability[1]}"
    return ""


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """The GPU's compute capability; None where there is no GPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


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
class VarlenLayout:
    """Where the documents of one packed row lie.

    Attributes:
        buckets: where there is no variable-length kernel; else none.
        cu_seqlens: cumulative lengths, int32, shape (documents + 1,), for variable-length kernels.
        max_seqlen: tokens of the longest document.
    """

    buckets: tuple[Bucket, ...]
    cu_seqlens: torch.Tensor
    max_seqlen: int

    @classmethod
    def of(
        cls, lengths: Sequence[int], device: torch.device | str = "cpu", *, kernel: bool = False
    ) -> VarlenLayout:
        """The layout of a row whose documents have these lengths, best in falling order; for the kernel, or in buckets."""
        device = torch.device(device)
        cu_seqlens = put(torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32), device)
        return cls(() if kernel else tuple(_buckets(lengths, device)), cu_seqlens, max(lengths))


def put(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device. The copy runs behind the GPU's work, so the caller does not wait."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _buckets(lengths: Sequence[int], device: torch.device) -> list[Bucket]:
    buckets, first, at = [], 0, 0
    while first < len(lengths):
        longest, useful, last = lengths[first], 0, first
        while last < len(lengths) and lengths[last] <= longest:
            useful += lengths[last] ** 2
            if longest**2 * (last + 1 - first) > _WASTE * useful + _CALL_COST:
                break
            last += 1
        last = max(last, first + 1)
        buckets.append(_bucket(lengths[first:last], at, device))
        at += sum(lengths[first:last])
        first = last
    return buckets


def _bucket(lengths: Sequence[int], begin: int, device: torch.device) -> Bucket:
    longest, total = max(lengths), sum(lengths)
    if total == longest * len(lengths):
        return Bucket(begin, begin + total, len(lengths), longest, None, None)
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    column = torch.arange(longest)
    real = column < sizes[:, None]
    gather = torch.where(real, starts[:, None] + column, starts[:, None]).flatten()
    scatter = torch.cat(
        [
            torch.arange(at, at + n)
            for at, n in zip(range(0, longest * len(lengths), longest), lengths, strict=True)
        ]
    )
    return Bucket(begin, begin + total, len(lengths), longest, put(gather, device), put(scatter, device))


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    varlen_layout: VarlenLayout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document of a packed row.

    Args:
        query, key, value: shape (1, heads, tokens, width); key and value may have fewer heads.
        varlen_layout: where documents lie; None treats each row as one document (generation, tests).

    Returns the attended values, shape (1, tokens, heads, width), and None for the weights. Raises ConfigError for a model whose
    attention is another one: capped scores, sinks, or a window that is shorter than a document.
    """
    if softcap is not None or s_aux is not None:
        raise ConfigError(
            "train.attention is varlen, but the model caps its attention's scores, or has sinks",
            hint="set train.attention to auto (which takes eager then), flash_attention_2 or eager",
        )
    window = (
        sliding_window
        if sliding_window and sliding_window < (varlen_layout.max_seqlen if varlen_layout else query.shape[2])
        else None
    )
    if window and (varlen_layout is None or varlen_layout.buckets):
        raise ConfigError(
            f"train.attention is varlen, but the model looks back {window} tokens only, which needs a flash kernel here",
            hint=f"set train.max_length to {window}, or train.packing to false",
        )
    shared = query.shape[1] != key.shape[1]
    if varlen_layout is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=dropout,
            scale=scaling,
            is_causal=query.shape[2] > 1,
            enable_gqa=shared,
        )
        return out.transpose(1, 2), None
    q, k, v = _exact_before(query, key, value)
    q, k, v = (t[0].transpose(0, 1) for t in (q, k, v))  # (tokens, heads, width)
    if not varlen_layout.buckets:
        return _exact_after(_varlen(q, k, v, varlen_layout, scaling, shared, window)).unsqueeze(0), None
    parts = [_attend(q, k, v, bucket, scaling, dropout, shared) for bucket in varlen_layout.buckets]
    return _exact_after(parts[0] if len(parts) == 1 else torch.cat(parts)).unsqueeze(0), None


def _varlen(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    varlen_layout: VarlenLayout,
    scaling: float | None,
    shared: bool,
    window: int | None,
) -> torch.Tensor:
    """torch's kernel; it wants heads of a multiple of 8 channels, so zeros stand behind others, which change no score."""
    width = q.shape[-1]
    if width > _WIDEST:
        raise ConfigError(
            f"the model's heads have {width} channels, flash kernels take at most {_WIDEST}",
            hint="set train.attention to sdpa",
        )
    if more := -width % 8:
        q, k, v = (torch.nn.functional.pad(t, (0, more)) for t in (q, k, v))
    kernel, options = _kernel()
    out = kernel(
        q,
        k,
        v,
        varlen_layout.cu_seqlens,
        varlen_layout.cu_seqlens,
        varlen_layout.max_seqlen,
        varlen_layout.max_seqlen,
        scale=width**-0.5 if scaling is None else scaling,
        window_size=(window - 1 if window else -1, 0),
        **({"enable_gqa": True} if shared and "enable_gqa" in options else {}),
    )
    return out[..., :width] if more else out


@functools.cache
def _kernel() -> tuple[Any, frozenset[str]]:
    """torch's varlen_attn and the names of its arguments: before torch 2.12 it shares keys among heads without an argument for it."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


class _Exact(torch.autograd.Function):
    """Passes tensors on; in the backward pass it turns torch's deterministic mode on, or back to what it was.

    Flash kernels add up a query's gradient in no certain order unless that mode is on, and a resumed training would then not end
    with the bits of an undisturbed one. The mode for everything would refuse whole models for some operation far from here.
    """

    _outside: list[int] = []  # noqa: RUF012 -- backward passes of a process run one after another

    @staticmethod
    def forward(ctx: Any, on: bool, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors themselves."""
        ctx.on = on
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients themselves."""
        if ctx.on:
            _Exact._outside.append(torch.get_deterministic_debug_mode())
        torch.set_deterministic_debug_mode("error" if ctx.on else _Exact._outside.pop())
        return None, *gradients


def _exact_before(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Before attention forward is after it backward: there the mode ends."""
    return tensors if tensors[0].device.type == "cpu" else _Exact.apply(False, *tensors)


def _exact_after(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.device.type == "cpu" else _Exact.apply(True, tensor)[0]


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bucket: Bucket,
    scaling: float | None,
    dropout: float,
    shared: bool,
) -> torch.Tensor:
    def rows(t: torch.Tensor) -> torch.Tensor:
        t = t[bucket.begin : bucket.end]
        if bucket.gather is not None:
            t = t.reshape(t.shape[0], -1).index_select(0, bucket.gather).view(-1, *t.shape[1:])
        return t.reshape(bucket.count, bucket.longest, *t.shape[1:]).transpose(1, 2)

    queries, keys, values = rows(q), rows(k), rows(v)
    if (
        shared and q.device.type != "cpu"
    ):  # a GPU's fused kernels for fp32 know no shared heads; the way without them keeps all scores
        keys, values = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (keys, values))
        shared = False
    out = torch.nn.functional.scaled_dot_product_attention(
        queries, keys, values, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=shared
    )
    flat = out.transpose(1, 2).reshape(bucket.count * bucket.longest, *q.shape[1:])
    return flat if bucket.scatter is None else flat.index_select(0, bucket.scatter)


def register() -> None:
    """Makes `attn_implementation="varlen"` known to transformers.

    It is not made known to AttentionMaskInterface: for an attention without masks transformers then looks no further, where it
    would else read the position ids, and the host would wait for the GPU at every forward pass.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, varlen_attention)


def register_strict_sdpa() -> str:
    """Makes torch's attention known under a second name; it raises ConfigError for what it would leave out. The name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def strict(*tensors: Any, softcap: float | None = None, s_aux: Any = None, **options: Any) -> Any:
        if softcap is not None or s_aux is not None:
            raise ConfigError("the model caps its attention's scores, or has sinks", hint="use eager")
        return plain(*tensors, **options)

    AttentionInterface.register("sdpa_strict", strict)
    AttentionMaskInterface.register("sdpa_strict", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return "sdpa_strict"
