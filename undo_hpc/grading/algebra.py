"""What the grammar does not know: math-verify's LaTeX parser and comparison, inside of a process that may be killed, behind a static guard.

The guard lets through what is short, flat, small, and made of mathematical characters only. Only the LaTeX path is used: that for plain
text goes through sympy's `parse_expr`, which evaluates Python.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from itertools import accumulate
from typing import Any

MAX_LENGTH, MAX_DEPTH, MAX_DIGITS, MAX_EXPONENT, MAX_FACTORIAL, MAX_TERMS = 600, 12, 60, 400, 200, 1000
_ALLOWED = re.compile(r"[A-Za-z0-9\s\\{}()\[\]|+\-*/^_=<>!.,&%'°]*")
_EXPONENT = re.compile(r"\^\s*\{?\s*[+-]?\s*(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*!")
_BOUND = re.compile(r"\\(?:sum|prod|bigcup|bigcap)[^A-Za-z]")
_REFUSED = {  # why: what looks like it
    "looks like program code": r"__|\b(?:import|lambda|eval|exec|getattr|globals)\b|\bopen\s*\(|\.\s*[a-z_]{3,}\s*\(",
    "a tower of powers": r"\^\s*\{?\s*\d+\s*\^\s*\{?\s*\d|\^\s*\{?[^{}^]{0,20}\^\s*\{?[^{}^]{0,20}\^",
    "a factorial of a factorial": r"![\s)}\]]*!",
    "a large binomial": r"\\[dt]?binom\s*\{[^{}]*(?:\^|\d{5})",
    "a sum up to a power or a factorial": r"\\(?:sum|prod|bigcup|bigcap)\s*(?:_\s*(?:\{[^{}]*\}|\w)\s*)?\^\s*\{[^{}]*[\^!]",
}
_REFUSALS = {reason: re.compile(pattern) for reason, pattern in _REFUSED.items()}


class OutOfBounds(ValueError):
    """An expression that is not fit for a computer algebra system."""


def check(text: str) -> None:
    """Raises OutOfBounds with the reason where an expression is not fit for a computer algebra system."""
    if len(text) > MAX_LENGTH or not _ALLOWED.fullmatch(text):
        raise OutOfBounds(f"longer than {MAX_LENGTH} characters, or with some that mathematics does not use")
    for reason, pattern in _REFUSALS.items():
        if pattern.search(text.replace("**", "^")):
            raise OutOfBounds(reason)
    steps = (1 if bracket in "([{" else -1 for bracket in re.findall(r"[()\[\]{}]", text))
    uneven = text.replace("\\{", "").count("{") != text.replace("\\}", "").count("}")
    if uneven or max(accumulate(steps), default=0) > MAX_DEPTH:
        raise OutOfBounds(f"braces that do not match, or are nested deeper than {MAX_DEPTH}")
    numbers = re.findall(r"\d+", text)
    terms = 10**MAX_DIGITS if not _BOUND.search(text + " ") else MAX_TERMS
    bounds = (_EXPONENT.findall(text), MAX_EXPONENT), (_FACTORIAL.findall(text), MAX_FACTORIAL)
    for found, most in ((numbers, terms), *bounds):
        if any(len(number) > MAX_DIGITS or int(number) > most for number in found):
            raise OutOfBounds(f"a number, an exponent, a factorial or a bound above {most}")


def warm_up() -> None:
    """Imports the algebra and builds its tables, so that the first answer does not pay for it."""
    logging.disable(logging.WARNING)
    equal(r"\frac{x}{2}+\sqrt{x}", r"\sqrt{x}+0.5x")


def equal(gold: str, pred: str) -> bool | None:
    """Whether two answers that passed the guard are equal by computer algebra; None where one of them cannot be parsed.

    May run for ever: the caller holds the clock.
    """
    names = [set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", text)) for text in (gold, pred)]
    if names[0] != names[1] and {c.lower() for c in names[0]} == {c.lower() for c in names[1]}:
        return False  # math-verify folds case: 3R^2 is not 3r^2
    left, right = _parse(gold), _parse(pred)
    if left is None or right is None:
        return None
    from math_verify import verify

    said = verify([left], [right], timeout_seconds=None, allow_set_relation_comp=True)
    return bool(said) and _confirmed(left, right)


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _confirmed(left: Any, right: Any) -> bool:
    """A 'true' that may rest on an absolute tolerance is confirmed in relative precision at two points."""
    import sympy

    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return True
    if left.has(sympy.Float) or right.has(sympy.Float) or left == right:
        return True
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    for seed in (3, 7):
        sizes = [(seed * 37 + 11 * i) * (-1) ** (i * seed % 3) for i in range(len(names))]
        point = {name: sympy.Rational(size, 29) for name, size in zip(names, sizes, strict=True)}
        a, b = left.subs(point).doit(), right.subs(point).doit()
        try:
            difference, size = (sympy.N(value, 30, maxn=1200) for value in (a - b, a))
        except (ValueError, TypeError, ArithmeticError):
            continue
        if difference.is_number and size.is_number and abs(difference) > abs(size) * sympy.Float(10) ** -20:
            return False
    return True
