"""Engines that score: equal to a plain forward pass, the same bits whatever stands beside a text, and nothing kept that is no log-probability."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import load_engine
from undo_hpc.engines.scoring import Scorer, ScoreRequest, TokenScores, compressed, match_tokenizers
from undo_hpc.engines.transformers_scoring import scored_tokens
from undo_hpc.engines.vllm_scoring import scores_of
from undo_hpc.errors import ConfigError, DataError, EngineError

TEACHER = ModelConfig(model="tiny:teacher", dtype="float32")
K = 16


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    torch.set_num_threads(1)
    engine = load_engine(EngineConfig(), TEACHER)
    yield engine
    engine.close()


def make_requests(engine: Any, count: int = 24) -> list[ScoreRequest]:
    """Answers of very different lengths, some of them cut before their end."""
    rng, tokenizer, end = random.Random(1), engine._chat.tokenizer, sorted(engine._chat.stop_ids)[0]
    found = []
    for number in range(count):
        a, b = rng.randint(10, 90), rng.randint(2, 9)
        text = " ".join(f"{a}+{b}={a + b}." for _ in range(rng.randint(1, 30)))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [*ids, end] if number % 3 else ids[: max(1, len(ids) // 2)]
        found.append(
            ScoreRequest(
                f"r{number}", f"Ann has {a} cakes. Ann buys {b} more. How many cakes now?", tuple(ids)
            )
        )
    return found


def bits(scores: Any) -> tuple[bytes, ...]:
    return tuple(getattr(scores, name).tobytes() for name in ("ids", "log_p", "own", "tail"))


def reference(engine: Any, request: ScoreRequest) -> torch.Tensor:
    """All log-probabilities at the answer's tokens, of this text alone."""
    prompt = engine._chat.encode(request.prompt)
    with torch.inference_mode():
        logits = engine._model(input_ids=torch.tensor([[*prompt, *request.answer]])).logits[0]
    return logits[len(prompt) - 1 : -1].double().log_softmax(-1)


