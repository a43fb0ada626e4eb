"""The client for any OpenAI-compatible server: a hosted API, a vLLM of your own, or the run's teacher service.

Requests run side by side up to `concurrency`. What becomes of one that is not answered depends on whose fault it is:

* the request's (400, 413, 422, a content filter): it is recorded at once as failed;
* unclear (a time-out, 5xx, an answer that is none): it is tried again after growing random waits, and recorded when its tries
  are used up, unless many fail in a row: that is the server's fault then. So are refusals as long as the server has not
  answered anything, for it may not take one of our parameters;
* the server's (no connection, a rate limit that does not end, no credit): the run ends with a message, and nothing is recorded.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.api_key import find_key
from undo_hpc.engines.base import Completion, Failures, Request, digest, failed, never
from undo_hpc.engines.pool import Pool, ServicePool, SingleServer
from undo_hpc.engines.service import Server
from undo_hpc.errors import ConfigError, EngineError

_RETRY_STATUS = frozenset({408, 409, 425, 429})  # and all from 500 on
_POLL_S = 0.2  # how often `should_stop` is asked while nothing finishes
_MAX_WAIT_S = 60.0


class _Transient(Exception):
    """An error that another try may not meet.

    Attributes:
        retry_after_s: what the server asked to wait.
        rate_limited: it says nothing about the request, which loses no try by it.
        unreachable: the server could not be asked at all.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 0.0,
        rate_limited: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s, self.rate_limited, self.unreachable = retry_after_s, rate_limited, unreachable


