"""From a prompt to the token ids a model sees: the chat template, the system prompt, and where a completion ends."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

from undo_hpc.chat.plain_text import PlainText, ids_of
from undo_hpc.chat.reasoning import normal_form, opened_by, reasoning_tokens
from undo_hpc.chat.template import RenderError, clock_of, prints_date, rendered
from undo_hpc.config.schema import ModelConfig
from undo_hpc.errors import loading
from undo_hpc.models.own_files import own_files
from undo_hpc.models.resolve import resolve_model
from undo_hpc.models.tokenizer import check_tokenizer
from undo_hpc.system.logs import adopt

_MARK = "\x07answer\x07"


class Chat:
    """The chat side of a model, the same for each in-process engine.

    Args:
        model: whose tokenizer and template; loaded from `path` where that is given.

    Attributes:
        opened: what the prompt ends with where the template opens a block of reasoning; else empty.
        stop_ids: token ids that end a completion: the model's EOS tokens and the template's end of turn.

    Raises:
        DataError: the tokenizer cannot be loaded, or has no usable chat template.
    """

    def __init__(self, model: ModelConfig, path: str = "") -> None:
        self.config = model
        self.path = path or resolve_model(model.model)
        self.tokenizer = load_tokenizer(self.path, model)
        check_tokenizer(
            self.tokenizer,
            name=model.model,
            system_prompt=model.system_prompt,
            template_kwargs=model.chat_template_kwargs,
        )
        self._plain = PlainText.of(self.tokenizer)
        self._arguments = {**clock_of(model.date), **model.chat_template_kwargs}
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | set(self.tokenizer.all_special_ids)
        self.stop_ids = self._stop_ids()
        names = {self.tokenizer.convert_ids_to_tokens(i): i for i in self._special}
        self._marks = {names[name] for name in reasoning_tokens(names)} - self.stop_ids
        self.opened = opened_by(self._rendered("?"))

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the chat with this user's turn, up to where the answer begins."""
        rendered_prompt = self._rendered(self._plain.cover(prompt))
        return ids_of(
            lambda texts: self.tokenizer(texts, add_special_tokens=False)["input_ids"], [rendered_prompt]
        )[0]

    def _rendered(self, prompt: str) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages(self.config.system_prompt, prompt),
                tokenize=False,
                add_generation_prompt=True,
                **self._arguments,
            )
        )

    def longest(self, prompts: Sequence[str]) -> int:
        """Tokens of the longest of these prompts, the template's included; 0 where there is none."""
        return max((len(self.encode(prompt)) for prompt in prompts), default=0)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a whole completion, its reasoning in the normal form (`chat/reasoning.py`), without other special tokens."""
        return self.normal_form(self.raw_text(ids))

    def raw_text(self, ids: Sequence[int]) -> str:
        """The text of these ids as written. Special tokens are left out, except for those that separate reasoning from answer."""
        ids = list(ids)
        marked = not self._marks.isdisjoint(ids)
        if marked:
            ids = [i for i in ids if i in self._marks or i not in self._special]
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=not marked, clean_up_tokenization_spaces=False
        )
        return text

    def normal_form(self, text: str) -> str:
        """A whole completion's raw text with its reasoning in the normal form, also where the prompt opened the block."""
        return normal_form(text, self.opened)

    @property
    def template(self) -> str:
        """The text of the chat template."""
        return str(self.tokenizer.chat_template)

    def describe(self) -> dict[str, Any]:
        """What a completion depends on beside the engine."""
        return {
            "model": self.config.model,
            "revision": self.config.revision,
            "template_sha": hashlib.sha256(self.template.encode()).hexdigest()[:16],
            "system_prompt": self.config.system_prompt,
            "chat_template_kwargs": dict(self.config.chat_template_kwargs)
            | ({"strftime_now": self.config.date} if prints_date(self.template) else {}),
            "stop_ids": sorted(self.stop_ids),
        }

    def _stop_ids(self) -> frozenset[int]:
        from transformers import GenerationConfig

        ids = {self.tokenizer.eos_token_id}
        what = f"{self.config.model}: its generation_config.json cannot be read"
        with loading(what, hint=loading_hint(self.path)), contextlib.suppress(OSError):
            # Of a model without it the tokenizer's EOS stands alone.
            settings = GenerationConfig.from_pretrained(self.path, revision=self.config.revision or "main")
            eos = settings.eos_token_id
            ids.update(eos if isinstance(eos, list) else [eos])
        # A base model's EOS may not be what its template closes a turn with (Qwen2.5: <|endoftext|> and <|im_end|>).
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        try:
            text = rendered(
                lambda: self.tokenizer.apply_chat_template(chat, tokenize=False, **self._arguments)
            )
        except (
            RenderError
        ):  # a template that refuses answers: training ends them with the tokenizer's EOS then
            text = ""
        closing = self.tokenizer(text.rpartition(_MARK)[2].lstrip(), add_special_tokens=False)["input_ids"]
        ids.update(
            [i for i in closing if i in self._special][:1]
        )  # what training teaches as the end of a turn
        return frozenset(i for i in ids if i is not None)


def messages(system_prompt: str, prompt: str) -> list[dict[str, str]]:
    """The chat of one request."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": prompt}]


def load_tokenizer(path: str, model: ModelConfig) -> Any:
    """The tokenizer of a resolved model. Raises DataError where it cannot be loaded."""
    from transformers import AutoTokenizer

    adopt("transformers")
    with (
        own_files(path, model.revision),
        loading(f"{model.model}: its tokenizer cannot be loaded", hint=loading_hint(path)),
    ):
        loaded = AutoTokenizer.from_pretrained(
            path, revision=model.revision or None, trust_remote_code=model.trust_remote_code
        )
    return loaded


def loading_hint(path: str) -> str:
    """What to do about a model that cannot be loaded."""
    return (
        f"check the files in {path}"
        if path.startswith("/")
        else "check the id, log in where the model is gated (HF_TOKEN), or download it first and name the directory"
    )
