"""Pairs of answers by kind, in our own words, from `forms.txt`: `gold || prediction || =` for equal, `!` for different; both are bare answers."""

from __future__ import annotations

from pathlib import Path

FORMS: list[tuple[str, str, str, bool]] = []
_kind = ""
for _line in Path(__file__).with_name("forms.txt").read_text(encoding="utf-8").splitlines():
    if _line.startswith("#"):
        _kind = _line[2:]
    else:
        _gold, _pred, _said = (part.strip() for part in _line.split(" || "))
        FORMS.append((_kind, _gold, _pred, _said == "="))
