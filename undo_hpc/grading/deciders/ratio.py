"""Ratios: 3:4 against 6:8 or 3/4. Open sequences with dots are equal only as written."""

from __future__ import annotations

import re

from undo_hpc.grading.answer import Answer
from undo_hpc.grading.deciders import Compare
from undo_hpc.grading.deciders.expression import constant_ratio, identical
from undo_hpc.grading.scan import split_top
from undo_hpc.grading.syntax import Node, parse

_LEADING_ZERO = re.compile(r":\s*0\d")
_DOTS = re.compile(r"\\ldots|\.\.\.")


def _terms(text: str) -> list[Node] | None:
    if ":" not in text or "=" in text or _LEADING_ZERO.search(text):  # 1:04 is a time
        return None
    parts = [parse(part.strip()) for part in split_top(text, ":")]
    return (
        [part for part in parts if part is not None]
        if all(part is not None for part in parts) and len(parts) > 1
        else None
    )


def decide(gold: Answer, pred: Answer, compare: Compare) -> bool | None:
    """Proportional term by term; a ratio of two terms also equals their quotient."""
    if _DOTS.search(gold.clean) or _DOTS.search(pred.clean):
        return False if re.search(r"[,:+]", gold.clean) else None
    if ":" not in gold.clean and ":" not in pred.clean:
        return None
    if (
        ":" in gold.clean
        and ":" in pred.clean
        and (_LEADING_ZERO.search(gold.clean) or _LEADING_ZERO.search(pred.clean))
    ):
        return False
    a, b = (
        _terms(gold.clean.replace("\u27e6to\u27e7", ":")),
        _terms(pred.clean.replace("\u27e6to\u27e7", ":")),
    )
    if a is None and b is None:
        return None
    if a is not None and b is not None:
        if len(a) != len(b):
            return False
        factors = [constant_ratio(x, y) for x, y in zip(a, b, strict=True)]
        return all(factor == factors[0] and factor for factor in factors)
    terms, other = (a, pred.node) if a is not None else (b, gold.node)
    if terms is None or len(terms) != 2 or other is None:
        return None
    return identical(("div", terms[0], terms[1]), other)
