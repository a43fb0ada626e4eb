"""What a check found: all well, a warning, or an error; and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from undo_hpc.errors import DataError

Level = Literal["ok", "warning", "error"]


class Notice(DataError):
    """No reason to refuse, but to be told before a start."""


class NotChecked(Notice):
    """Something could not be checked from here."""


class Attention(Notice):
    """The run can start, and something in it will not be what a reader expects."""


@dataclass(frozen=True)
class Finding:
    """One result of a check. `hint` says what to do where not all is well."""

    level: Level
    what: str
    detail: str
    hint: str = ""
