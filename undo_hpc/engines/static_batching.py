"""Static batching, for any model that transformers can generate with: padded batches through `generate`, with our own draws.

Slower than continuous batching (a batch lasts as long as its longest row), but it leaves cache and attention to the model's own code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from undo_hpc.engines.base import Completion
from undo_hpc.engines.chat import Chat
from undo_hpc.engines.decoding import Work, complete, ending
from undo_hpc.engines.sampling import draw, uniforms
from undo_hpc.records import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StaticBatchDecoder:
    """Runs up to `rows` requests at a time, to the end of all of them or until `should_stop()`."""

    def __init__(
        self, model: PreTrainedModel, chat: Chat, *, rows: int, should_stop: Callable[[], bool]
    ) -> None:
        self._model, self._chat, self._rows, self._should_stop = model, chat, rows, should_stop
        self._works: list[Work] = []
        self._ends: _Ends | None = None

    @property
    def active(self) -> bool:
        """False between calls: a batch runs to its end."""
        return bool(self._works)

    def under_way(self) -> tuple[int, int]:
        """Requests under way, and the tokens that they have so far."""
        return len(self._works), sum(len(ids) for ids, _ in self._ends.rows) if self._ends else 0

    def drop(self) -> list[Work]:
        """Takes back the batch that failed."""
        works, self._works = self._works, []
        return works

    @torch.inference_mode()
    def advance(self, queue: deque[Work]) -> list[Completion]:
        """Runs the next batch."""
        self._works = [queue.popleft() for _ in range(min(self._rows, len(queue)))]
        width = max(len(work.prompt) for work in self._works)
        ids = torch.zeros(len(self._works), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, work in enumerate(self._works):
            ids[row, width - len(work.prompt) :] = torch.tensor(work.prompt)
            mask[row, width - len(work.prompt) :] = 1
        device = self._model.device
        ends = self._ends = _Ends(self._works, self._chat, width, self._should_stop)
        generate: Any = self._model.generate
        settings = GenerationConfig(  # ours alone: a model's own may bring a repetition penalty
            do_sample=False,
            num_beams=1,
            use_cache=True,
            max_new_tokens=max(work.max_new_tokens for work in self._works),
            pad_token_id=0,
            eos_token_id=None,
        )
        generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Draws(self._works, width, device)]),
            stopping_criteria=StoppingCriteriaList([ends]),
        )
        done = [
            complete(work.request, len(work.prompt), written, reason, self._chat)
            for work, (written, reason) in zip(self._works, ends.rows, strict=True)
            if reason is not None
        ]
        self._works = []
        return done


class _Draws(LogitsProcessor):
    """Leaves only the token that was drawn, so that `generate`'s greedy choice takes it."""

    def __init__(self, works: list[Work], width: int, device: torch.device) -> None:
        requests = [work.request for work in works]
        self._width, self._greedy = width, all(request.temperature <= 0 for request in requests)
        self._uniforms = torch.nn.utils.rnn.pad_sequence(
            [uniforms(w.request.seed, w.max_new_tokens) for w in works], batch_first=True
        ).to(device)
        self._temperature = torch.tensor([r.temperature for r in requests]).to(device)
        self._top_p = torch.tensor([r.top_p for r in requests]).to(device)
        self._top_k = torch.tensor([r.top_k for r in requests]).to(device)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        uniform = self._uniforms[:, input_ids.shape[1] - self._width]
        tokens = draw(scores, uniform, self._temperature, self._top_p, self._top_k, greedy=self._greedy)
        return torch.full_like(scores, float("-inf")).scatter(1, tokens[:, None], 0.0)


class _Ends(StoppingCriteria):
    """Ends each row for itself, and all of them when the caller wants to stop."""

    def __init__(self, works: list[Work], chat: Chat, width: int, should_stop: Callable[[], bool]) -> None:
        self._works, self._chat, self._width, self._should_stop = works, chat, width, should_stop
        self.rows: list[tuple[list[int], FinishReason | None]] = [([], None) for _ in works]

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        for row, (work, token) in enumerate(zip(self._works, input_ids[:, -1].tolist(), strict=True)):
            written, reason = self.rows[row]
            if reason is None:
                written.append(token)
                self.rows[row] = (written, ending(work, written, self._chat))
        stop = self._should_stop()
        return torch.tensor([stop or reason is not None for _, reason in self.rows]).to(input_ids.device)
