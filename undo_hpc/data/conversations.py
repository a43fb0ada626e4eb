"""Conversations in a column: `messages` (role, content), `conversations` (from, value), with contents as text or as typed parts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_USER, _MODEL = ("user", "human"), ("assistant", "gpt", "model")
_TEXT_PARTS = ("text", "input_text", "output_text")
_THINKING_PARTS = ("thinking", "reasoning", "redacted_thinking")


class Unusable(Exception):
    """A row cannot be used; the text is the reason as the user reads it. The row is listed and the others are read."""


def turn(value: Any, meaning: str) -> Any:
    """The turn of a conversation that a meaning asks for: the problem is the user's, the rest the model's; typed parts as one text.

    A conversation may also be JSON text (a cell of a CSV) or columns ({role: [...], content: [...]}, as `datasets` stores sequences).
    What is no conversation is given back as it is. Raises Unusable where there is not exactly one such turn, or it holds no text.
    """
    if isinstance(value, str) and not value.lstrip().startswith("[{"):
        return value
    said = _conversation(value)
    if said is None:
        return _joined(value, meaning)
    wanted, who = (_USER, "user") if meaning == "problem" else (_MODEL, "assistant")
    found = [
        one.get("content", one.get("value", one.get("parts"))) for one in said if _speaker(one) in wanted
    ]
    if len(found) != 1:
        raise Unusable(
            f"the conversation has {len(found) or 'no'} turn{'s'[: len(found) > 1]} of the {who}, not one"
        )
    said_text = found[0]
    if isinstance(said_text, list) and said_text and all(isinstance(part, str) for part in said_text):
        return "".join(said_text)
    return _joined(said_text, meaning)


def _conversation(value: Any) -> Sequence[Mapping[str, Any]] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping):
        speakers, texts = (value.get(a, value.get(b)) for a, b in (("role", "from"), ("content", "value")))
        if not (isinstance(speakers, list) and isinstance(texts, list) and len(speakers) == len(texts)):
            return None
        value = [{"role": speaker, "content": text} for speaker, text in zip(speakers, texts, strict=True)]
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and _speaker(one) for one in value):
        return value
    return None


def _speaker(said: Mapping[str, Any]) -> str:
    return str(said.get("role") or said.get("from") or "")


def _kind(part: Mapping[str, Any]) -> str:
    """The type of a part; a part that holds a text alone is one of text."""
    kind = part.get("type", "text" if list(part) == ["text"] else "")
    return kind if isinstance(kind, str) else ""


def _joined(value: Any, meaning: str) -> Any:
    """Typed parts as one text. Of thinking, a solution keeps `<think>` blocks; for problem and answer it counts nothing."""
    parts = [value] if isinstance(value, Mapping) else value
    typed = (
        isinstance(parts, list) and parts and all(isinstance(part, Mapping) and _kind(part) for part in parts)
    )
    if not typed:
        return value
    texts = []
    for part in parts:
        kind = _kind(part)
        if kind in _THINKING_PARTS:
            thought = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            inner = _joined(thought, meaning) if isinstance(thought, list) else thought
            texts += [f"<think>\n{inner}\n</think>\n\n"] if meaning == "solution" and inner else []
        elif kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise Unusable(f"{meaning} holds a part of type {kind[:40]!r}, not only text")
    return "".join(texts)
