"""What an answer of a server means: each known word, each known shape, and anything at all."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search import examples
from undo_hpc.engines.base import Completion, with_reasoning
from undo_hpc.engines.openai_reply import Reply, read_reply


def read(message: Any, reason: Any = "stop", status: int = 200, tokens: Any = 7, **more: Any) -> Reply:
    choice = {"message": message, "finish_reason": reason} | more
    answer = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}
    return read_reply(status, json.dumps(answer).encode(), max_tokens=100)


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        *[
            (word, "stop")
            for word in (
                "stop",
                "eos",
                "eos_token",
                "stop_sequence",
                "",
                None,
                "STOP",
                "end_turn",
                "Complete",
                "COMPLETED",
            )
        ],
        *[
            (word, "length")
            for word in (
                "length",
                "MAX_TOKENS",
                "model_length",
                "max_output_tokens",
                "max-tokens",
                "LENGTH",
                "token_limit",
            )
        ],
        *[(word, "stop") for word in ("whatever", "OTHER", 3, ["stop"], {"reason": "eos"})],
    ],
)
def test_finish_reasons_are_mapped_and_kept_as_said(reason: Any, found: str) -> None:
    reply = read({"content": "42"}, reason)
    assert (reply.kind, reply.text, reply.finish_reason) == ("answer", "42", found)
    assert reply.raw_finish_reason == (
        reason if isinstance(reason, str) else "" if reason is None else json.dumps(reason)
    )


def test_an_unknown_end_at_the_limit_is_a_cut_answer() -> None:
    assert read({"content": "17+7="}, None, tokens=100).finish_reason == "length"
    assert read({"content": "17+7="}, "stop", tokens=100).finish_reason == "stop", "what the server says wins"


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "RECITATION", "refusal", "tool_calls"])
def test_what_was_filtered_is_a_refusal_of_this_request(reason: str) -> None:
    reply = read({"content": None}, reason)
    assert (reply.kind, reply.of_request, reply.completion_tokens) == (
        "refused",
        True,
        7,
    ) and reason in reply.message
    assert read({"content": None, "refusal": "I cannot."}).message == "the model refused: I cannot."


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "timeout", "ERROR"])
def test_what_the_server_broke_off_is_asked_again(reason: str) -> None:
    assert read({"content": "17+"}, reason).kind == "transient"


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "42", ""),
        ({"content": ["4", "2"]}, "42", ""),
        ({"content": {"type": "text", "text": "42"}}, "42", ""),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "42"},
                ]
            },
            "42",
            "Hm.",
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "text", "text": "42"},
                ]
            },
            "42",
            "Hm.",
        ),
        (
            {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "42"}]},
            "42",
            "Hm.",
        ),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"text": "42"}, None, 7]}, "42", ""),
        ({"content": "42", "reasoning_content": "Hm."}, "42", "Hm."),
        ({"content": "42", "reasoning": "Hm.", "reasoning_content": None}, "42", "Hm."),
        ({"content": "42", "reasoning": {"text": "Hm."}}, "42", "Hm."),
        (
            {
                "content": "42",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "Hm."},
                    {"type": "reasoning.encrypted"},
                ],
            },
            "42",
            "Hm.",
        ),
        ({"content": None, "reasoning": "Hm."}, "", "Hm."),
        ({"content": "", "reasoning": 5}, "", ""),
        ({"content": "\ud83d\ude00 \ud800"}, "\U0001f600 \ufffd", ""),
    ],
)
def test_text_and_reasoning_are_found_in_every_form(
    message: dict[str, Any], text: str, reasoning: str
) -> None:
    reply = read(message)
    assert (reply.kind, reply.text, reply.reasoning) == ("answer", text, reasoning)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"code": 429, "message": "slow down"}, "transient", 429),
        ({"code": "429"}, "transient", 429),
        ({"code": "rate_limit_exceeded"}, "transient", 429),
        ({"code": 502, "message": "the provider is down"}, "transient", 502),
        ("overloaded", "transient", 500),
        ({"code": 400, "message": "no"}, "refused", 400),
        ({"type": "invalid_request_error"}, "refused", 400),
        ({"code": 402}, "no_credit", 402),
        ({"code": 401}, "no_access", 401),
        ({"code": 403, "message": "your input was flagged"}, "no_access", 403),
        ({"code": 404}, "not_found", 404),
        ({"code": True}, "transient", 500),
    ],
)
def test_an_error_inside_a_200_counts_as_its_code(error: Any, kind: str, status: int) -> None:
    outer = read_reply(200, json.dumps({"error": error}).encode())
    inner = read({"content": "17+"}, "stop", error=error)
    for reply in (outer, inner):
        assert (reply.kind, reply.status) == (kind, status)
    assert (
        read_reply(
            200, json.dumps({"error": None, "choices": [{"message": {"content": "42"}}]}).encode()
        ).kind
        == "answer"
    )
    assert read_reply(200, b'{"object": "error", "message": "no", "code": 400}').kind == "refused"


def test_reasoning_is_kept_as_a_think_block() -> None:
    def completion(text: str, reason: Any, reasoning: str) -> Completion:
        return Completion("a", text, reason, 1, 1, "", reasoning=reasoning)

    assert with_reasoning(completion("42", "stop", "Hm.\n")) == "<think>\nHm.\n</think>\n\n42"
    assert with_reasoning(completion("", "stop", "Hm.")) == "<think>\nHm.\n</think>\n\n"
    assert with_reasoning(completion("", "length", "Hm, le")) == "<think>\nHm, le", "cut inside the block"
    assert with_reasoning(completion("42", "stop", "")) == "42"


# The words that the reader looks for stand among the random ones, so that the search reaches behind its first checks.
WORDS = st.sampled_from(
    ["choices", "message", "content", "finish_reason", "usage", "error", "code", "text", "type", "reasoning", "refusal", "completion_tokens",
     "prompt_tokens", "stop", "length", "thinking", "object", "reasoning_details", "content_filter", "native_finish_reason", "status"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | WORDS
    | st.sampled_from([200, 400, 429, 500])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=25,
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "message": JSON | st.fixed_dictionaries({}, optional={"content": JSON, "reasoning": JSON}),
        "finish_reason": JSON,
        "error": JSON,
    },
)
ANSWERS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, max_size=2) | JSON}, optional={"usage": JSON, "error": JSON, "object": JSON}
)
BODIES = (
    st.binary(max_size=40)
    | JSON.map(lambda data: json.dumps(data).encode())
    | ANSWERS.map(lambda data: json.dumps(data).encode())
)
STATUSES = st.sampled_from(
    [200, 200, 200, 200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 413, 418, 422, 429, 500, 503, 529]
)


@pytest.mark.parametrize("count", [10**30, 1e308, 2**63, 10**310, 10**4000])
def test_sums_of_what_a_server_counts_can_be_written(count: float) -> None:
    """2,048 answers with the count of before made a shard whose manifest no JSON could hold."""
    found = read({"content": "well"}, tokens=count)
    assert found.kind == "answer" and 0 < found.completion_tokens * 10**9 < 2**63


@pytest.mark.parametrize("count", [-(10**400), -1, 0, float("inf"), float("nan"), True, "7"])
def test_what_is_no_count_is_none(count: object) -> None:
    assert read({"content": "well"}, tokens=count).completion_tokens == 0


@examples(300)
@given(STATUSES, BODIES, st.integers(0, 100))
def test_any_answer_is_read(status: int, body: bytes, limit: int) -> None:
    reply = read_reply(status, body, max_tokens=limit)
    assert reply.kind in ("answer", "refused", "transient", "no_access", "not_found", "no_credit", "redirect")
    assert reply.kind == "answer" or reply.message, "whatever is no answer says why"
    assert status < 300 or reply.kind != "answer"
    assert (
        orjson.loads(orjson.dumps([reply.text, reply.reasoning, reply.message, reply.raw_finish_reason]))
        is not None
    )
    assert reply.prompt_tokens >= 0 and reply.completion_tokens >= 0
    assert reply.finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"usage": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe",
        b"",
        b"null",
        b"NaN",
    ],
)
def test_what_breaks_parsers_is_an_answer_that_may_pass(body: bytes) -> None:
    assert read_reply(200, body).kind == "transient"


def test_an_error_is_read_however_deep_it_is() -> None:
    """What is just shallow enough to be parsed was too deep to be written again, one call further in."""
    for depth in range(900, 1_010):
        body = b'{"object": "error", "a": ' + b"[" * depth + b"]" * depth + b"}"
        assert read_reply(200, body).kind in ("transient", "refused")
