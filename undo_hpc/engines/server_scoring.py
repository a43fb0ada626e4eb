"""Scoring by a vLLM or SGLang server of one's own. (Hosted APIs give no log-probabilities of a prompt.)

vLLM: POST /v1/completions with token ids and `prompt_logprobs`; it clamps -inf to -9999. SGLang: POST /generate with `input_ids`,
`logprob_start_len` and `top_logprobs_num`; the entry at the start position has no value, so it is asked for one position earlier.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from threading import Thread
from typing import Any

import httpx
import numpy as np

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.api_key import find_key
from undo_hpc.engines.base import Completion, Failures, Request, never
from undo_hpc.engines.chat import Chat
from undo_hpc.engines.http_answer import HEADERS, read_answer
from undo_hpc.engines.openai_reply import short
from undo_hpc.engines.scoring import ScoreRequest, TokenScores, compressed, not_scored
from undo_hpc.engines.transformers_scoring import scored_tokens
from undo_hpc.errors import ConfigError, EngineError
from undo_hpc.system.credentials import without

_POLL_S = 0.2
_MAX_WAIT_S = 30.0
_SHOWN = 10_000  # bytes of an answer that an error is looked for in
_MOST_BYTES = 1 << 30  # of an answer: k log-probabilities for each of its tokens, as text


class ServerScorer:
    """Texts go out as token ids in the teacher's own template, `openai.concurrency` at once.

    Args:
        kind: vllm or sglang.

    Raises:
        DataError: the teacher's tokenizer cannot be loaded here.
    """

    def __init__(self, config: EngineConfig, model: ModelConfig, kind: str) -> None:
        self._config, self._kind, self._chat = config.openai, kind, Chat(model)
        self._url = self._config.base_url.rstrip("/")
        self._key = key = find_key(
            self._config.api_key_file, self._config.api_key_env, required=self._config.require_key
        )
        self._http = httpx.AsyncClient(
            timeout=self._config.timeout_s,
            limits=httpx.Limits(max_connections=None),
            headers=HEADERS | ({"Authorization": f"Bearer {key}"} if key else {}),
        )
        self._loop = asyncio.new_event_loop()  # the threads that wait for answers share it
        Thread(target=self._loop.run_forever, daemon=True, name="scoring").start()
        self._model = self._config.served_model or model.model

    def describe(self) -> dict[str, Any]:
        """What the scores depend on, as far as a client can know."""
        return {"engine": "openai", "server_kind": self._kind, "server": self._url, "served_model": self._model,
                **self._chat.describe()}  # fmt: skip

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """Not what this client is for."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connections. May be called again."""
        if not self._http.is_closed:
            asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)

    def score(
        self,
        requests: Sequence[ScoreRequest],
        k: int,
        *,
        words: int = 0,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[TokenScores]:
        """See `Scorer.score`."""
        failures: Failures[TokenScores] = Failures(f"{self._kind} server")
        waiting, under_way = iter(requests), set[Future[TokenScores]]()
        with ThreadPoolExecutor(self._config.concurrency) as threads:
            while not should_stop():
                for request in waiting:
                    under_way.add(threads.submit(self._score, request, k, words, should_stop))
                    if len(under_way) >= self._config.concurrency:
                        break
                if not under_way:
                    yield from failures.release()
                    return
                done, under_way = wait(under_way, _POLL_S, FIRST_COMPLETED)
                for result in (future.result() for future in done):
                    if result.error:
                        failures.hold(result)
                    elif len(result.own):
                        yield from failures.release()
                        yield result
            for future in under_way:
                future.cancel()

    def _score(
        self, request: ScoreRequest, k: int, words: int, should_stop: Callable[[], bool]
    ) -> TokenScores:
        prompt = self._chat.encode(request.prompt)
        n = scored_tokens(request, self._chat)
        ask, read = (_ask_vllm, _read_vllm) if self._kind == "vllm" else (_ask_sglang, _read_sglang)
        path, body = ask(self._url, self._model, [*prompt, *request.answer], len(prompt), k)
        data = self._post(path, body, should_stop)
        if isinstance(data, str):
            return not_scored(request, data, len(prompt))
        try:
            own, ids, log_p = read(data, len(prompt), n, k, request.answer)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise EngineError(
                f"{path}: the answer has no log-probabilities of the prompt, or other ones than asked for ({type(error).__name__}: {self._shown(error)})",
                hint=f"is it a {self._kind} server (distill.server), started with --max-logprobs {k} or more where it is vLLM?",
            ) from error
        return compressed([request], [len(prompt)], [n], own, ids, log_p, words=words)[0]

    def _post(self, path: str, body: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any] | str:
        """The server's answer, or why there is none."""
        for attempt in range(self._config.max_retries):
            if should_stop():
                return "asked to stop"
            try:
                status, said = self._answer(path, body)
                message = f"{path}: {status} {self._shown(said[:_SHOWN].decode(errors='replace'))}"
                if status == 200:
                    found: dict[str, Any] = json.loads(said)
                    return found
            except httpx.HTTPError as error:
                message = f"{path}: {type(error).__name__}: {self._shown(error)}"
            except (ValueError, RecursionError) as error:
                message += f": no JSON ({type(error).__name__})"
            else:
                if status in (401, 403, 404):
                    raise ConfigError(message, hint="check engine.openai: base_url, served_model, key")
                if status < 500 and status != 429:
                    return message
            time.sleep(min(_MAX_WAIT_S, 0.5 * 2**attempt) if attempt + 1 < self._config.max_retries else 0)
        return message

    def _shown(self, words: object) -> str:
        """What the server said, or an error that quotes it, in one line without the key, which it may repeat."""
        return short(without([self._key] if self._key else [], str(words)))

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body. Raises httpx.HTTPError."""
        asked = self._http.stream("POST", path, json=body)
        reading = read_answer(asked, patience_s=self._config.timeout_s, most=_MOST_BYTES)
        response, said = asyncio.run_coroutine_threadsafe(reading, self._loop).result()
        return response.status_code, said


Values = tuple[Any, Any, Any]  # own (n,), ids (n, k), log-probabilities (n, k)


def _ask_vllm(url: str, model: str, ids: list[int], prompt: int, k: int) -> tuple[str, dict[str, Any]]:
    return f"{url}/completions", {
        "model": model,
        "prompt": ids,
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": k,
    }


def _read_vllm(data: dict[str, Any], prompt: int, n: int, k: int, answer: Sequence[int]) -> Values:
    rows = data["choices"][0]["prompt_logprobs"][prompt : prompt + n]
    own = np.array([row[str(token)]["logprob"] for row, token in zip(rows, answer, strict=False)], np.float32)
    top = [sorted((e["rank"], int(i), e["logprob"]) for i, e in row.items())[:k] for row in rows]
    return _checked(own, top, n, k)


def _ask_sglang(url: str, model: str, ids: list[int], prompt: int, k: int) -> tuple[str, dict[str, Any]]:
    body = {
        "input_ids": ids,
        "return_logprob": True,
        "logprob_start_len": prompt - 1,
        "top_logprobs_num": k,
        "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
    }
    return f"{url.removesuffix('/v1')}/generate", body


def _read_sglang(data: dict[str, Any], prompt: int, n: int, k: int, answer: Sequence[int]) -> Values:
    about = data["meta_info"]
    rows = about["input_token_logprobs"][1 : n + 1]  # (log-probability, id, text)
    if [row[1] for row in rows] != list(answer[:n]):
        raise ValueError("its tokens are others")
    top = [
        [(rank, e[1], e[0]) for rank, e in enumerate(row)] for row in about["input_top_logprobs"][1 : n + 1]
    ]
    return _checked(np.array([row[0] for row in rows], np.float32), top, n, k)


def _checked(own: Any, top: list[list[tuple[int, int, float]]], n: int, k: int) -> Values:
    if len(own) != n or any(len(row) != k for row in top):
        raise ValueError(f"{len(own)} of {n} positions, {min(map(len, top), default=0)} of {k} tokens each")
    ids = np.array([[e[1] for e in row] for row in top], np.int64)
    if (ids < 0).any() or (ids > np.iinfo(np.int32).max).any():
        raise ValueError("a number that is no token's")
    if ids.size and not np.diff(np.sort(ids, axis=1)).all():
        raise ValueError("a token twice at one position")
    return own, ids, np.array([[e[2] for e in row] for row in top], np.float32)
