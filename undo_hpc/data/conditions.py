"""`where`: which rows of a source are wanted. Pure. A condition and a value are compared as the column's values, however YAML reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

_TRUE, _FALSE = (
    ("true", "yes", "on"),
    ("false", "no", "off"),
)  # YAML reads each of them as a boolean where it is not quoted
_KEPT, _SHOWN, _WIDTH = 1000, 8, 60


def meets(value: Any, condition: Any) -> bool:
    """Whether a column's value meets a condition: a scalar, a list (any of them), or {not: scalar or list} (none of them).

    Of a column of lists one member suffices. A value that is missing (null, NaN, an empty text) meets `null` only.
    """
    if isinstance(condition, Mapping):
        return not meets(value, condition.get("not"))
    if isinstance(condition, list | tuple):
        return any(meets(value, one) for one in condition)
    if isinstance(value, list | tuple):
        return any(_same(item, condition) for item in value)
    return _same(value, condition)


def _same(value: Any, wanted: Any) -> bool:
    if type(value) is type(wanted) is not float and value == wanted:
        return True
    if _missing(value) or _missing(wanted):
        return _missing(value) and _missing(wanted)
    if isinstance(value, bool) or isinstance(wanted, bool):
        truth = _truth(value), _truth(wanted)
        return truth[0] is not None and truth[0] == truth[1]
    if isinstance(value, str) and isinstance(wanted, str):
        return value.strip() == wanted.strip()
    if isinstance(value, Hashable):
        numbers = _number(value), _number(wanted)
        if None not in numbers:
            return numbers[0] == numbers[1]
    return _text(value) == _text(wanted)


def _missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in (*_TRUE, "1") else False if word in (*_FALSE, "0") else None
    return bool(value) if isinstance(value, int | float | Decimal) and value in (0, 1) else None


@lru_cache(4096, typed=True)
def _number(value: Any) -> Decimal | None:
    if isinstance(value, str | int | float | Decimal):
        try:
            number = Decimal(
                repr(value)
                if isinstance(value, float)
                else value.strip()
                if isinstance(value, str)
                else value
            )
        except InvalidOperation:
            return None
        return number if number.is_finite() else None
    return None


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value).strip()


class SeenValues:
    """The values that the columns of the conditions hold, for the message where no row meets them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._seen: dict[str, Counter[Any]] = {name: Counter() for name in names}

    def add(self, name: str, value: Any) -> None:
        """Counts one value (or the members of a list); beyond a thousand different ones only those that are known."""
        seen = self._seen[name]
        for item in value if isinstance(value, list | tuple) else (value,):
            key = (type(item), item if isinstance(item, Hashable) else str(item)[:_WIDTH])
            if key in seen or len(seen) < _KEPT:
                seen[key] += 1

    def told(self) -> str:
        """For example: 'ok' holds true (3), false (1)."""
        parts = []
        for name, seen in self._seen.items():
            values = ", ".join(f"{_shown(value)} ({count})" for (_, value), count in seen.most_common(_SHOWN))
            more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
            parts.append(f"{name!r} holds {values or 'nothing'}{more}")
        return "; ".join(parts)


def _shown(value: Any) -> str:
    if _missing(value):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value[:_WIDTH]) if isinstance(value, str) else _text(value)[:_WIDTH]
