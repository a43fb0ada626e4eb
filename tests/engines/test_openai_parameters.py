"""Refused parameters: what is understood from a server's words, and what is sent afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.test_openai_reply import JSON
from tests.search import examples
from undo_hpc.engines import Request
from undo_hpc.engines.openai_parameters import Accepted, changed, changes_for, context_room, is_context_error

REQUEST = Request("a", "Q", 2**40 + 3, 1.6, 20000, top_p=0.9, top_k=20, stop=("\n\n",))


def error(message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "param": param}}


@pytest.mark.parametrize(
    ("refusal", "changes"),
    [
        (error("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"), ["top_p is not sent"]),
        (error("Unrecognized request argument supplied: top_k"), ["top_k is not sent"]),
        (error("Unknown parameter: 'seed'.", "seed"), ["seed is not sent"]),
        ({"detail": [{"loc": ["body", n], "msg": "Extra inputs are not permitted"} for n in ("seed", "top_k")]}, ["seed is not sent", "top_k is not sent"]),
        ([error('Invalid JSON payload received. Unknown name "seed": Cannot find field.')], ["seed is not sent"]),
        (error("Invalid value at 'generation_config.seed' (TYPE_INT32), 1099511627779"), ["seed is reduced to 31 bits"]),
        (error("seed must be less than or equal to 4294967295"), ["seed is reduced to 31 bits"]),
        (error("temperature: range: 0..1 is allowed, got 1.6"), ["temperature is sent as at most 1.0"]),
        (error("temperature must be <= 1.5"), ["temperature is sent as at most 1.5"]),
        (error("'temperature' does not support 1.6 with this model. Only the default (1) value is supported."), ["temperature is not sent"]),
        (error("`temperature` and `top_p` cannot both be specified for this model. Please use only one."), ["top_p is not sent"]),
        (error("Use 'max_completion_tokens' instead.", "max_tokens"), ["max_tokens is sent as max_completion_tokens"]),
        (error("the valid range of max_tokens is [1, 8192]"), ["max_tokens is sent as at most 8192"]),
        (error("`max_tokens` must be less than or equal to `8,192`"), ["max_tokens is sent as at most 8192"]),
        (error("supported range is from 1 (inclusive) to 8193 (exclusive) for maxOutputTokens"), ["max_tokens is sent as at most 8192"]),
        (error("max_tokens: 20000 > 4096, which is the maximum allowed for claude-3-opus-20240229"), ["max_tokens is sent as at most 4096"]),
        (error("The maximum tokens you requested exceeds the model limit of 4096."), ["max_tokens is sent as at most 4096"]),
        (error("max_tokens is not allowed here"), ["max_tokens is not sent"]),
        (error("Invalid 'stop': array too long.", "stop"), ["stop is not sent"]),
        (error("please stop sending this"), []),
        (error("What is the temperature of the sun?", "messages[0].content"), []),
        (error("no"), []),
        ("top-k sampling is not available", ["top_k is not sent"]),
    ],
)  # fmt: skip
def test_a_refusal_is_understood(refusal: Any, changes: list[str]) -> None:
    words = refusal if isinstance(refusal, str) else json.dumps(refusal)
    assert [str(change) for change in changes_for(words, Accepted().parameters(REQUEST))] == changes


def test_neutral_values_are_sent_to_servers_with_defaults_of_their_own_only() -> None:
    plain = Request("a", "Q", 7, 0.0, 8)
    assert Accepted().parameters(plain) == {"seed": 7, "temperature": 0.0, "max_tokens": 8}
    neutral = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert Accepted(neutral=neutral).parameters(plain) == neutral | {
        "seed": 7,
        "temperature": 0.0,
        "max_tokens": 8,
    }
    assert Accepted(neutral=neutral, dropped={"min_p", "seed"}).parameters(REQUEST) == {
        "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.0, "temperature": 1.6, "stop": ["\n\n"], "max_tokens": 20000
    }  # fmt: skip


def test_seeds_stay_apart_when_they_are_reduced() -> None:
    accepted = Accepted()
    assert accepted.apply(
        changes_for(json.dumps(error("seed must be an integer < 2147483648")), {"seed": 2**40})
    )
    seeds = {accepted.parameters(Request("a", "Q", 2**40 + n, 1.0, 8))["seed"] for n in range(50)}
    assert len(seeds) == 50 and max(seeds) < 2**31


@pytest.mark.parametrize(
    ("words", "room"),
    [
        (
            "maximum context length is 8192 tokens. However, you requested 9000 tokens (1000 in the messages, 8000 in the completion).",
            7192,
        ),
        (
            "the model's context length is only 8192 tokens. You passed 8000 input tokens and requested 500 output tokens.",
            192,
        ),
        (
            "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 96 `inputs` tokens and 9000 `max_new_tokens`",
            4000,
        ),
        ("maximum context length is 8,192 tokens and your request has 1,000 input tokens", 7192),
        ("maximum context length is 8192 tokens and your request has 9000 input tokens", 0),
        ("the request exceeds the available context size, try increasing it", 0),
        (
            f"context length is {'9' * 5000} tokens and the prompt has 1 input tokens",
            0,
        ),  # no number that Python reads
        (f"context length is 4096: {'1' * 100_000}", 0),  # and none that takes hours to pass over
    ],
)
def test_the_room_that_a_context_leaves_is_read(words: str, room: int) -> None:
    assert is_context_error(words) and context_room(words) == room


@examples(300)
@given(
    JSON.map(json.dumps)
    | st.text(max_size=60)
    | st.sampled_from(["seed 5 max_tokens 3 range", "top_p, temperature, top_k: no", "max_tokens <= 0"])
)
def test_any_words_lead_to_smaller_bodies_only(words: str) -> None:
    """However a server refuses, the changes end: each drops, renames once, or lowers."""
    accepted, sent = Accepted(), Accepted().parameters(REQUEST)
    for _ in range(30):
        changes = changes_for(words, sent)
        if not changes:
            break
        for change in changes:
            sent = changed(sent, change)
        accepted.apply(changes)
    assert not changes_for(words, sent)
    assert accepted.parameters(REQUEST) == sent, "what is remembered is what was accepted"
    limits = [sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent]
    assert all(isinstance(limit, int) and 1 <= limit <= 20000 for limit in limits) and len(limits) <= 1
