"""The rival of all benchmarks of generation: transformers' `generate` over left-padded batches in file order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from undo_hpc.engines import Request


class _Lengths(StoppingCriteria):
    """Ends each row at its own length: the work of an engine that does so, too."""

    def __init__(self, limits: torch.Tensor) -> None:
        self._limits, self._step = limits, 0

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._step += 1
        return self._step >= self._limits


class PaddedGenerate:
    """A loaded model.

    Args:
        batch: rows at once.
        dtype: torch's name of the weights' type.
    """

    def __init__(self, model: Path, batch: int, dtype: str = "float32", device: Any = "cpu") -> None:
        self._batch, self._device = batch, device
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        net: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self._model = net.to(device).eval()
        self._model.generation_config.eos_token_id = None

    def __call__(self, requests: Sequence[Request]) -> None:
        """Answers all, each as long as it may be."""
        for start in range(0, len(requests), self._batch):
            part = requests[start : start + self._batch]
            inputs = self._tokenizer.apply_chat_template(
                [[{"role": "user", "content": r.prompt}] for r in part],
                add_generation_prompt=True,
                padding=True,
                return_tensors="pt",
                return_dict=True,
            )
            limits = torch.tensor([r.max_tokens for r in part], device=self._device)
            self._model.generate(
                **inputs.to(self._device),
                do_sample=True,
                top_k=0,
                max_new_tokens=int(limits.max()),
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([_Lengths(limits)]),
            )
