"""PURE: what an HTTP answer of an OpenAI-compatible server means, whatever its shape (see docs/servers.md for who sends what)."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from undo_hpc.records import FinishReason
from undo_hpc.system.wording import printable

_STOP = frozenset({
    "stop", "eos", "eos_token", "end_turn", "end", "stop_sequence", "stop_token", "stop_str", "stopped", "complete", "completed", "done",
    "finished", "normal", "success", "finish_reason_stop",
})  # fmt: skip
_LENGTH = frozenset({
    "length", "max_tokens", "max_new_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "model_length", "token_limit",
    "length_limit", "limit", "context_length", "context_length_exceeded", "model_context_window_exceeded", "error_limit", "incomplete",
    "finish_reason_max_tokens",
})  # fmt: skip
_REFUSED = frozenset({
    "content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii", "refusal", "sensitive",
    "guardrail_intervened", "flagged", "error_toxic", "tool_calls", "function_call", "tool_use",  # we offer no tools
})  # fmt: skip
_BROKEN = frozenset({
    "error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource", "timeout", "time_limit", "network_error",
    "internal_error", "overloaded", "failed", "load", "unload", "malformed_function_call",
})  # fmt: skip
_RETRY_STATUS = frozenset({408, 409, 425, 429})  # and all from 500 on
_NO_CREDIT = re.compile(r"insufficient_quota|insufficient balance|insufficient credits", re.IGNORECASE)
_MODERATION = re.compile(
    r"content_filter|moderation|flagged|content_policy|content management policy", re.IGNORECASE
)
_TOO_LONG = re.compile(r"context|too long|too many tokens", re.IGNORECASE)
_REASONING_PARTS = frozenset(
    {"thinking", "reasoning", "reasoning.text", "reasoning.summary", "thought", "redacted_thinking"}
)

_MOST_TOKENS = (
    2**31
)  # of one answer, whatever a server says: sums of a billion answers still are integers of 64 bits, as JSON holds them

Kind = Literal["answer", "refused", "transient", "no_access", "not_found", "no_credit", "redirect"]


@dataclass(frozen=True)
class Reply:
    """What a server's answer comes to.

    Attributes:
        kind: answer; refused (asking again gets the same); transient (asking again may help); no_access (401, 403) and not_found (404, 405,
            410): the key's, address's or model's fault, or that of one prompt; no_credit; redirect.
        status: the HTTP status, or the code of an error inside an answer with status 200.
        message: the server's words, shortened; empty for an answer.
        of_request: a refusal whose reason is this prompt for certain (too long, moderated).
        text, reasoning: the answer, and what the model wrote before it where the server tells them apart.
        finish_reason, raw_finish_reason: as recorded; as the server said it.
        prompt_tokens, completion_tokens: as the server counts; 0 where it does not.
    """

    kind: Kind
    status: int = 200
    message: str = ""
    of_request: bool = False
    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    raw_finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


def read_reply(status: int, body: bytes, *, max_tokens: int = 0) -> Reply:
    """Reads an answer. Never raises, whatever the body holds.

    Args:
        status: the HTTP status.
        body: what came with it.
        max_tokens: the limit of the request; an unknown finish reason at that many tokens means that the answer was cut.
    """
    words = body.decode("utf-8", "replace")
    if not 200 <= status < 300:
        return failure(status, words)
    try:
        data = json.loads(words)
    except (ValueError, RecursionError) as error:
        return Reply("transient", message=f"no JSON ({type(error).__name__}): {short(words)}")
    if not isinstance(data, dict):
        return Reply("transient", message=f"no chat completion: {short(words)}")
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    inside = (
        data.get("error") or (choice or {}).get("error") or (data if data.get("object") == "error" else None)
    )
    if inside:
        return failure(_error_code(inside), short(json.dumps(inside, ensure_ascii=False)), inside=True)
    if choice is None:
        return Reply("transient", message=f"no chat completion (no choices): {short(words)}")
    return _read_choice(choice, data.get("usage"), words, max_tokens)


def failure(status: int, words: str, *, inside: bool = False) -> Reply:
    """What an error status means."""
    said = f"({status}{', inside an answer with status 200' if inside else ''}): {short(words)}"
    if status == 402 or (status in (403, 429) and _NO_CREDIT.search(words)):
        return Reply("no_credit", status, said)
    if status in (401, 403):
        return Reply("no_access", status, said, of_request=status == 403 and bool(_MODERATION.search(words)))
    if status in (404, 405, 410):
        return Reply("not_found", status, said)
    if status in _RETRY_STATUS or status >= 500:
        return Reply("transient", status, f"the server answered {said}")
    if 300 <= status < 400:
        return Reply("redirect", status, said)
    of_request = status == 413 or bool(_MODERATION.search(words) or _TOO_LONG.search(words))
    return Reply("refused", status, f"the server refused the request {said}", of_request=of_request)


def _read_choice(choice: dict[str, Any], usage: Any, words: str, max_tokens: int) -> Reply:
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content = message.get("content", choice.get("text"))
    text, reasoning = _parts(content)
    reasoning = reasoning or _reasoning(message)
    usage = usage if isinstance(usage, dict) else {}
    raw, native, refusal = (
        choice.get("finish_reason"),
        choice.get("native_finish_reason"),
        message.get("refusal"),
    )
    raw = raw if isinstance(raw, str) else "" if raw is None else json.dumps(raw)
    reason = raw.strip().lower().replace("-", "_").replace(" ", "_")
    said = f"{short(raw)!r}" + (f" ({short(native)})" if isinstance(native, str) and native else "")
    reply = Reply(
        "transient",
        raw_finish_reason=short(raw, 100),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )
    if isinstance(refusal, str) and refusal and not text:
        return replace(reply, kind="refused", message=f"the model refused: {short(refusal)}", of_request=True)
    if reason in _REFUSED:
        return replace(
            reply, kind="refused", message=f"the server ended the completion with {said}", of_request=True
        )
    if reason in _BROKEN:
        return replace(reply, message=f"the server broke the completion off ({said}): {short(words)}")
    known = reason in _STOP or reason in _LENGTH
    if not text and not reasoning and not (known and _may_be_empty(content, reason, reply.completion_tokens)):
        return replace(reply, message=f"no chat completion (no text): {short(words)}")
    cut = reason in _LENGTH or (not known and 0 < max_tokens <= reply.completion_tokens)
    return replace(
        reply,
        kind="answer",
        text=_clean(text),
        reasoning=_clean(reasoning),
        finish_reason="length" if cut else "stop",
    )


def _may_be_empty(content: Any, reason: str, new_tokens: int) -> bool:
    """A model may stop at once, or think until the limit (some servers cut that out). A server that is not ready sends no text either,
    but no tokens.
    """
    return isinstance(content, str) or reason in _LENGTH or new_tokens > 0


def _parts(content: Any) -> tuple[str, str]:
    """Text and reasoning of `content`: a string, an object with text, or a list of parts (Mistral, Anthropic through proxies)."""
    if isinstance(content, str):
        return content, ""
    parts = content if isinstance(content, list) else [content]
    text, reasoning = [], []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict):
            if part.get("type") in _REASONING_PARTS:
                reasoning.append(_text_in(part))
            elif part.get("type") in (None, "text", "output_text"):
                text.append(_text_in(part))
    return "".join(text), "".join(reasoning)


def _reasoning(message: dict[str, Any]) -> str:
    """What a server tells apart as reasoning: `reasoning_content` (DeepSeek, vLLM, SGLang, llama.cpp), `reasoning` (newer vLLM, Ollama,
    OpenRouter, Together), `reasoning_details` (OpenRouter).
    """
    for name in ("reasoning_content", "reasoning", "reasoning_details", "thinking"):
        if found := _text_in(message.get(name)):
            return found
    return ""


def _text_in(value: Any, depth: int = 0) -> str:
    """All text of a value: a string, or what lies in the fields that hold text."""
    if isinstance(value, str) or depth > 5:
        return value if isinstance(value, str) else ""
    if isinstance(value, list):
        return "".join(_text_in(item, depth + 1) for item in value)
    if isinstance(value, dict):
        names = ("text", "thinking", "reasoning", "reasoning_content", "summary", "content")
        return next((found for name in names if (found := _text_in(value.get(name), depth + 1))), "")
    return ""


def _error_code(error: Any) -> int:
    """The HTTP status that an error inside an answer stands for; 500 where it names none."""
    for name in ("code", "status", "status_code"):
        value = error.get(name) if isinstance(error, dict) else None
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    try:
        words = json.dumps(error).lower()
    except RecursionError:  # read in a shallower place than this one
        words = ""
    if "rate_limit" in words or "rate limit" in words:
        return 429
    return 400 if "invalid_request" in words else 500


def _count(value: Any) -> int:
    """A count of tokens, as far as it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return 0  # (math.isfinite makes a float of an integer, which may be too large for one)
    return min(int(value), _MOST_TOKENS)


def _clean(text: str) -> str:
    """The text without lone surrogates, which no UTF-8 file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def short(text: str, limit: int = 300) -> str:
    """One line of a server's words, without what a terminal would act on."""
    return printable(_clean(" ".join(text[: 20 * limit].split())[:limit]))
