"""What a provider is to the tests, and the forms of answers and errors that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Answer = tuple[int, Any]
CORE = frozenset({"model", "messages", "temperature", "top_p", "stop"})
INT32 = 2**31


@dataclass(frozen=True)
class Provider:
    """A provider and what the client should come to with it.

    Attributes:
        respond: status and JSON for a request.
        sent: parameters that it accepts in the end, of a request with temperature 0.7, top_p 0.95 and max_tokens 20000 (seed apart).
        refusals: requests that it costs to find that out.
        sends_seed: whether the seed is among them.
        reasoning: what it tells apart as reasoning.
        raw, raw_cut: its words for the two ends of an answer.
        flagged: what it does with a moderated prompt; "" where it has no moderation.
    """

    name: str
    respond: Callable[[Body], Answer]
    sent: Body
    refusals: int = 0
    sends_seed: bool = True
    reasoning: str = ""
    raw: str = "stop"
    raw_cut: str = "length"
    flagged: str = ""
    listing: Any = None
    settings: Body = field(default_factory=dict)


def prompt_of(body: Body) -> str:
    return str(body["messages"][-1]["content"])


def is_(word: str, body: Body) -> bool:
    return prompt_of(body).startswith(word)


def openai_error(message: str, param: str | None = None, code: str | None = None) -> Answer:
    return 400, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def chat(
    body: Body, *, stop: Any = "stop", length: Any = "length", content: Any = "42", **message: Any
) -> Answer:
    """A usual answer."""
    cut = is_("cut", body)
    return 200, {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content} | message,
                "finish_reason": length if cut else stop,
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def listing(owner: str) -> Body:
    return {"object": "list", "data": [{"id": "some/model", "object": "model", "owned_by": owner}]}
