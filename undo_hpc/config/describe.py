"""The configuration as people read it: every key with its meaning and value, as YAML that loads again."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from undo_hpc.config.fields import Section
from undo_hpc.config.schema import RunConfig

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_UNSAFE = re.compile(
    r"[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]"
)  # YAML refuses these, or reads them as line breaks
_NOT_TEXT = {
    "yes",
    "no",
    "on",
    "off",
    "true",
    "false",
    "null",
    "y",
    "n",
}  # YAML reads these as something else


def to_yaml(value: Any) -> str:
    """A value on one line, as our YAML reads it back."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{to_yaml(k)}: {to_yaml(v)}' for k, v in value.items())}}}"
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def commented_yaml(config: RunConfig, *, width: int = 100, under: str = "", changed: bool = False) -> str:
    """All keys of a configuration with their meanings; a value that is not the default has the default beside it.

    Args:
        under: only this section or key, such as `train.lora`.
        changed: only keys whose value is not the default.
    """
    parts = tuple(under.split(".")) if under else ()
    return "\n".join(_lines(config, RunConfig(), (), parts, width, changed)).strip("\n") + "\n"


def _lines(
    model: Section, default: Section, path: tuple[str, ...], under: tuple[str, ...], width: int, changed: bool
) -> Iterator[str]:
    indent = "  " * len(path)
    for name, info in type(model).model_fields.items():
        here = (*path, name)
        if under[: len(here)] != here[: len(under)]:
            continue
        value, usual = getattr(model, name), getattr(default, name)
        if changed and value == usual:
            continue
        blank = [""] * (not path and isinstance(value, Section))
        yield from blank
        for line in textwrap.wrap(info.description or "", max(40, width - len(indent) - 2)):
            yield f"{indent}# {line}"
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _lines(value, usual, here, under, width, changed)
            continue
        beside = "" if value == usual else f"    # default: {to_yaml(_plain(usual))}"
        yield f"{indent}{name}: {to_yaml(_plain(value))}{beside}"


def _plain(value: Any) -> Any:
    """A value without models in it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def meaning(key: str) -> str:
    """What a dotted key of the configuration is for."""
    model: Any = RunConfig()
    *sections, last = key.split(".")
    for part in sections:
        model = getattr(model, part)
    return str(type(model).model_fields[last].description)
