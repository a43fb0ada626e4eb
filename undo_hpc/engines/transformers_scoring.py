"""Scoring with transformers: one forward pass over prompt and answer, in lanes of fixed rows and length.

A text's bits then depend on its own length alone: not on its neighbours, their number or its place (dummies fill the lane; padding
stands behind a text, where causality hides it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from undo_hpc.engines.base import never
from undo_hpc.engines.chat import Chat
from undo_hpc.engines.continuous_batching import rounded
from undo_hpc.engines.scoring import ScoreRequest, TokenScores, compressed, not_scored, too_long_to_score
from undo_hpc.errors import EngineError

_LANE_LOGITS = 2**29  # all logits of a lane are in memory at once
_LANE_ON_CPU = 1024  # tokens; more are no faster there, and a text alone in its length pays for a whole lane
Text = tuple[ScoreRequest, list[int]]  # with the prompt's ids


@torch.inference_mode()
def score_in_lanes(
    model: Any,
    chat: Chat,
    requests: Sequence[ScoreRequest],
    k: int,
    *,
    words: int,
    lane_tokens: int,
    most_rows: int,
    context: int,
    should_stop: Callable[[], bool] = never,
) -> Iterator[TokenScores]:
    """See `Scorer.score`. Longest texts first, so that a lack of memory shows at once; then lanes are halved.

    Args:
        lane_tokens, most_rows: largest lane, in tokens and rows.
        context: most tokens of a text.
    """
    lanes: dict[int, list[Text]] = {}
    for request in requests:
        prompt = chat.encode(request.prompt)
        total = len(prompt) + len(request.answer)
        if total > context:
            yield not_scored(
                request, too_long_to_score(len(prompt), len(request.answer), context), len(prompt)
            )
            continue
        lanes.setdefault(rounded(total, 4, least=32), []).append((request, prompt))
    if model.device.type == "cpu":
        lane_tokens = min(lane_tokens, _LANE_ON_CPU)
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    for length in sorted(lanes, reverse=True):
        waiting = lanes[length]
        while waiting:
            if should_stop():
                return
            rows = max(1, min(most_rows, lane_tokens // length, _LANE_LOGITS // (length * vocabulary)))
            try:
                found = _lane(model, chat, waiting[:rows], rows, length, min(k, vocabulary), words)
            except torch.OutOfMemoryError as error:
                if rows == 1:
                    raise EngineError(
                        f"out of memory with one text of {length} tokens: {error}",
                        hint="score with vLLM, or on a larger GPU",
                    ) from error
                most_rows = rows // 2
                torch.cuda.empty_cache()
                continue
            waiting = waiting[rows:]
            yield from found


def _lane(
    model: Any, chat: Chat, texts: list[Text], rows: int, length: int, k: int, words: int
) -> list[TokenScores]:
    ids = torch.zeros(rows, length, dtype=torch.long)
    for row, (request, prompt) in enumerate(texts):
        ids[row, : len(prompt) + len(request.answer)] = torch.tensor([*prompt, *request.answer])
    logits = model(input_ids=ids.to(model.device), use_cache=False).logits
    asked, prompts = [request for request, _ in texts], [len(prompt) for _, prompt in texts]
    counts = [scored_tokens(request, chat) for request in asked]
    parts = [
        logits[row, at - 1 : at - 1 + n] for row, (at, n) in enumerate(zip(prompts, counts, strict=True))
    ]
    log_p = torch.cat(parts).float().log_softmax(-1)
    realised = [token for r, n in zip(asked, counts, strict=True) for token in r.answer[:n]]
    own = log_p.gather(1, torch.tensor(realised, dtype=torch.long, device=log_p.device)[:, None])[:, 0]
    top = log_p.topk(k, 1)
    arrays = (np.asarray(t.cpu()) for t in (own, top.indices.int(), top.values))
    return compressed(asked, prompts, counts, *arrays, words=words)


def scored_tokens(request: ScoreRequest, chat: Chat) -> int:
    """Tokens of an answer that the teacher can score: not a special last one with which it never ends."""
    last = request.answer[-1]
    foreign = last in chat.tokenizer.added_tokens_decoder and last not in chat.stop_ids
    return len(request.answer) - foreign
