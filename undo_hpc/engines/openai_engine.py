"""The client for any OpenAI-compatible server: a hosted API, a vLLM of your own, or the run's teacher service.

Requests run side by side up to `concurrency`. What may pass (no connection, time-out, 408, 429, 5xx, an answer that is
no answer) is tried again after a growing random wait; what will not (400, 413, 422) is recorded at once as a failed
request. A wrong key or an unknown model ends the run with a message, and so do many failures in a row: a server that
is down must not turn a shard into failures.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import tenacity

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.base import Completion, Failures, Request, digest, failed, never
from undo_hpc.engines.pool import Fixed, Pool, Service
from undo_hpc.errors import ConfigError

log = logging.getLogger(__name__)

_RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_POLL_S = 0.2  # how often `should_stop` is asked while nothing finishes
_LONGEST_WAIT_S = 60.0


class _MayPass(Exception):
    """An error that another try may not meet. `after` is what the server asked to wait, in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _Refused(Exception):
    """The server will not answer this request, however often it is asked."""


class OpenAIEngine:
    """See the module.

    Raises:
        ConfigError: a key is required and there is none, its file cannot be read, or there is no server to ask.
    """

    def __init__(
        self,
        config: EngineConfig,
        model: ModelConfig,
        *,
        run_dir: Path | None = None,
        iteration: int | None = None,
        service_slack_s: float = 1800.0,
    ) -> None:
        self._config, self._model = config.openai, model
        self._name = self._config.served_model or model.model
        key = find_key(self._config.api_key_file, self._config.api_key_env, required=self._config.require_key)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool: Pool
        if self._config.base_url:
            self._pool = Fixed(self._config.base_url)
        elif run_dir is not None:
            self._pool = Service(run_dir, iteration, slack_s=service_slack_s)
        else:
            raise ConfigError(
                "engine.openai.base_url is empty, and there is no run with a teacher service",
                hint="set engine.openai.base_url, e.g. http://host:8000/v1, or generate.service to a number of servers",
            )
        self.tokens = {"prompt": 0, "completion": 0}

    def describe(self) -> dict[str, Any]:
        """What the completions depend on, as far as a client can know."""
        return {
            "engine": "openai",
            "server": self._config.base_url or "teacher service",
            "model": self._name,
            "versions": {"httpx": httpx.__version__},
            "template_sha": self._pool.template_sha,
            "system_prompt": self._model.system_prompt,
            "chat_template_kwargs": dict(self._model.chat_template_kwargs),
        }

    def generate(self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never) -> Iterator[Completion]:
        """See `Engine.generate`. Requests under way are cancelled when the caller stops."""
        loop = asyncio.new_event_loop()
        waiting, under_way = deque(requests), set[asyncio.Task[tuple[Completion, bool]]]()
        failures = Failures("openai", limit=max(16, self._config.concurrency))
        client: httpx.AsyncClient | None = None
        try:
            limits = httpx.Limits(max_connections=self._config.concurrency, max_keepalive_connections=self._config.concurrency)
            client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._config.timeout_s, connect=30.0),
                limits=limits,
                headers=self._headers,
                trust_env=bool(self._config.base_url),
            )  # no proxy stands between the nodes of a cluster
            while (waiting or under_way) and not should_stop():
                while waiting and len(under_way) < self._config.concurrency:
                    under_way.add(loop.create_task(self._answer(client, waiting.popleft())))
                finished, _ = loop.run_until_complete(asyncio.wait(under_way, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED))
                for task in finished:
                    completion, given_up = task.result()
                    if given_up:
                        failures.hold(completion)
                    else:
                        yield from failures.release()
                        yield completion
                    under_way.remove(task)
            if not waiting and not under_way:
                yield from failures.release()
        finally:
            for task in under_way:
                task.cancel()
            if under_way:  # those that ended with an error beside the one raised are among them
                loop.run_until_complete(asyncio.gather(*under_way, return_exceptions=True))
            if client is not None:
                loop.run_until_complete(client.aclose())
            loop.close()

    def close(self) -> None:
        """Nothing is held between calls."""

    async def _answer(self, client: httpx.AsyncClient, request: Request) -> tuple[Completion, bool]:
        """The completion of one request, after as many tries as it takes; and whether it was given up after them."""
        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._config.max_retries),
            wait=_wait,
            reraise=True,
            retry=tenacity.retry_if_exception_type(_MayPass),
        )
        try:
            async for attempt in tries:
                with attempt:
                    completion = await self._ask(client, request)
        except _MayPass as error:
            return failed(request, f"given up after {self._config.max_retries} tries: {error}"), True
        except _Refused as error:
            return failed(request, str(error)), False  # it does answer
        self.tokens["prompt"] += completion.prompt_tokens
        self.tokens["completion"] += completion.completion_tokens
        return completion, False

    async def _ask(self, client: httpx.AsyncClient, request: Request) -> Completion:
        """One try; a server of the service that cannot be reached does not count as one while there are others."""
        while True:
            server = await self._pool.take()
            body = self._body(request) | server.extra
            try:
                response = await client.post(f"{server.url}/chat/completions", json=body)
                if response.status_code == 400 and "max_tokens" in body and any(w in response.text for w in ("context", "max_tokens")):
                    # Prompt and max_tokens together are over the context: without a limit the server stops at its end,
                    # before ours.
                    del body["max_tokens"]
                    response = await client.post(f"{server.url}/chat/completions", json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if self._pool.give_back(server, answered=False):
                    continue  # never sent, so it is not the request's fault
                raise _MayPass(f"no connection to {server.url}: {_named(error)}") from error
            except httpx.TransportError as error:
                # A server that lives may be slow over one request; one that breaks off is passed over.
                self._pool.give_back(server, answered=isinstance(error, httpx.TimeoutException))
                raise _MayPass(f"no answer from {server.url}: {_named(error)}") from error
            except asyncio.CancelledError:
                self._pool.give_back(server, answered=True)
                raise
            self._pool.give_back(server, answered=True)
            return self._read(request, response)

    def _body(self, request: Request) -> dict[str, Any]:
        from undo_hpc.engines.chat import messages

        body: dict[str, Any] = {
            "model": self._name,
            "messages": messages(self._model.system_prompt, request.prompt),
            "seed": request.seed % 2**63,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.top_k:  # an extension: sent only where it is asked for
            body["top_k"] = request.top_k
        if self._model.chat_template_kwargs:
            body["chat_template_kwargs"] = dict(self._model.chat_template_kwargs)
        return body

    def _read(self, request: Request, response: httpx.Response) -> Completion:
        status = response.status_code
        if status in (401, 403):
            raise ConfigError(
                f"{response.url}: the server refuses the key ({status}): {_short(response)}",
                hint=f"put the key into {self._config.api_key_env}, or name its file in engine.openai.api_key_file",
            )
        if status == 404:
            raise ConfigError(
                f"{response.url}: the server does not know this address or the model {self._name!r}: {_short(response)}",
                hint="check engine.openai.base_url (it ends with /v1) and engine.openai.served_model",
            )
        if status in _RETRY_STATUS:
            raise _MayPass(
                f"the server answered {status}: {_short(response)}",
                after=_seconds(response.headers.get("retry-after", "")),
            )
        if status != 200:
            raise _Refused(f"the server refused the request ({status}): {_short(response)}")
        try:
            answer = response.json()
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            text, reason = choice["message"]["content"], choice["finish_reason"]
            if not isinstance(text, str) and reason not in ("content_filter", "length"):
                raise TypeError("no text")
            prompt_tokens, new_tokens = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _MayPass(f"the server's answer is no chat completion ({type(error).__name__}: {error}): {_short(response)}") from error
        if reason not in ("stop", "length", "content_filter", "tool_calls", "function_call"):
            raise _MayPass(f"the server broke the completion off ({reason!r})")
        if reason not in ("stop", "length"):
            raise _Refused(f"the server ended the completion with {reason!r}")
        return Completion(request.id, text or "", reason, prompt_tokens, new_tokens, digest(request.prompt))


def find_key(file: str, variable: str, *, required: bool) -> str:
    """The key, from its file or else from the environment; never from the configuration itself.

    Raises:
        ConfigError: the file cannot be read or is empty, or a key is required and there is none.
    """
    if file:
        try:
            key = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"engine.openai.api_key_file: {file} cannot be read: {error}", hint="name a readable text file") from error
        if not key:
            raise ConfigError(f"engine.openai.api_key_file: {file} is empty", hint="put the key into it, and nothing else")
    else:
        key = os.environ.get(variable, "").strip()
    if required and not key:
        raise ConfigError(
            f"engine.openai.require_key is true, but {variable} is not set and api_key_file is empty",
            hint=f"export {variable}=..., or name a file in engine.openai.api_key_file",
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            "the key for the server holds characters that no key has",
            hint="check the variable or the file for stray text",
        )
    return key


_growing = tenacity.wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: growing and random, but not less than what the server asks for (up to a minute)."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _MayPass) else 0.0
    return max(_growing(state), min(asked, _LONGEST_WAIT_S))


def _seconds(header: str) -> float:
    try:
        return max(0.0, float(header))
    except ValueError:
        return 0.0


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _short(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200]
