"""Scoring with vLLM: the log-probabilities of a prompt that ends with the answer. One token more is sampled, for vLLM asks for one.

They are raw: neither temperature nor top-p touches them. vLLM does not read its prefix cache for such requests; rows of a cached prefix
would be memory that nobody has written (vLLM #42019), so that is asserted. Flat, without text, they cost a quarter of the default form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from undo_hpc.engines.chat import Chat
from undo_hpc.engines.scoring import ScoreRequest, TokenScores, compressed, not_scored, too_long_to_score
from undo_hpc.engines.transformers_scoring import scored_tokens
from undo_hpc.errors import EngineError


def add_score_request(
    engine: Any, chat: Chat, request: ScoreRequest, k: int, context: int
) -> TokenScores | None:
    """Hands a text over; the result where vLLM cannot take it."""
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind

    prompt = chat.encode(request.prompt)
    if len(prompt) + len(request.answer) + 1 > context:
        return not_scored(request, too_long_to_score(len(prompt), len(request.answer), context), len(prompt))
    try:
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=k,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(request.id, tokens_input(prompt_token_ids=[*prompt, *request.answer]), params)
    except (ValueError, TypeError) as error:
        return not_scored(request, f"vLLM refused the text: {error}", len(prompt))
    return None


def scores_of(request: ScoreRequest, output: Any, k: int, chat: Chat, words: int) -> TokenScores:
    """The scores in vLLM's output: of each position first the realised token, then the k likeliest.

    Raises:
        EngineError: positions are missing, or come from the prefix cache.
    """
    flat, total = output.prompt_logprobs, len(output.prompt_token_ids)
    prompt, n = total - len(request.answer), scored_tokens(request, chat)
    if output.num_cached_tokens or flat is None or len(flat) != total:
        raise EngineError(
            f"text {request.id}: vLLM gives {0 if flat is None else len(flat)} of {total} positions, "
            f"{output.num_cached_tokens or 0} of them from its prefix cache",
            hint="set engine.vllm.enable_prefix_caching to false, or take the vLLM version that is pinned",
        )
    starts = np.asarray(flat.start_indices[prompt : prompt + n])
    if (np.asarray(flat.end_indices[prompt : prompt + n]) - starts != k + 1).any():
        raise EngineError(f"text {request.id}: vLLM gives another number of tokens a position than {k + 1}")
    where = starts[:, None] + np.arange(k + 1)
    ids, log_p = np.asarray(flat.token_ids)[where], np.asarray(flat.logprobs, dtype=np.float32)[where]
    if (ids[:, 0] != np.asarray(request.answer[:n])).any():
        raise EngineError(f"text {request.id}: vLLM's first entry of a position is not its token")
    return compressed([request], [prompt], [n], log_p[:, 0], ids[:, 1:], log_p[:, 1:], words=words)[0]
