"""Faster kernels for what lies between the matrix products, which on a GPU is a third of a step with transformers' own code."""

from __future__ import annotations

import importlib.util
import logging
import types
from typing import Any

import torch
import torch.nn.functional as F

from undo_hpc.config.train import TrainConfig

log = logging.getLogger(__name__)


def faster(model: Any, config: TrainConfig) -> None:
    """Liger's kernels where asked for and at hand; else torch's fused norm in place of transformers' seven passes through memory."""
    if config.liger and use_liger(model):
        return
    if torch.cuda.is_available() and (count := fuse_norms(model)):
        log.info(f"norms: torch's fused kernel in {count} places")


def use_liger(model: Any) -> bool:
    """Puts Liger's kernels on; whether it could. The log says why where not."""
    if importlib.util.find_spec("liger_kernel") is None:
        log.info("liger: asked for, not installed (pip install liger-kernel); plain kernels are in use")
        return False
    if not torch.cuda.is_available():
        log.info("liger: installed, but its kernels need a GPU; plain kernels are in use")
        return False
    try:
        from liger_kernel.transformers.monkey_patch import (
            MODEL_TYPE_TO_APPLY_LIGER_FN,
            _apply_liger_kernel_to_instance,
        )
    except (ImportError, RuntimeError) as error:  # without triton, or for another transformers
        log.info(
            f"liger: installed, but cannot be loaded ({str(error).splitlines()[0]}); plain kernels are in use"
        )
        return False
    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:  # Liger itself would skip it silently
        log.info(
            f"liger: it has no kernels for models of type {model.config.model_type}; plain kernels are in use"
        )
        return False
    # The loss is ours (answers only, summed), so Liger's fused loss would change nothing but the interface.
    _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)
    log.info("liger: kernels for norm, rotary positions and MLP are in use")
    return True


def fuse_norms(model: Any) -> int:
    """Gives RMS norms torch's own forward pass, where a probe shows that it computes the same; the number of them.

    The kernel rounds once where transformers rounds twice, so in bf16 the last bit can differ.
    """
    count, same = 0, dict[type, bool]()
    for module in model.modules():
        kind = type(module)
        if not (
            kind.__name__.endswith("RMSNorm")
            and hasattr(module, "weight")
            and hasattr(module, "variance_epsilon")
        ):
            continue
        if kind not in same:
            same[kind] = _computes_rms_norm(kind)
        if same[kind]:
            module.forward = types.MethodType(_rms_norm, module)
            count += 1
    return count


def _rms_norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def _computes_rms_norm(kind: type) -> bool:
    """Whether such a layer, made from scratch, computes what torch's function does. (Gemma's adds one to its weights, for example.)"""
    try:
        probe = kind(16, eps=1e-3)
    except TypeError:
        return False
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, generator=draw)
    with torch.no_grad():
        probe.weight.copy_(torch.randn(16, generator=draw))
        return bool(torch.allclose(probe(x), _rms_norm(probe, x), rtol=1e-5, atol=1e-6))
