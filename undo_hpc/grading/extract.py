r"""Finding the answer in a text, in linear time and without looking at the gold answer's value.

Ground truths: `after_hashes` for `#### 42`, `last_boxed` for the last `\boxed{}`, `extract_gold` for either or the plain field.
"""

from __future__ import annotations

from typing import Literal

from undo_hpc.grading.boxes import last_answer

_TRIES = 50  # empty `####` that are passed over
GoldMode = Literal["auto", "plain", "boxed", "hashes"]


def last_boxed(text: str) -> str | None:
    r"""The content of the last non-empty `\boxed{}`; neighbours joined by 'and', 'or' or commas come as one list."""
    box = last_answer(text)
    return box.content if box else None


def after_hashes(text: str) -> str | None:
    """What stands on the line after the last `####`, as in GSM8K; None where there is none or nothing follows."""
    at = text.rfind("####")
    for _ in range(_TRIES):
        if at < 0:
            break
        start = at + 4
        rest = text[start : start + 2000].lstrip(" \t#:").split("\n", 1)[0].strip()
        if rest:
            return rest
        at = text.rfind("####", 0, at)
    return None


def extract_gold(text: str, mode: GoldMode = "auto") -> str | None:
    r"""The ground truth in a field.

    Args:
        text: the field: a bare answer, or a worked solution that ends in `#### 42` or in a `\boxed{}`.
        mode: where the answer stands; `auto` tries hashes, then a box, then takes the field as it is.

    Returns:
        The answer without surrounding white space, or None where it is not there or empty.
    """
    if mode in ("auto", "hashes"):
        found = after_hashes(text)
        if found or mode == "hashes":
            return found
    if mode in ("auto", "boxed"):
        found = last_boxed(text)
        if found or mode == "boxed":
            return found
    return text.strip() or None
