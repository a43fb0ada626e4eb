"""What the grammar does not know: math-verify's LaTeX parser and comparison, inside of a process that may be killed.

Only its LaTeX path is used: its path for plain text goes through sympy's `parse_expr`, which evaluates Python.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

_DIGITS = (30, 1200)


def warm_up() -> None:
    """Imports the algebra and builds its tables, so that the first answer does not pay for it."""
    logging.disable(logging.WARNING)
    equal(r"\frac{x}{2}+\sqrt{x}", r"\sqrt{x}+0.5x")


def equal(gold: str, pred: str) -> bool | None:
    """Whether two answers that passed the guard are equal by computer algebra; None where one of them cannot be parsed.

    May run for ever: the caller holds the clock.
    """
    if _letters(gold) != _letters(pred) and {c.lower() for c in _letters(gold)} == {
        c.lower() for c in _letters(pred)
    }:
        return False  # math-verify folds case: 3R^2 is not 3r^2
    left, right = _parse(gold), _parse(pred)
    if left is None or right is None:
        return None
    from math_verify import verify

    said = verify([left], [right], timeout_seconds=None, allow_set_relation_comp=True)
    return bool(said) and _confirmed(left, right)


def _letters(text: str) -> set[str]:
    return set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", text))


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _confirmed(left: Any, right: Any) -> bool:
    """A 'true' that may rest on an absolute tolerance is confirmed in relative precision at random points."""
    import sympy

    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return True
    if left.has(sympy.Float) or right.has(sympy.Float) or left == right:
        return True
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    for seed in (3, 7):
        point = {
            name: sympy.Rational((seed * 37 + 11 * i) * (-1) ** (i * seed % 3), 29)
            for i, name in enumerate(names)
        }
        a, b = left.subs(point).doit(), right.subs(point).doit()
        if a == b:
            continue
        try:
            difference, size = (sympy.N(value, _DIGITS[0], maxn=_DIGITS[1]) for value in (a - b, a))
        except (ValueError, TypeError, ArithmeticError):
            continue
        if difference.is_number and size.is_number and abs(difference) > abs(size) * sympy.Float(10) ** -20:
            return False
    return True
