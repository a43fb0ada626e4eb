"""Whether a tokenizer can render what it will be asked to."""

from __future__ import annotations

from typing import Any

from undo_hpc.chat.template import RenderError, rendered
from undo_hpc.errors import DataError


def check_tokenizer(
    tokenizer: Any, *, name: str = "", system_prompt: str = "", template_kwargs: dict[str, Any] | None = None
) -> None:
    """Makes sure that a tokenizer can render what we will ask it to: a chat with (or without) a system prompt.

    Raises:
        DataError: no chat template, one that refuses the system prompt, or one that drops the user's text.
    """
    name = name or str(getattr(tokenizer, "name_or_path", "")) or "the model"
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            f"{name}: its tokenizer has no chat template",
            hint="take an instruct model, or put a chat_template.jinja into a local copy of the model",
        )
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    chat = [*system, {"role": "user", "content": "7 + 8"}]
    try:
        text = rendered(
            lambda: tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, **(template_kwargs or {})
            )
        )
    except RenderError as error:
        hint = "leave system_prompt empty" if system_prompt else "fix its chat_template.jinja in a local copy"
        raise DataError(f"{name}: its chat template cannot be rendered: {error}", hint=hint) from error
    if "7 + 8" not in text:
        raise DataError(
            f"{name}: its chat template drops the user's text",
            hint="fix its chat_template.jinja in a local copy",
        )
