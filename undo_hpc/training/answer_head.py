"""The loss of answers over a large vocabulary without ever holding all logits.

With 150,000 words the logits of a micro-batch are gigabytes, several times over in the backward pass. Here the last layer computes
the loss itself, a few hundred positions at a time, and the gradients with it; backward only scales them. The work is the same.
The idea is Liger's fused linear cross-entropy; this is plain torch, so it runs everywhere and under ZeRO 3 (the layer stays a module).
"""

from __future__ import annotations

from typing import Any

import torch

_LOGITS_AT_ONCE = 2**27  # 512 MiB of fp32; at least
_MEMORY_A_LOGIT = 256  # bytes of a GPU's memory: with 6 bytes a logit, some 2 % of it hold a piece
_WORTH_IT = 2**26  # logits of a micro-batch; below this the plain way is as good


def _at_once(device: torch.device) -> int:
    """Logits of a piece. Larger ones touch the weight's gradient, a gigabyte of fp32, less often."""
    if device.type != "cuda":
        return _LOGITS_AT_ONCE
    return max(_LOGITS_AT_ONCE, torch.cuda.get_device_properties(device).total_memory // _MEMORY_A_LOGIT)


class _ChunkedLoss(torch.autograd.Function):
    """Summed cross-entropy of hidden states (positions, width) against a weight (words, width) and targets (positions,)."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, at_once: int) -> torch.Tensor:
        """Computes the loss, and the gradients while the logits are there."""
        of_hidden = torch.empty_like(hidden)
        of_weight: torch.Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        for h, goal, out in zip(hidden.split(at_once), targets.split(at_once), of_hidden.split(at_once), strict=True):
            # A step over all logits is a pass through memory, which costs as much as the products: there are two, and no more.
            logits = h @ weight.T
            real = goal != -100
            row, column = torch.arange(len(goal), device=goal.device), goal.clamp(min=0)
            chances = logits.log_softmax(1, dtype=exact)
            right = chances[row, column]
            total -= torch.where(real, right, 0.0).sum()
            slope = torch.exp(chances, out=logits)
            slope[row, column] = right.expm1().to(slope.dtype)  # chance - 1, before it is rounded
            torch.mm(slope, weight, out=out)
            out *= real[:, None]
            if weight.requires_grad:
                part = slope.T @ (h * real[:, None])
                if at_once >= len(hidden):
                    of_weight = part
                elif of_weight is None:
                    of_weight = part.to(exact)
                else:
                    of_weight += part
        ctx.save_for_backward(of_hidden, of_weight.to(weight.dtype) if of_weight is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, *scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales what forward kept."""
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * scale[0], None if of_weight is None else of_weight * scale[0], None, None


class AnswerHead(torch.nn.Linear):
    """The last layer, giving the loss of `targets` in place of logits. Set `targets` before each forward pass."""

    targets: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The summed loss, shape (1, 1, 1); plain logits where no targets are set."""
        if self.targets is None:
            return super().forward(input)
        targets, self.targets = self.targets, None
        flat = input.flatten(0, -2)
        return _ChunkedLoss.apply(flat, self.weight, targets, max(128, _at_once(flat.device) // self.out_features)).view(1, 1, 1)


def install(model: Any, micro_batch_tokens: int) -> AnswerHead | None:
    """Puts it in where it pays and changes nothing: a plain bias-free last layer whose logits are not touched afterwards."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head, config = base.get_output_embeddings(), base.config
    touched = any(getattr(config, name, None) not in (None, 1.0) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))
    if type(head) is not torch.nn.Linear or head.bias is not None or touched or head.out_features * micro_batch_tokens < _WORTH_IT:
        return None
    head.__class__ = AnswerHead
    assert isinstance(head, AnswerHead)
    head.targets = None
    return head
