"""Servers that people run themselves: vLLM, SGLang, TGI, llama.cpp, Ollama."""

from __future__ import annotations

from tests.engines.provider import Answer, Body, chat, is_


def vllm(body: Body) -> Answer:
    if is_("long", body):
        said = (
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. "
            "Please reduce the length of the input messages."
        )
        return 400, {"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}}
    if body.get("max_tokens", 0) > 8192 - 11:
        said = (
            f"'max_tokens' or 'max_completion_tokens' is too large: {body['max_tokens']}. This model's maximum context length is 8192 "
            f"tokens and your request has 11 input tokens ({body['max_tokens']} > 8192 - 11)."
        )
        return 400, {
            "error": {"message": said, "type": "BadRequestError", "param": "max_tokens", "code": 400}
        }
    assert {"top_k", "min_p", "repetition_penalty", "top_p", "temperature"} <= body.keys(), (
        "else generation_config.json applies"
    )
    return chat(body, reasoning="Six times seven.", reasoning_content="Six times seven.", tool_calls=[])


def sglang(body: Body) -> Answer:
    if body.get("top_k", -1) == 0:
        return 400, {
            "object": "error",
            "message": "top_k must be -1 (disable), or at least 1, got 0.",
            "type": "BadRequestError",
            "code": 400,
        }
    if is_("long", body):
        said = "The input (9000 tokens) is longer than the model's context length (8192 tokens)."
        return 400, {
            "object": "error",
            "message": said,
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
    total = 11 + body.get("max_tokens", 0)
    if total > 8192:
        said = (
            f"Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of {total} tokens: "
            f"11 tokens from the input messages and {body['max_tokens']} tokens for the completion."
        )
        return 400, {
            "object": "error",
            "message": said,
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        }
    return chat(body, stop="", reasoning_content="Six times seven.")


def tgi(body: Body) -> Answer:
    def refused(said: str) -> Answer:
        return 422, {"error": f"Input validation error: {said}", "error_type": "validation"}

    if is_("long", body):
        return refused("`inputs` must have less than 4096 tokens. Given: 9000. The input is too long")
    if not 0 < body.get("top_p", 0.5) < 1:
        return refused("`top_p` must be > 0.0 and < 1.0")
    if body.get("temperature", 1) <= 0:
        return refused("`temperature` must be strictly positive")
    if 11 + body.get("max_tokens", 0) > 8192:
        most = body["max_tokens"]
        return refused(
            f"`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 11 `inputs` tokens and {most} `max_new_tokens`"
        )
    return chat(body, stop="eos_token")


def llamacpp(body: Body) -> Answer:
    if is_("long", body):
        said = "the request exceeds the available context size (8192 tokens), try increasing it"
        return 400, {
            "error": {
                "code": 400,
                "message": said,
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 8192,
            }
        }
    assert body["top_k"] == 0 and body["min_p"] == 0, "else its own 40 and 0.05 apply"
    return chat(body, reasoning_content="Six times seven.")


def ollama(body: Body) -> Answer:
    # It ignores what it does not know, and cuts a long prompt without a word.
    return chat(body, reasoning="Six times seven.")
