"""Times of day: 12:30, 9:05 p.m."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare

_CLOCK = re.compile(
    r"(\d{1,2})(?::([0-5]\d)(?::([0-5]\d))?\s*(?:([ap])\.?\s?m\.?)?|\s*([ap])\.?\s?m\.?)", re.IGNORECASE
)
Time = tuple[int, int, int, str]


def read(text: str) -> Time | None:
    """(hour, minute, second, 'a', 'p' or '') or None. A ratio such as 11:21 reads as a time as well; equality is the same."""
    match = _CLOCK.fullmatch(re.sub(r"[\u27e6\u27e7]", "", text).strip())
    if not match or int(match[1]) > 24:
        return None
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), (match[4] or match[5] or "").lower()


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Equal where hour, minute and, if both give it, the half of the day agree. Only for times that are no plain ratio."""
    a, b = read(gold.clean), read(pred.clean)
    if a is None or b is None:
        return None
    if a[:3] == b[:3]:
        return not a[3] or not b[3] or a[3] == b[3]
    if bool(a[3]) != bool(b[3]):
        return (_to_24(a) == _to_24(b)) if a[0] != b[0] else False
    return None if not a[3] and _is_ratio(gold.clean) and _is_ratio(pred.clean) else False


def _to_24(time: Time) -> tuple[int, int, int]:
    hour = time[0] % 12 + (12 if time[3] == "p" else 0) if time[3] else time[0]
    return hour, time[1], time[2]


def _is_ratio(text: str) -> bool:
    """`2:10` may be a ratio, `2:05` can not."""
    return not re.search(r":0", text)
