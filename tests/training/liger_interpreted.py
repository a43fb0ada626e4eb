"""Liger's kernels without a GPU: run by Triton's interpreter on a packed row, beside plain ones. Prints one JSON line.

Started by test_gpu_path.py in a process of its own, since Triton decides at its import whether it interprets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch


def mend_interpreter() -> None:
    """Two things that Triton's compiler does for these kernels and its interpreter does not: scalars are tensors, rsqrt is there."""
    import liger_kernel.ops.rms_norm
    import triton.language as tl
    from triton.runtime import interpreter

    plain = interpreter._implicit_cvt

    def convert(value: Any) -> Any:
        if isinstance(value, float):
            return tl.core.tensor(
                interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32), tl.float32
            )
        return plain(value)

    interpreter._implicit_cvt = convert
    liger_kernel.ops.rms_norm.rsqrt = lambda x: tl.rsqrt(x)


def main(place: Path) -> None:
    """Loss and gradients with plain kernels and with Liger's, put on by the same function as in a training."""
    from tests.training.test_gpu_path import packed_row
    from undo_hpc.training import attention, kernels
    from undo_hpc.training.loop import answer_loss

    mend_interpreter()
    attention.register()
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place, attn_implementation="varlen")
    batch = packed_row("varlen", torch.device("cpu"))

    def loss_and_gradients() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = answer_loss(model, batch)
        return loss.detach(), torch.autograd.grad(loss, list(model.parameters()))

    plain_loss, plain = loss_and_gradients()
    there = torch.cuda.is_available
    torch.cuda.is_available = lambda: True  # type: ignore[assignment]  # the interpreter needs none
    with_liger = kernels.use_liger(model)
    torch.cuda.is_available = there  # type: ignore[assignment]
    loss, gradients = loss_and_gradients()
    print(
        json.dumps(
            {
                "used": with_liger,
                "norm": model.model.norm.forward.__qualname__,
                "mlp": model.model.layers[0].mlp.forward.__qualname__,
                "loss": [float(plain_loss), float(loss)],
                "apart": max(float((a - b).abs().max()) for a, b in zip(plain, gradients, strict=True)),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
