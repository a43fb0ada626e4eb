"""The loss of answers over a large vocabulary without ever holding all logits.

With 150,000 words the logits of a micro-batch are gigabytes, several times over in the backward pass. Here the last layer computes
the loss itself, a few hundred positions at a time, and the gradients with it; backward only scales them. The work is the same.
The idea is Liger's fused linear cross-entropy; this is plain torch, so it runs everywhere and under ZeRO 3 (the layer stays a module).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from undo_hpc.training.divergence import Scored, loss_and_gradient

_CHUNK_LOGITS = 2**27  # 512 MiB of fp32; at least
_MEMORY_A_LOGIT = 256  # bytes of a GPU's memory: with 6 bytes a logit, some 2 % of it hold a piece
_WORTH_IT = 2**26  # logits of a micro-batch; below this the plain way is as good


def _chunk_logits(device: torch.device) -> int:
    """Logits of a piece. Larger ones touch the weight's gradient, a gigabyte of fp32, less often."""
    if device.type != "cuda":
        return _CHUNK_LOGITS
    return max(_CHUNK_LOGITS, torch.cuda.get_device_properties(device).total_memory // _MEMORY_A_LOGIT)


class _ChunkedLoss(torch.autograd.Function):
    """Summed cross-entropy of hidden states (positions, width) against a weight (words, width) and targets (positions,);
    where there are scores, their weighted loss."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        chunk: int,
        scored: Scored | None = None,
    ) -> torch.Tensor:
        """Computes the loss, and the gradients while the logits are there."""
        pieces = scored.split(chunk) if scored is not None else itertools.repeat(None)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: torch.Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        for h, target, out, piece in zip(
            hidden.split(chunk), targets.split(chunk), grad_hidden.split(chunk), pieces, strict=False
        ):
            # A step over all logits is a pass through memory, which costs as much as the products: there are two, and no more.
            logits = h @ weight.T
            counted = target != -100
            row, column = torch.arange(len(target), device=target.device), target.clamp(min=0)
            log_probs = logits.log_softmax(1, dtype=exact)
            if piece is not None:
                value, grad_logits = loss_and_gradient(log_probs, target, piece, out=logits)
                total += value
            else:
                target_log_probs = log_probs[row, column]
                total -= torch.where(counted, target_log_probs, 0.0).sum()
                grad_logits = torch.exp(log_probs, out=logits)
                # chance - 1, before it is rounded
                grad_logits[row, column] = target_log_probs.expm1().to(grad_logits.dtype)
            torch.mm(grad_logits, weight, out=out)
            if piece is None:  # scored gradients have their weights already
                out *= counted[:, None]
                h = h * counted[:, None]
            if weight.requires_grad:
                grad_weight = _added(grad_weight, grad_logits.T @ h, exact, last=chunk >= len(hidden))
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype) if grad_weight is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales what forward kept."""
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            grad_hidden * scale[0],
            None if grad_weight is None else grad_weight * scale[0],
            None,
            None,
            None,
        )


def _added(
    so_far: torch.Tensor | None, part: torch.Tensor, exact: torch.dtype, *, last: bool
) -> torch.Tensor:
    """The sum of the pieces' gradients, exact where there are several."""
    if so_far is None:
        return part if last else part.to(exact)
    so_far += part
    return so_far


class AnswerHead(torch.nn.Linear):
    """The last layer, giving the loss of `targets` in place of logits. Set `targets` (and `scored`) before each forward pass."""

    targets: torch.Tensor | None
    scored: Scored | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The summed loss, shape (1, 1, 1); plain logits where no targets are set."""
        if self.targets is None:
            return super().forward(input)
        targets, self.targets = self.targets, None
        scored, self.scored = self.scored, None
        flat = input.flatten(0, -2)
        chunk = max(128, _chunk_logits(flat.device) // self.out_features)
        return _ChunkedLoss.apply(flat, self.weight, targets, chunk, scored).view(1, 1, 1)


def install(model: Any, micro_batch_tokens: int) -> AnswerHead | None:
    """Puts it in where it pays and changes nothing: a plain bias-free last layer whose logits are not touched afterwards."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head, config = base.get_output_embeddings(), base.config.get_text_config()
    touched = any(
        getattr(config, name, None) not in (None, 1.0)
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    )
    if (
        type(head) is not torch.nn.Linear
        or head.bias is not None
        or touched
        or head.out_features * micro_batch_tokens < _WORTH_IT
    ):
        return None
    head.__class__ = AnswerHead
    assert isinstance(head, AnswerHead)
    head.targets = None
    return head
