"""What a check found: all well, a warning, or an error; and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from undo_hpc.errors import DataError

Level = Literal["ok", "warning", "error"]


class NotChecked(DataError):
    """Something could not be checked from here: no reason to refuse, but to be told."""


@dataclass(frozen=True)
class Finding:
    """One result of a check. `hint` says what to do where not all is well."""

    level: Level
    what: str
    detail: str
    hint: str = ""