def test_equal_to_a_plain_forward_pass(engine: Any) -> None:
    requests = make_requests(engine)
    found = {scores.id: scores for scores in engine.score(requests, K)}
    assert isinstance(engine, Scorer) and len(found) == len(requests)
    for request in requests:
        scores, log_p = found[request.id], reference(engine, request)
        assert scores.ids.shape == (len(request.answer), K) and scores.log_p.dtype == np.float16
        own = log_p[torch.arange(len(log_p)), torch.tensor(request.answer)].numpy()
        np.testing.assert_allclose(scores.own, own, rtol=2e-3, atol=1e-4)
        top = log_p.topk(K).values.numpy()
        np.testing.assert_allclose(scores.log_p, top, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(
            scores.log_p, np.take_along_axis(log_p.numpy(), scores.ids, 1), rtol=2e-3, atol=1e-4
        )
        outside = log_p.clone()
        outside.scatter_(1, torch.from_numpy(scores.ids).long(), -torch.inf)
        outside[torch.arange(len(log_p)), torch.tensor(request.answer)] = -torch.inf
        np.testing.assert_allclose(
            np.exp(scores.tail.astype(float)), outside.exp().sum(1), rtol=1e-2, atol=1e-6
        )


def test_neighbours_and_their_number_change_no_bit(engine: Any) -> None:
    requests = make_requests(engine)
    wanted = {scores.id: bits(scores) for scores in engine.score(requests, K)}
    others = requests[:]
    random.Random(2).shuffle(others)
    for part in (others, requests[5:9], requests[:1]):
        for scores in engine.score(part, K):
            assert bits(scores) == wanted[scores.id], scores.id


def test_a_text_beyond_the_context_is_a_failure_of_its_own(engine: Any) -> None:
    long = ScoreRequest("long", "2+2?", (5,) * engine._context)
    short = make_requests(engine, 1)[0]
    found = {scores.id: scores for scores in engine.score([long, short], K)}
    assert f"context is {engine._context}" in found["long"].error and not found[short.id].error


def test_an_end_token_that_the_teacher_never_ends_with_is_not_scored(engine: Any) -> None:
    chat = copy.copy(engine._chat)
    request = make_requests(engine, 2)[1]
    assert scored_tokens(request, chat) == len(request.answer)
    chat.stop_ids = frozenset()
    assert scored_tokens(request, chat) == len(request.answer) - 1
    cut = ScoreRequest("cut", "?", request.answer[:-1])
    assert scored_tokens(cut, chat) == len(cut.answer)  # truncated: its last token is one like others


def values(n: int = 3, k: int = 4) -> tuple[Any, Any, Any]:
    log_p = np.log(np.tile(np.array([0.5, 0.2, 0.1, 0.05], np.float32), (n, 1)))
    return log_p[:, 1].copy(), np.tile(np.arange(k), (n, 1)), log_p


def final(answer: tuple[int, ...], *arrays: Any, words: int = 0) -> TokenScores:
    return compressed([ScoreRequest("a", "?", answer)], [9], [len(arrays[0])], *arrays, words=words)[0]


@pytest.mark.parametrize("wrong", [np.nan, 0.5])
@pytest.mark.parametrize("which", [0, 2])
def test_what_is_no_log_probability_is_refused(wrong: float, which: int) -> None:
    arrays = values()
    arrays[which][1] = wrong
    with pytest.raises(EngineError, match="no log-probabilities"):
        final((1, 1, 1), *arrays)
    arrays = values()
    arrays[2][0] = np.log(0.9)  # more than one in sum, as memory that nobody has written may be
    with pytest.raises(EngineError, match="more than one"):
        final((1, 1, 1), *arrays)


def test_the_text_of_a_bad_value_is_named() -> None:
    """Of several in one lane; one of them has no token that is scored."""
    own, ids, log_p = (np.concatenate([a] * 2) for a in values())
    requests = [ScoreRequest(name, "?", (1,) * n) for name, n in (("a", 2), ("none", 1), ("b", 3), ("c", 1))]
    found = compressed(requests, [7, 8, 9, 10], [2, 0, 3, 1], own, ids, log_p)
    assert [(s.id, len(s.own), s.prompt_tokens) for s in found] == [
        ("a", 2, 7),
        ("none", 0, 8),
        ("b", 3, 9),
        ("c", 1, 10),
    ]
    own[4] = np.nan
    with pytest.raises(EngineError, match="text b: "):
        compressed(requests, [7, 8, 9, 10], [2, 0, 3, 1], own, ids, log_p)


def test_no_value_is_lost_to_infinity_or_rounding() -> None:
    own, ids, log_p = values()
    own[0], log_p[0, 3] = -np.inf, -9999.0
    log_p[1, 0] = 1e-6 + np.log(0.5)
    found = final((9, 1, 1), own, ids, log_p)
    assert np.isfinite(found.own).all() and np.isfinite(found.log_p).all() and (found.tail <= 0).all()
    own, ids, log_p = values()
    own, log_p[:] = np.zeros(3, np.float32), np.array([0.0, -20, -20, -20])
    assert (final((0, 0, 0), own, ids, log_p).tail == -16).all()  # never more than all the mass


def test_equal_values_stand_in_the_order_of_their_ids() -> None:
    own, _, log_p = values(1)
    log_p[0] = np.log(0.2)
    one = final((9,), own, np.array([[7, 3, 9, 1]]), log_p)
    other = final((9,), own, np.array([[9, 1, 7, 3]]), log_p)
    assert one.ids.tolist() == other.ids.tolist() == [[1, 3, 7, 9]]


def test_padded_ids_of_the_model_count_as_the_rest() -> None:
    own, _, log_p = values(1)
    found = final((1,), own, np.array([[0, 1, 60, 2]]), log_p, words=50)
    assert found.ids.max() < 50 and len(set(found.ids[0].tolist())) == 4
    np.testing.assert_allclose(np.exp(float(found.tail[0])), 1 - 0.5 - 0.2 - 0.05, rtol=1e-2)


def test_tokenizers_are_compared_token_by_token(engine: Any) -> None:
    own = engine._chat.tokenizer
    words = len(own)
    assert match_tokenizers(own, own, ["17+7=24. \\boxed{24}"]) == words

    class Other:
        def __init__(self, vocab: dict[str, int]) -> None:
            self._vocab, self.added_tokens_decoder = vocab, own.added_tokens_decoder

        def get_vocab(self) -> dict[str, int]:
            return self._vocab

    vocab = own.get_vocab()
    plain = [
        token
        for token, i in sorted(vocab.items(), key=lambda item: item[1])
        if i not in own.added_tokens_decoder
    ]
    swapped = vocab | {plain[3]: vocab[plain[9]], plain[9]: vocab[plain[3]]}
    with pytest.raises(DataError) as caught:  # the same size says nothing
        match_tokenizers(Other(swapped), own)
    assert f"id {min(vocab[plain[3]], vocab[plain[9]])} is {plain[3]!r}" in str(caught.value)
    assert (
        match_tokenizers(Other(vocab | {"<pad512>": words + 20}), own) == words
    )  # one token more, or padding, is no other tokenizer
    with pytest.raises(DataError, match="no token"):
        match_tokenizers(Other({token: i for token, i in vocab.items() if token != plain[-1]}), own)
    special = next(token for token, i in vocab.items() if i in own.added_tokens_decoder)
    assert (
        match_tokenizers(Other(vocab | {special: words + 3}), own) == words
    )  # a special token that no text holds may differ


def test_a_limit_below_k_is_refused_before_weights_are_loaded() -> None:
    pytest.importorskip("vllm")
    from undo_hpc.engines.vllm_settings import llm_arguments

    config = EngineConfig.model_validate({"name": "vllm", "vllm": {"extra": {"max_logprobs": 8}}})
    with pytest.raises(ConfigError, match=r"distill\.k is 16"):
        llm_arguments(config.vllm, TEACHER, "tiny", score_k=16)


@dataclass
class _Flat:
    """vLLM's flat log-probabilities: of each position its token first, then the likeliest."""

    start_indices: list[int]
    end_indices: list[int]
    token_ids: list[int]
    logprobs: list[float]

    def __len__(self) -> int:
        return len(self.start_indices)


def vllm_output(
    answer: tuple[int, ...], *, positions: int | None = None, cached: int = 0, first: int = 0
) -> Any:
    """Three tokens of a prompt and an answer, two tokens listed at each position behind the first."""
    ids = [7, 8, 9, *answer]
    n = len(ids) if positions is None else positions
    at = [0, *range(0, 3 * (n - 1), 3)]
    rows = [(token + first, 11, 12) for token in ids[1:n]]
    flat = _Flat(
        at, [0, *(a + 3 for a in at[1:])], [i for row in rows for i in row], [-2.0, -0.5, -1.5] * len(rows)
    )
    return SimpleNamespace(prompt_logprobs=flat, prompt_token_ids=ids, num_cached_tokens=cached)


def test_vllms_answer_is_read_by_position_and_not_believed_where_it_is_not_real(engine: Any) -> None:
    """Rows of a cached prefix are memory that nobody has written (vLLM #42019)."""
    request = ScoreRequest("a", "?", (21, 22))
    found = scores_of(request, vllm_output(request.answer), 2, engine._chat, 0)
    assert (
        found.ids.tolist() == [[11, 12]] * 2
        and found.own.tolist() == [-2.0, -2.0]
        and found.prompt_tokens == 3
    )
    for output, words in (
        (vllm_output(request.answer, cached=3), "3 of them from its prefix cache"),
        (vllm_output(request.answer, positions=4), "4 of 5 positions"),
        (vllm_output(request.answer, first=1), "first entry of a position is not its token"),
    ):
        with pytest.raises(EngineError, match=words):
            scores_of(request, output, 2, engine._chat, 0)
    with pytest.raises(EngineError, match="another number of tokens a position than 5"):
        scores_of(request, vllm_output(request.answer), 4, engine._chat, 0)


@pytest.mark.vllm
def test_vllm_gives_the_same(engine: Any) -> None:
    """Within rounding; a prompt that is asked twice is not read from the prefix cache."""
    pytest.importorskip("vllm")
    requests = make_requests(engine)
    requests.append(ScoreRequest("again", requests[0].prompt, requests[0].answer))
    wanted = {scores.id: scores for scores in engine.score(requests, K)}
    other = load_engine(
        EngineConfig(name="vllm"), TEACHER, prompts=[r.prompt for r in requests], max_tokens=500, score_k=K
    )
    try:
        found = {scores.id: scores for scores in other.score(requests, K)}  # type: ignore[attr-defined]
        again = {scores.id: bits(scores) for scores in other.score(requests[::-1], K)}  # type: ignore[attr-defined]
    finally:
        other.close()
    assert found.keys() == wanted.keys()
    for name, scores in found.items():
        np.testing.assert_allclose(scores.own, wanted[name].own, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(scores.log_p, wanted[name].log_p, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(scores.tail, wanted[name].tail, atol=0.5)
        assert bits(scores) == again[name], "another order of requests"
