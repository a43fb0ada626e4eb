"""Dates: June 20, 20th of June, 4 July 2012, Dec. 25."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY, _YEAR = r"(?P<day>\d{1,2})\s*(?:st|nd|rd|th)?", r"(?:\s*,?\s*(?P<year>\d{4}))?"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"{_NAME}(?:\s+{_DAY}(?!\d))?{_YEAR}",
        rf"(?:the\s+)?{_DAY}\s+(?:day\s+)?(?:of\s+)?{_NAME}{_YEAR}",
    )
)
Date = tuple[int, int, int]


def read(text: str) -> Date | None:
    """(month, day, year), with 0 for what is not said; None where the text is no date."""
    plain = " ".join(re.sub(r"[\u27e6^{}]", " ", text).replace("\u27e7", "").lower().split()).strip(" .")
    for form in _FORMS:
        if match := form.fullmatch(plain):
            return _MONTHS.index(match["month"][:3]) + 1, int(match["day"] or 0), int(match["year"] or 0)
    return None


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Both are dates: equal where month and day agree, and the year where both give one."""
    if len(gold.clean) > 60 or len(pred.clean) > 60 or not gold.wordy:
        return None
    a, b = read(gold.clean), read(pred.clean)
    if a is None or b is None:
        return None
    return a[:2] == b[:2] and (a[2] == b[2] or 0 in (a[2], b[2]))
