"""Servers that behave as the documentation and the error messages of real providers say: what they accept, how they refuse, what an
answer looks like. Each is one function of the request's body; docs/servers.md is the same in words.

Prompts steer them: "long ..." does not fit into the context, "flagged ..." is moderated, "cut ..." reaches the limit; anything else is
answered with "42".
"""

from __future__ import annotations

from tests.engines.provider import CORE, Answer, Body, Provider, chat, is_, listing, openai_error
from tests.engines.providers_local import llamacpp, ollama, sglang, tgi, vllm


def openai_reasoning(body: Body) -> Answer:
    if "max_tokens" in body:
        return openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("temperature", 1) != 1:
        return openai_error(
            "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
            "temperature",
            "unsupported_value",
        )
    for name in ("top_p", "stop"):
        if name in body:
            said = f"Unsupported parameter: '{name}' is not supported with this model."
            return openai_error(said, name, "unsupported_parameter")
    if unknown := sorted(body.keys() - CORE - {"seed", "max_completion_tokens"}):
        return openai_error(f"Unrecognized request argument supplied: {unknown[0]}")
    if is_("long", body):
        said = "This model's maximum context length is 400000 tokens. However, your messages resulted in 500000 tokens."
        return openai_error(said, "messages", "context_length_exceeded")
    if is_("flagged", body):
        return openai_error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            None,
            "invalid_prompt",
        )
    return chat(body, refusal=None, annotations=[])


def openai_chat(body: Body) -> Answer:
    most = body.get("max_tokens", 0)
    if most > 16384:
        return openai_error(
            f"max_tokens is too large: {most}. This model supports at most 16384 completion tokens, whereas you provided {most}.",
            "max_tokens",
            "invalid_value",
        )
    return openai_reasoning(
        {name: body[name] for name in body.keys() - {"max_tokens", "temperature", "top_p", "stop"}}
    )


def azure(body: Body) -> Answer:
    if is_("flagged", body):
        return 400, {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"hate": {"filtered": True}},
                },
            }
        }
    return openai_chat(body)


def together(body: Body) -> Answer:
    if is_("long", body):
        said = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 1 `max_new_tokens`"
        return 422, {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": None}}
    if 11 + body.get("max_tokens", 0) > 8193:
        said = (
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 11 `inputs` tokens and "
            f"{body['max_tokens']} `max_new_tokens`"
        )
        return 422, {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": None}}
    return chat(body, stop="eos", tool_calls=[])


def mistral(body: Body) -> Answer:
    if extra := sorted(body.keys() - CORE - {"max_tokens", "random_seed"}):
        detail = [
            {
                "type": "extra_forbidden",
                "loc": ["body", name],
                "msg": "Extra inputs are not permitted",
                "input": body[name],
            }
            for name in extra
        ]
        return 422, {"detail": detail}
    if is_("long", body):
        said = "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"
        return 400, {"object": "error", "message": said, "type": "invalid_request_error", "code": "3051"}
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Six times seven."}]},
        {"type": "text", "text": "42"},
    ]
    return chat(body, content=parts, length="model_length")


def deepseek(body: Body) -> Answer:
    if body.get("max_tokens", 0) > 8192:
        return openai_error(
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
            None,
            "invalid_request_error",
        )
    if is_("long", body):
        return openai_error(
            "This model's maximum context length is 65536 tokens. However, you requested 70000 tokens."
        )
    return chat(body, reasoning_content="Six times seven.")


def gemini(body: Body) -> Answer:
    def refused(said: str) -> Answer:
        return 400, [{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}]

    if unknown := sorted(body.keys() - CORE - {"max_tokens", "max_completion_tokens"}):
        return refused(
            "\n".join(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                for name in unknown
            )
        )
    if body.get("max_tokens", 0) > 8192:
        return refused(
            f"Unable to submit request because it has a maxOutputTokens value of {body['max_tokens']} but the supported range is from 1 "
            "(inclusive) to 8193 (exclusive). Update the value and try again."
        )
    if is_("long", body):
        return refused(
            "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576): the input is too long."
        )
    if is_("flagged", body):
        return 200, {
            "choices": [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "PROHIBITED_CONTENT"}]
        }
    return chat(body, stop="STOP", length="MAX_TOKENS")