class _Refused(Exception):
    """The server will not answer this request, however often it is asked. `of_request`: something in the prompt is the reason."""

    def __init__(self, message: str, *, of_request: bool = False) -> None:
        super().__init__(message)
        self.of_request = of_request


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
            self._pool = SingleServer(_checked_url(self._config.base_url))
        elif run_dir is not None:
            self._pool = ServicePool(run_dir, iteration, slack_s=service_slack_s)
        else:
            raise ConfigError(
                "engine.openai.base_url is empty, and there is no run with a teacher service",
                hint="set engine.openai.base_url, e.g. http://host:8000/v1, or generate.service to a number of servers",
            )
        self._limit_name = "max_tokens"
        self._has_answered = False
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

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """See `Engine.generate`. Requests under way are cancelled when the caller stops."""
        loop = asyncio.new_event_loop()
        waiting, under_way = deque(requests), set[asyncio.Task[tuple[Completion, bool]]]()
        failures = Failures("openai", limit=max(16, self._config.concurrency))
        client: httpx.AsyncClient | None = None
        try:
            limits = httpx.Limits(
                max_connections=self._config.concurrency, max_keepalive_connections=self._config.concurrency
            )
            client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._config.timeout_s, connect=30.0),
                limits=limits,
                headers=self._headers,
                trust_env=bool(self._config.base_url),
            )  # no proxy stands between the nodes of a cluster
            while (waiting or under_way) and not should_stop():
                while waiting and len(under_way) < self._config.concurrency:
                    under_way.add(loop.create_task(self._answer(client, waiting.popleft())))
                finished, _ = loop.run_until_complete(
                    asyncio.wait(under_way, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
                )
                for task in sorted(
                    finished, key=lambda task: task.exception() is not None
                ):  # answers before what ends the run
                    completion, to_be_held = task.result()
                    if to_be_held:
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
        """The completion of one request, after as many tries as it takes; and whether its failure may be the server's (see Failures).

        Raises:
            EngineError: the server is out of reach, or has refused more requests than it allows for too long.
        """
        began, waits, failed_tries = time.monotonic(), 0, 0
        while True:
            try:
                completion = await self._ask(client, request)
                break
            except _Refused as error:
                return failed(request, str(error)), not (error.of_request or self._has_answered)
            except _Transient as error:
                failed_tries += not error.rate_limited
                if failed_tries >= self._config.max_retries:
                    message = f"given up after {failed_tries} tries: {error}"
                    if error.unreachable:
                        raise EngineError(
                            message,
                            hint="is the server up, and engine.openai.base_url right? Answers so far are kept",
                        ) from error
                    return failed(request, message), True
                if error.rate_limited and time.monotonic() - began > self._config.timeout_s:
                    raise EngineError(
                        f"a request was put off for {self._config.timeout_s:.0f} s (engine.openai.timeout_s): {error}",
                        hint="lower engine.openai.concurrency, or the number of tasks at once; answers so far are kept",
                    ) from error
                waits += 1
                await asyncio.sleep(max(_backoff_s(waits), min(error.retry_after_s, _MAX_WAIT_S)))
        self._has_answered = True
        self.tokens["prompt"] += completion.prompt_tokens
        self.tokens["completion"] += completion.completion_tokens
        return completion, False

    async def _ask(self, client: httpx.AsyncClient, request: Request) -> Completion:
        """One try; a server of the service that cannot be reached does not count as one while there are others."""
        while True:
            server = await self._pool.acquire()
            try:
                response = await self._post(client, server, self._body(request) | server.extra)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if self._pool.release(server, reached=False):
                    continue  # never sent, so it is not the request's fault
                raise _Transient(
                    f"no connection to {server.url}: {_named(error)}", unreachable=True
                ) from error
            except httpx.RequestError as error:
                # A server that lives may be slow over one request; one that breaks off is passed over.
                self._pool.release(server, reached=isinstance(error, httpx.TimeoutException))
                raise _Transient(f"no answer from {server.url}: {_named(error)}") from error
            except asyncio.CancelledError:
                self._pool.release(server, reached=True)
                raise
            self._pool.release(server, reached=True)
            self._check_status(response)
            return _completion(request, response)

    async def _post(self, client: httpx.AsyncClient, server: Server, body: dict[str, Any]) -> httpx.Response:
        """The server's answer; asked again where it wants the limit of new tokens under another name, or a smaller one."""
        url = f"{server.url}/chat/completions"
        response = await client.post(url, json=body)
        if (
            response.status_code == 400
            and "max_tokens" in body
            and "use 'max_completion_tokens' instead" in response.text.lower()
        ):
            self._limit_name = "max_completion_tokens"  # OpenAI's reasoning models
            body[self._limit_name] = body.pop("max_tokens")
            response = await client.post(url, json=body)
        if (
            response.status_code == 400
            and self._limit_name in body
            and any(w in response.text for w in ("context", self._limit_name))
        ):
            # Prompt and limit together are over the context: without a limit the server stops at its end, before ours.
            del body[self._limit_name]
            response = await client.post(url, json=body)
        return response

    def _body(self, request: Request) -> dict[str, Any]:
        from undo_hpc.engines.chat import messages

        body: dict[str, Any] = {
            "model": self._name,
            "messages": messages(self._model.system_prompt, request.prompt),
            "seed": request.seed % 2**63,
            "temperature": request.temperature,
            "top_p": request.top_p,
            self._limit_name: request.max_tokens,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.top_k:  # an extension: sent only where it is asked for
            body["top_k"] = request.top_k
        if self._model.chat_template_kwargs:
            body["chat_template_kwargs"] = dict(self._model.chat_template_kwargs)
        return body

    def _check_status(self, response: httpx.Response) -> None:
        """Returns where the server answered with 200.

        Raises:
            ConfigError: key, address or model are wrong.
            EngineError: there is no credit left.
            _Transient, _Refused: this request may be, or must not be, tried again.
        """
        status, said = response.status_code, f"({response.status_code}): {_short(response)}"
        if status == 200:
            return
        if status in (401, 403):
            raise ConfigError(
                f"{response.url}: the server refuses the key {said}",
                hint=f"put the key into {self._config.api_key_env}, or name its file in engine.openai.api_key_file "
                "(only a file reaches the tasks of a SLURM run)",
            )
        if status in (404, 405, 410):
            raise ConfigError(
                f"{response.url}: the server does not know this address or the model {self._name!r} {said}",
                hint="check engine.openai.base_url (it ends with /v1) and engine.openai.served_model",
            )
        if response.has_redirect_location:
            raise ConfigError(
                f"{response.url}: the server redirects to {response.headers['location']}",
                hint="set engine.openai.base_url to where that leads, without /chat/completions",
            )
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise EngineError(
                f"{response.url}: the account has no credit left {said}",
                hint="answers so far are kept; once it has, run the same command again",
            )
        if status in _RETRY_STATUS or status >= 500:
            raise _Transient(
                f"the server answered {status}: {_short(response)}",
                retry_after_s=_seconds(response.headers.get("retry-after", "")),
                rate_limited=status == 429,
            )
        too_long = status == 413 or any(words in response.text.lower() for words in ("context", "too long"))
        raise _Refused(f"the server refused the request {said}", of_request=too_long)


def _completion(request: Request, response: httpx.Response) -> Completion:
    """What a server that answered with 200 has written. Raises _Transient for what is no completion, _Refused for a filtered one."""
    try:
        answer = response.json()
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text, reason = choice["message"]["content"], choice["finish_reason"]
        prompt_tokens, new_tokens = (
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )
        # A model that only thinks (the server cuts that out), or stops at once, has no text; nor has a server that is not ready yet.
        if (
            not isinstance(text, str)
            and reason not in ("content_filter", "length")
            and not (text is None and new_tokens)
        ):
            raise TypeError("no text")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Transient(
            f"the server's answer is no chat completion ({type(error).__name__}: {error}): {_short(response)}"
        ) from error
    if reason not in ("stop", "length", "content_filter", "tool_calls", "function_call"):
        raise _Transient(f"the server broke the completion off ({reason!r})")
    if reason not in ("stop", "length"):
        raise _Refused(f"the server ended the completion with {reason!r}", of_request=True)
    return Completion(request.id, text or "", reason, prompt_tokens, new_tokens, digest(request.prompt))


def _checked_url(base_url: str) -> str:
    """The address. Raises ConfigError where it is none."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigError(
            f"engine.openai.base_url: {base_url!r} is no address: {error}", hint="e.g. http://host:8000/v1"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"engine.openai.base_url: {base_url!r} does not begin with http:// or https://",
            hint="e.g. http://host:8000/v1",
        )
    return base_url


def _backoff_s(waits: int) -> float:
    """Seconds to wait for the n-th time: random, and longer each time."""
    return random.uniform(0, min(_MAX_WAIT_S, 0.5 * 2 ** min(waits, 20)))


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks to wait: it holds seconds or a date (RFC 9110, 10.2.3). 0 where it says nothing."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _short(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200]
