"""What every section of the configuration is made of: fields with their meaning, and a base that refuses unknown keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def result_field(default: Any, text: str, **limits: Any) -> Any:
    """A field with its meaning, whose value belongs to the results."""
    return Field(default, description=text, **limits)


def runtime_field(default: Any, text: str, **limits: Any) -> Any:
    """A field with its meaning, whose value changes speed or looks, never the results."""
    return Field(default, description=text, json_schema_extra={"runtime": True}, **limits)


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