def anthropic(body: Body) -> Answer:
    def refused(said: str) -> Answer:
        return 400, {"error": {"message": said, "type": "invalid_request_error"}, "type": "error"}

    if "temperature" in body and "top_p" in body:
        return refused(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )
    if body.get("max_tokens", 0) > 8192:
        name = "claude-3-5-sonnet-20241022"
        return refused(
            f"max_tokens: {body['max_tokens']} > 8192, which is the maximum allowed number of output tokens for {name}"
        )
    if is_("long", body):
        return refused("prompt is too long: 250000 tokens > 200000 maximum")
    return chat(body, stop="end_turn", length="max_tokens")


def openrouter(body: Body) -> Answer:
    if is_("flagged", body):
        message = "Your chosen model requires moderation and your input was flagged"
        return 403, {
            "error": {
                "code": 403,
                "message": message,
                "metadata": {"reasons": ["violence"], "provider_name": "X"},
            }
        }
    if is_("long", body):
        said = "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens (9000 of text input)."
        return 400, {"error": {"code": 400, "message": said}}
    status, answer = chat(body, reasoning="Six times seven.", refusal=None)
    answer["choices"][0]["native_finish_reason"] = "completed"
    return status, answer


USUAL = {"temperature": 0.7, "top_p": 0.95}
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
PROVIDERS = [
    Provider(
        "openai reasoning",
        openai_reasoning,
        {"max_completion_tokens": 20000},
        3,
        flagged="refused the request (400)",
    ),
    Provider(
        "openai",
        openai_chat,
        USUAL | {"max_tokens": 16384},
        1,
        flagged="refused the request (400)",
        listing=listing("system"),
    ),
    Provider("azure", azure, USUAL | {"max_tokens": 16384}, 1, flagged="content_filter"),
    Provider(
        "vllm",
        vllm,
        USUAL | NEUTRAL | {"max_tokens": 8181},
        -1,
        reasoning="Six times seven.",
        listing=listing("vllm"),
    ),
    Provider(
        "sglang",
        sglang,
        USUAL | NEUTRAL | {"max_tokens": 8181},
        -1,
        reasoning="Six times seven.",
        raw="",
        listing=listing("sglang"),
    ),
    Provider("tgi", tgi, USUAL | {"max_tokens": 8181}, -1, raw="eos_token"),
    Provider(
        "llama.cpp",
        llamacpp,
        USUAL | {"max_tokens": 20000, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
        reasoning="Six times seven.",
        listing=listing("llamacpp"),
    ),
    Provider(
        "ollama",
        ollama,
        USUAL | {"max_tokens": 20000},
        reasoning="Six times seven.",
        listing=listing("library"),
    ),
    Provider(
        "together",
        together,
        USUAL | {"max_tokens": 8182},
        -1,
        raw="eos",
        listing=[{"id": "some/model", "type": "chat"}],
    ),
    Provider(
        "mistral",
        mistral,
        USUAL | {"max_tokens": 20000},
        1,
        sends_seed=False,
        reasoning="Six times seven.",
        raw_cut="model_length",
    ),
    Provider("deepseek", deepseek, USUAL | {"max_tokens": 8192}, 1, reasoning="Six times seven."),
    Provider(
        "gemini",
        gemini,
        USUAL | {"max_tokens": 8192},
        2,
        sends_seed=False,
        raw="STOP",
        raw_cut="MAX_TOKENS",
        flagged="PROHIBITED_CONTENT",
    ),
    Provider(
        "anthropic",
        anthropic,
        {"temperature": 0.7, "max_tokens": 8192},
        2,
        raw="end_turn",
        raw_cut="max_tokens",
    ),
    Provider(
        "openrouter",
        openrouter,
        USUAL | {"max_tokens": 20000},
        reasoning="Six times seven.",
        flagged="moderation",
    ),
]
