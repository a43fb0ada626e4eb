"""The interface of all engines: requests in, completions out as they finish. An engine keeps no state between calls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from undo_hpc.chat.reasoning import normal_form
from undo_hpc.errors import EngineError
from undo_hpc.records import FinishReason

# So many failures in a row, with no success between, are the engine's fault and not the requests'.
MAX_FAILURES_IN_A_ROW = 16


@dataclass(frozen=True, slots=True)
class Request:
    """One completion asked for.

    Attributes:
        id: unique among the requests of a call.
        prompt: the user's turn; the engine puts the chat template and the system prompt around it.
        seed: the draw depends on it and on nothing else of the call, where the engine can promise that.
        temperature: 0 is greedy.
        max_tokens: max new tokens.
        top_p, top_k: nucleus and top-k sampling; 1.0 and 0 for all.
        stop: texts that end the completion and are not part of it, beside the template's end of turn.
    """

    id: str
    prompt: str
    seed: int
    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request.

    Attributes:
        text: the answer; empty where `finish_reason` is error.
        prompt_tokens: after the chat template.
        completion_tokens: the end-of-turn token included.
        prompt_sha: `digest(prompt)`.
        error: why there is no answer.
        reasoning: what the model wrote before its answer, where that is told apart; not part of `text`.
        raw_finish_reason: a server's own word for it.
        sent: sampling parameters as a server got them; empty for engines in this process, which apply all of a request's.
        token_ids: what was sampled, the end-of-turn token included; empty where an engine cannot tell.
    """

    id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    prompt_sha: str
    error: str = ""
    reasoning: str = ""
    raw_finish_reason: str = ""
    sent: dict[str, Any] = field(default_factory=dict)
    token_ids: tuple[int, ...] = ()


def digest(prompt: str) -> str:
    """16 hexadecimal digits of the SHA-256 of a prompt, as recorded with each attempt."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def failed(request: Request, error: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> Completion:
    """The completion of a request that could not be answered; `error` is cut at 500 characters, as it stands in the shard."""
    return Completion(
        request.id, "", "error", prompt_tokens, completion_tokens, digest(request.prompt), error=error[:500]
    )


def with_reasoning(completion: Completion) -> str:
    """The text in the normal form of `chat/reasoning.py`: its reasoning before it in a block, which stays open where the
    completion was cut inside it.
    """
    if not completion.reasoning:
        return normal_form(completion.text)
    is_open = not completion.text and completion.finish_reason == "length"
    return f"<think>\n{completion.reasoning.strip()}" + (
        "" if is_open else f"\n</think>\n\n{completion.text.lstrip()}"
    )


def too_long(prompt_tokens: int, context: int) -> str:
    """The message for a prompt that leaves no room for an answer."""
    return f"the prompt has {prompt_tokens} tokens and leaves no room in the model's context of {context}"


class Failed(Protocol):
    """The result of a request that could not be answered."""

    @property
    def error(self) -> str:
        """Why."""
        ...


C = TypeVar("C", bound=Failed)


class Failures(Generic[C]):
    """Tells requests that an engine cannot answer from an engine that cannot answer.

    A failure is held back until another request is answered, or all are done: only then was it the request's own. So a
    dead engine turns no request into a recorded failure: after `limit` in a row it is raised as an error, and their requests
    are sent again by the next start.
    """

    def __init__(self, engine: str, limit: int = MAX_FAILURES_IN_A_ROW) -> None:
        self._engine, self._limit = engine, limit
        self._held: list[C] = []

    def hold(self, failure: C) -> None:
        """Holds a failed request.

        Raises:
            EngineError: `limit` of them in a row.
        """
        self._held.append(failure)
        if len(self._held) >= self._limit:
            raise EngineError(
                f"the {self._engine} engine failed on {self._limit} requests in a row; the last error: {failure.error}",
                hint="requests answered so far are kept; fix the engine and start the same command again",
            )

    def release(self) -> list[C]:
        """A request was answered, or all are done: the failures held before, to be yielded."""
        held, self._held = self._held, []
        return held


def never() -> bool:
    """The `should_stop` of a caller that never stops."""
    return False


@runtime_checkable
class TellsWhatIsUnderWay(Protocol):
    """An engine that can say, while it generates, what is not complete yet. Optional: progress shows it."""

    def under_way(self) -> tuple[int, int]:
        """Requests under way, and the tokens that they have so far (0 where they are not known)."""
        ...


class Engine(Protocol):
    """What generates. Made by `undo_hpc.engines.load_engine`."""

    def describe(self) -> dict[str, Any]:
        """What the completions depend on: engine, versions, model, chat template digest, system prompt, template arguments."""
        ...

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """Yields each completion as it finishes, in any order.

        When `should_stop()` turns true the iterator ends soon; requests that are not finished by then are not yielded.
        A request that cannot be answered is yielded with `finish_reason` error.

        Raises:
            EngineError: the engine itself cannot continue.
        """
        ...

    def close(self) -> None:
        """Frees memory, threads and processes. The engine is not used afterwards. May be called again."""
        ...
