"""What a check found: well, worth a look, or in the way; and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "look", "bad"]


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's sheet. `hint` says what to do where not all is well."""

    level: Level
    what: str
    detail: str
    hint: str = ""
