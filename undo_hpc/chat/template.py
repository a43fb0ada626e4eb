"""Chat templates: rendered without torch or transformers, as transformers renders them, and with a clock that stands still.

transformers compiles templates in a sandboxed jinja2 environment with trimmed blocks, loop controls, `raise_exception`,
`strftime_now` and a `tojson` of its own; the same stands here, so that a login node can look at what training will see.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError
from undo_hpc.system.data_files import json_object

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], bool], str]
"""Messages and whether the generation prompt follows -> text. Raises RenderError."""

_STRFTIME = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class RenderError(Exception):
    """A chat template refused these messages, or failed on them."""


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template with what it is rendered with.

    Attributes:
        source: the template's text (jinja2).
        special_tokens: name -> token, such as eos_token, which the template may write.
        kwargs: arguments of the configuration (`chat_template_kwargs`).
        date: the day that `strftime_now` tells, YYYY-MM-DD; empty for today.
    """

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    @property
    def eos_token(self) -> str:
        """The tokenizer's end of text; empty where it has none."""
        return self.special_tokens.get("eos_token", "")

    def render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        """The chat as text, with the beginning of the next answer where asked for. Raises RenderError."""
        values = {**self.special_tokens, **clock_of(self.date), **self.kwargs}
        return rendered(
            lambda: _compiled(self.source).render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **values,
            )
        )

    @classmethod
    def load(cls, folder: Path, *, kwargs: Mapping[str, Any] | None = None, date: str = "") -> ChatTemplate:
        """From a model directory's chat_template.jinja or tokenizer_config.json, as transformers takes a tokenizer's. Raises DataError where
        there is none.
        """
        path = folder / "tokenizer_config.json"
        settings = json_object(path) if path.is_file() else {}
        special = {name: _token(settings[name]) for name in _SPECIAL if settings.get(name)}
        own = folder / "chat_template.jinja"
        try:
            source = own.read_text(encoding="utf-8") if own.is_file() else settings.get("chat_template")
        except ValueError as error:
            raise DataError(f"{own} is not UTF-8: {error}", hint="copy the model's file again") from error
        if isinstance(source, list):  # several named ones
            named = {str(each.get("name")): each.get("template") for each in source if isinstance(each, dict)}
            source = named.get("default")
        if not source:
            raise DataError(
                f"{folder}: its tokenizer has no chat template",
                hint="take an instruct model, or put a chat_template.jinja into a local copy of the model",
            )
        return cls(str(source), special, dict(kwargs or {}), date)


def clock_of(date: str) -> dict[str, Any]:
    """`strftime_now` for a template's arguments, telling noon of that day (YYYY-MM-DD); nothing where `date` is empty."""
    return {"strftime_now": datetime.datetime.fromisoformat(f"{date}T12:00:00").strftime} if date else {}


def with_fixed_date(source: str, date: str) -> str:
    """A template's text with its calls of `strftime_now` replaced by what they give on that day (YYYY-MM-DD), for servers, which
    take no function as an argument. Calls whose format is computed stay.
    """
    strftime = clock_of(date)["strftime_now"] if date else None
    if strftime is None:
        return source
    return _STRFTIME.sub(lambda call: json.dumps(strftime(call["format"]), ensure_ascii=False), source)


def prints_date(source: str) -> bool:
    """Whether a template asks for the time."""
    return "strftime_now" in source


def rendered(render: Callable[[], Any]) -> str:
    """What a template gives. Whatever it fails with becomes a RenderError: templates are code of other people."""
    try:
        text = str(render())
        text.encode()  # a lone surrogate is no text for any tokenizer
        return text
    except Exception as error:
        raise RenderError(f"{type(error).__name__}: {error}".split("\n")[0][:300]) from error


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> Any:
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the answer for transformers; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012 -- jinja2's interface

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment.from_string(source)
