"""The client for any OpenAI-compatible server: a hosted API, a vLLM of your own, or the run's teacher service.

Requests run side by side up to `concurrency`. What happens to one that is not answered depends on whose fault it is:

* the request's (too long, moderated, refused by a server that has answered others): recorded at once as failed;
* unclear (a time-out, 5xx, an answer that is no completion, a refusal before any answer): held until the server answers something
  else, and only then recorded. Errors that may pass are tried again first, after growing random waits;
* the server's (no connection, a wrong key, a rate limit that does not end, no credit): the task ends with the server's words, and
  nothing is recorded.

Where failures are held at the end, a short control question decides whose fault they were. What an answer means stands in
`openai_reply`, what happens to a refused parameter in `openai_parameters`; both are pure. One call is `openai_client`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines.base import MAX_FAILURES_IN_A_ROW, Completion, Request, digest, failed, never
from undo_hpc.engines.openai_client import OpenAIClient
from undo_hpc.engines.openai_reply import Reply
from undo_hpc.engines.pool import Pool, ServicePool, SingleServer
from undo_hpc.errors import ConfigError, EngineError, UndoError

_POLL_S = 0.2  # how often `should_stop` is asked while nothing finishes
_MAX_WAIT_S = 60.0
_FIRST_ALONE_S = 1.0  # the first request runs alone so long, so that a refused parameter costs one request and not `concurrency`
_DRAIN_S = 120.0  # after an error that ends the task, for requests under way: they may be paid for already
_CONTROL_S = 60.0  # time-out of the control question
_CONTROL_QUESTION = "What is 1 + 1? Answer with the number alone."
_CONTROL_TOKENS = 256
_HINT = (
    "answers so far are kept, and these failures are not recorded; fix the server or its settings and start the same command again. "
    "Where it refuses a parameter: engine.openai.omit leaves one out, engine.openai.extra_body adds one (docs/servers.md)"
)

Outcome = Literal[
    "answered", "failed", "refused", "unclear"
]  # the last two are held until it is clear whose fault they are


class _NotAnswered(Exception):
    """A try that got no answer, or a refusal. `unreachable`: the server could not be asked at all."""

    def __init__(self, reply: Reply, *, retry_after_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reply.message)
        self.reply, self.retry_after_s, self.unreachable = reply, retry_after_s, unreachable


class _Abandoned(Exception):
    """A request that would be tried again, but the task is ending."""


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
        self._config = config.openai
        self._client = OpenAIClient(config.openai, model)
        self._pool: Pool
        if self._config.base_url:
            self._pool = SingleServer(self._config.base_url)
        elif run_dir is not None:
            self._pool = ServicePool(run_dir, iteration, slack_s=service_slack_s)
        else:
            raise ConfigError(
                "engine.openai.base_url is empty, and there is no run with a teacher service",
                hint="set engine.openai.base_url, e.g. http://host:8000/v1, or generate.service to a number of servers",
            )
        self._is_known = (
            not self._config.base_url
        )  # the run's own servers take every parameter, and have no defaults of the model
        self._has_answered = self._ending = False
        self._count_under_way: Callable[[], int] = int
        self.tokens = {"prompt": 0, "completion": 0}

    def describe(self) -> dict[str, Any]:
        """What the completions depend on, as far as a client can know."""
        return self._client.describe() | {"template_sha": self._pool.template_sha}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """See `Engine.generate`. Requests under way are cancelled when the caller stops, and waited for after an error.

        Raises:
            ConfigError: key, address or model are wrong.
            EngineError: the server cannot be reached, or answers nothing.
        """
        loop = asyncio.new_event_loop()
        waiting, under_way = deque(requests), set[asyncio.Task[tuple[Completion, Outcome]]]()
        self._count_under_way = lambda: len(under_way)
        held: list[tuple[Completion, Outcome]] = []
        limit = max(MAX_FAILURES_IN_A_ROW, self._config.concurrency)
        fatal: UndoError | None = None
        http: httpx.AsyncClient | None = None
        self._ending, began, end = False, time.monotonic(), float("inf")
        try:
            http = self._client.open()
            if waiting and not self._is_known:
                loop.run_until_complete(self._identify(http))
            while (waiting or under_way) and not should_stop() and time.monotonic() < end:
                alone = (
                    not self._has_answered
                    and self._config.base_url
                    and time.monotonic() - began < _FIRST_ALONE_S
                )
                while waiting and len(under_way) < (1 if alone else self._config.concurrency):
                    under_way.add(loop.create_task(self._answer(http, waiting.popleft())))
                finished, _ = loop.run_until_complete(
                    asyncio.wait(under_way, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
                )
                under_way -= finished
                for task in sorted(finished, key=lambda task: task.exception() is not None):
                    try:
                        completion, outcome = task.result()
                        if outcome in ("refused", "unclear"):
                            held.append((completion, outcome))
                            if len(held) >= limit and not fatal:
                                self._judge(loop, http, requests[0], held, should_stop)
                                yield from (failure for failure, _ in held)
                                held.clear()
                            continue
                    except _Abandoned:
                        continue
                    except (
                        UndoError
                    ) as error:  # nothing more is asked; what is under way may still be answered
                        waiting.clear()
                        if fatal is None:
                            self._ending, fatal, end = True, error, time.monotonic() + _DRAIN_S
                        continue
                    if outcome == "answered" and fatal is None:
                        yield from (failure for failure, _ in held)
                        held.clear()
                    yield completion
            if fatal is not None:
                raise fatal
            if held and not waiting and not under_way and not should_stop():
                self._judge(loop, http, requests[0], held, should_stop)
                yield from (failure for failure, _ in held)
        finally:
            for task in under_way:
                task.cancel()
            if under_way:  # those that ended with an error beside the one raised are among them
                loop.run_until_complete(asyncio.gather(*under_way, return_exceptions=True))
            if http is not None:
                loop.run_until_complete(http.aclose())
            loop.close()

    def under_way(self) -> tuple[int, int]:
        """See `TellsWhatIsUnderWay`. Answers are not streamed, so the tokens of unfinished ones are not known."""
        return self._count_under_way(), 0

    def close(self) -> None:
        """Nothing is held between calls."""

    def _judge(
        self,
        loop: asyncio.AbstractEventLoop,
        http: httpx.AsyncClient,
        request: Request,
        held: list[tuple[Completion, Outcome]],
        should_stop: Callable[[], bool],
    ) -> None:
        """Decides whose fault the failures held are; empties `held` where the caller stops meanwhile.

        Raises:
            EngineError: the server's, for it does not answer a control question either, or has failed on too many in a row.
        """
        last, many = held[-1][0].error, len(held) >= max(MAX_FAILURES_IN_A_ROW, self._config.concurrency)
        if many and any(outcome == "unclear" for _, outcome in held):
            raise EngineError(
                f"the server failed on {len(held)} requests in a row; the last error: {last}", hint=_HINT
            )
        words = _run(loop, self._ask_control(http, request), should_stop)
        if words is None:
            held.clear()
        elif words:
            raise EngineError(
                f"the server failed on {len(held)} requests in a row and on a control question; the last error: {last}",
                hint=_HINT,
            )

    async def _identify(self, http: httpx.AsyncClient) -> None:
        self._is_known = True
        await self._client.identify(http, await self._pool.acquire())

    async def _answer(self, http: httpx.AsyncClient, request: Request) -> tuple[Completion, Outcome]:
        """The completion of one request, after as many tries as it takes, and what became of it.

        Raises:
            UndoError: the server is out of reach, refuses the key, or has refused more requests than it allows for too long.
            _Abandoned: the task is ending.
        """
        try:
            return await self._try(http, request), "answered"
        except _NotAnswered as error:
            reply = error.reply
        message = reply.message
        if reply.kind in ("no_access", "not_found"):
            message = f"the server refused the request {reply.message}"
            if not self._has_answered and await self._ask_control(http, request):
                raise self._client.access_error(reply)
        completion = failed(request, message, reply.prompt_tokens, reply.completion_tokens)
        if reply.kind == "transient":
            return completion, "unclear"
        certain = reply.kind == "refused" or reply.of_request
        return completion, "failed" if certain and self._has_answered else "refused"

    async def _try(
        self, http: httpx.AsyncClient, request: Request, timeout_s: float | None = None
    ) -> Completion:
        """Raises _NotAnswered after the last try or for a refusal; else as `_answer`."""
        began, waits, failed_tries = time.monotonic(), 0, 0
        while True:
            try:
                completion = await self._ask(http, request, timeout_s)
                break
            except _NotAnswered as error:
                reply = error.reply
                if reply.kind != "transient":
                    raise
                rate_limited = reply.status == 429
                failed_tries += not rate_limited
                if failed_tries >= self._config.max_retries:
                    message = f"abandoned after {failed_tries} tries: {error}"
                    if error.unreachable:
                        raise EngineError(
                            message,
                            hint="is the server up, and engine.openai.base_url right? Answers so far are kept",
                        ) from error
                    raise _NotAnswered(replace(reply, message=message)) from error
                if rate_limited and time.monotonic() - began > self._config.timeout_s:
                    raise EngineError(
                        f"a request was put off for {self._config.timeout_s:.0f} s (engine.openai.timeout_s): {error}",
                        hint="lower engine.openai.concurrency, or the number of tasks at once; answers so far are kept",
                    ) from error
                if self._ending:
                    raise _Abandoned from error
                waits += 1
                await asyncio.sleep(max(_backoff_s(waits), min(error.retry_after_s, _MAX_WAIT_S)))
        self._has_answered = True
        self.tokens["prompt"] += completion.prompt_tokens
        self.tokens["completion"] += completion.completion_tokens
        return completion

    async def _ask_control(self, http: httpx.AsyncClient, request: Request) -> str:
        """Asks a short question with the parameters of a failed request; the server's words where it does not answer."""
        most = min(_CONTROL_TOKENS, request.max_tokens)
        question = replace(request, id="control", prompt=_CONTROL_QUESTION, max_tokens=most)
        try:
            await self._try(http, question, min(_CONTROL_S, self._config.timeout_s))
        except (_NotAnswered, UndoError) as error:
            return str(error) or "no answer"
        return ""

    async def _ask(self, http: httpx.AsyncClient, request: Request, timeout_s: float | None) -> Completion:
        """One try; a server of the service that cannot be reached does not count as one while there are others.

        Raises:
            _NotAnswered: no answer, or a refusal.
            ConfigError, EngineError: a fault of the server that no other try would change.
        """
        while True:
            server = await self._pool.acquire()
            try:
                reply, sent, retry_after_s = await self._client.chat(http, server, request, timeout_s)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if self._pool.release(server, reached=False):
                    continue  # never sent, so it is not the request's fault
                message = f"no connection to {server.url}: {_named(error)}"
                raise _NotAnswered(Reply("transient", message=message), unreachable=True) from error
            except httpx.RequestError as error:
                # A live server may be slow over one request; one that breaks off is avoided for a while.
                self._pool.release(server, reached=isinstance(error, httpx.TimeoutException))
                message = f"no answer from {server.url}: {_named(error)}"
                raise _NotAnswered(Reply("transient", message=message)) from error
            except asyncio.CancelledError:
                self._pool.release(server, reached=True)
                raise
            self._pool.release(server, reached=True)
            if reply.kind == "answer":
                return _completion(request, reply, sent)
            if reply.kind in ("no_credit", "redirect") or (reply.kind == "no_access" and reply.status == 401):
                raise self._client.access_error(reply)
            self._has_answered |= (
                reply.kind == "refused" and reply.status == 200
            )  # it wrote, and filtered that
            raise _NotAnswered(reply, retry_after_s=retry_after_s)


def _completion(request: Request, reply: Reply, sent: dict[str, Any]) -> Completion:
    """The completion as recorded; cut at a stop text also where the server does not take stop texts."""
    cut = min((place for place in map(reply.text.find, request.stop) if place >= 0), default=None)
    return Completion(
        request.id,
        reply.text[:cut],
        reply.finish_reason if cut is None else "stop",
        reply.prompt_tokens,
        reply.completion_tokens,
        digest(request.prompt),
        reasoning=reply.reasoning,
        raw_finish_reason=reply.raw_finish_reason,
        sent=sent,
    )


def _run(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, str], should_stop: Callable[[], bool]
) -> str | None:
    """The result of a coroutine; None where the caller stops meanwhile."""
    task = loop.create_task(work)
    while not task.done():
        loop.run_until_complete(asyncio.wait({task}, timeout=_POLL_S))
        if should_stop() and not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            return None
    return task.result()


def _backoff_s(waits: int) -> float:
    """Seconds to wait for the n-th time: random, and longer each time."""
    return random.uniform(0, min(_MAX_WAIT_S, 0.5 * 2 ** min(waits, 20)))


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
