"""Comparing two values by the table of rules, and putting together what rules say.

A rule says True, False, or None where only computer algebra can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from undo_hpc.grading.values import Dots, Unread, Value

Said = bool | None
Rule = Callable[[Any, Any], Said]
RULES: dict[tuple[type[Value], type[Value]], Rule] = {}  # filled by `equality`


def equal(a: Value, b: Value) -> Said:
    """Whether two values are the same answer."""
    if a == b:
        return None if isinstance(a, Unread) else True
    if rule := RULES.get((type(a), type(b))):
        return rule(a, b)
    rule = RULES.get((type(b), type(a)))
    return rule(b, a) if rule else False


def every(said: Iterable[Said]) -> Said:
    """All are True; a False decides, else a None."""
    found = list(said)
    return False if False in found else None if None in found else True


def some(said: Iterable[Said]) -> Said:
    """One is True; else None where one is in doubt."""
    found = list(said)
    return True if True in found else None if None in found else False


def in_order(a: Iterable[Value], b: Iterable[Value]) -> Said:
    """The same items in the same order; the first difference ends it."""
    x, y = list(a), list(b)
    doubt = False
    for p, q in zip(x, y, strict=False):
        said = equal(p, q)
        if said is False:
            return False
        doubt |= said is None
    return False if len(x) != len(y) else None if doubt else True


def in_any_order(a: tuple[Value, ...], b: tuple[Value, ...]) -> Said:
    """The items pair off in some order; with dots among them the order counts."""
    if len(a) != len(b):
        return False
    if any(isinstance(v, Dots) for v in (*a, *b)):
        return in_order(a, b)
    left, doubt = list(b), False
    for item in a:
        said = [equal(item, other) for other in left]
        if True in said:
            del left[said.index(True)]
        elif None not in said:
            return False
        doubt |= True not in said
    return None if doubt else True


def distinct(items: tuple[Value, ...]) -> tuple[Value, ...]:
    """The items without those that are equal to one before."""
    out: list[Value] = []
    for item in items:
        if not any(equal(item, other) for other in out):
            out.append(item)
    return tuple(out)
