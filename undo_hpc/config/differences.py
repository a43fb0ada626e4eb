"""In what two configurations differ, and whether it matters. Apart from load.py: a look at a run needs this, and no YAML."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from undo_hpc.config.schema import RunConfig


def models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models inside an annotation; True where they are values of a mapping with free keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from models_in(part)
    elif get_origin(annotation) is dict:
        for model, _ in models_in(get_args(annotation)[1]):
            yield model, True


def differing_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) for each leaf that differs."""
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differing_keys(a, b, (*path, key))
        elif a != b:
            yield ".".join((*path, key)), a, b


def may_change(key: str) -> bool:
    """Whether a dotted key may change in an existing run."""
    return "runtime" in _marks(key)


def is_neutral(key: str) -> bool:
    """Whether a dotted key touches no result: runs that differ in it alone are of one group. (`iterations` may change, and is not.)"""
    marks = _marks(key)
    return "runtime" in marks and "result" not in marks


def _marks(key: str) -> Mapping[str, Any]:
    """What config/fields.py has put on the first field of the key that may change; nothing where there is none."""
    current: type[BaseModel] = RunConfig
    for part in key.split("."):
        info = current.model_fields.get(part)
        if info is None:
            break
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime"):
            return info.json_schema_extra
        inner = [m for m, _ in models_in(info.annotation)]
        if not inner:
            break
        current = inner[0]
    return {}
