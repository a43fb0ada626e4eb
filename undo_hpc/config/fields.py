"""What every section of the configuration is made of: fields with their meaning, and a base that refuses unknown keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def result_field(default: Any, text: str, **limits: Any) -> Any:
    """A field with its meaning, whose value belongs to the results."""
    return Field(default, description=text, **limits)


def runtime_field(default: Any, text: str, **limits: Any) -> Any:
    """A field with its meaning, whose value changes speed or looks, never the results."""
    return Field(default, description=text, json_schema_extra={"runtime": True}, **limits)


def adjustable_field(default: Any, text: str, **limits: Any) -> Any:
    """A field with its meaning, whose value belongs to the results and may change in a run all the same: comparisons tell runs apart by it."""
    return Field(default, description=text, json_schema_extra={"runtime": True, "result": True}, **limits)


def wrong_key(path: tuple[str, ...], message: str) -> PydanticCustomError:
    """What a validator of several sections raises: the key that is wrong, counted from the section that validates, and why."""
    return PydanticCustomError("wrong_key", "{message}", {"message": message, "path": path})


def path_component(name: str) -> str:
    """The name of a run or a campaign, which is that of its directory. Raises ValueError for any other."""
    if not name or name in (".", "..") or "/" in name or not name.isprintable():
        raise ValueError("a name is one component of a path: no '/', no control characters")
    return name


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are checked and never converted, nothing changes afterwards.

    A section that is given in part keeps the defaults of its place: `evaluate.sampling` is greedy by default, and stays so where only
    `top_k` is set. (pydantic alone would take the defaults of the class.) A section without a value (`train:` in YAML) is all default. A
    list may be given as its only value.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _keeps_defaults_of_its_place(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name, value in data.items():
            if name in cls.model_fields:
                _require_plain(value, (str(name),))
        result = dict(data)
        for name, info in cls.model_fields.items():
            if get_origin(info.annotation) is list and isinstance(result.get(name), str | int | float):
                result[name] = [result[name]]  # a single value is a list of one
            if name not in result or not isinstance(info.default, Section):
                continue
            if result[name] is None:
                del result[name]
            elif isinstance(result[name], Mapping):
                result[name] = merged(info.default.model_dump(exclude_unset=True), result[name])
        return result


def _require_plain(value: Any, path: tuple[str, ...]) -> None:
    """Refuses what the run's config.resolved.json could not hold as it is: it would change, or fail, when the run is resumed."""
    if isinstance(value, str):
        if "\0" in value:
            raise wrong_key(path, "holds a zero byte, which no path and no name has")
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise wrong_key(path, "holds half a character (a lone surrogate)")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(key, path)
            _require_plain(item, (*path, str(key)))
    elif isinstance(value, list):
        for item in value:
            _require_plain(item, path)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong_key(path, "is a whole number of more than 64 bits; where it is a text, put it in quotes")
    elif isinstance(value, float) and not math.isfinite(value) and len(path) > 1 and path[0] != "where":
        # (of a key by itself the field's own check tells more; in a condition NaN stands for a missing value)
        raise wrong_key(path, f"should be a finite number (it is {value})")
    elif isinstance(value, bytes | set | tuple):
        raise wrong_key(
            path, f"is {type(value).__name__}, which is neither a text, a number, a list nor a mapping"
        )


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` over `base`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
