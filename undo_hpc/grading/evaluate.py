"""Evaluating nodes: exactly with fractions as long as that is possible, else with mpmath. Sizes are bounded throughout."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from undo_hpc.grading.tables import FUNCTIONS
from undo_hpc.grading.values import Node, kinds, symbols

MAX_BITS = 100_000
MAX_FACTORIAL = 3000
MAX_TERMS = 400
REAL = "\0real"  # in an environment: roots and logarithms of negative numbers have no value
TEN = "\0ten"  # in an environment: `log` without a base is decimal
LARGE = "\0large"  # in an environment: powers beyond exact arithmetic are rounded, which tells what differs, not what is equal
Env = dict[str, Any]
_REAL_ONLY = ("max", "min", "sgn", "gcd", "lcm")
_UNBOUNDED = ("sqrt", "ln", "log", "lg", "abs", "max", "min")


class TooLarge(ValueError):
    """The value is beyond what is worth computing; the expression is left undecided."""


class Undefined(ValueError):
    """The expression has no value here: a division by zero, infinity, a symbol without a value."""


class Unreadable(ValueError):
    """The expression holds what cannot be evaluated at all."""


NO_VALUE = (TooLarge, Undefined, Unreadable, ArithmeticError, ValueError, TypeError)


@lru_cache(maxsize=4)
def context(digits: int = 40) -> Any:
    """An mpmath context of this precision; mpmath is imported when first needed."""
    import mpmath

    found = mpmath.mp.clone()
    found.dps = digits
    return found


def evaluate(node: Node, env: Env, mp: Any = None) -> Any:
    """The value: a Fraction where the form gives one, else a number of the mpmath context `mp`.

    Raises Undefined at poles and for infinities, TooLarge where a size is out of all proportion, Unreadable for other nodes.
    """
    kind = node[0]
    mp = mp or context()
    if kind == "num":
        return node[1]
    if kind == "sym":
        if node[1] not in env:
            raise Undefined(node[1])
        return env[node[1]]
    if kind == "const":
        if node[1] == "infty":
            raise Undefined("infinity")
        return {"pi": mp.pi, "e": mp.e, "i": mp.j, "degree": mp.pi / 180}[node[1]] * 1
    if kind in ("neg", "percent"):
        return evaluate(node[1], env, mp) * (Fraction(1, 100) if kind == "percent" else -1)
    if kind in _BINARY:
        return _bounded(_BINARY[kind](evaluate(node[1], env, mp), evaluate(node[2], env, mp), env, mp), mp)
    if kind in ("fact", "fact2"):
        return _factorial(kind, evaluate(node[1], env, mp), mp)
    if kind == "fn":
        degree = evaluate(node[3], env, mp) if node[3] is not None else None
        return _bounded(_function(node[1], [evaluate(a, env, mp) for a in node[2]], degree, env, mp), mp)
    if kind == "big":
        return _big(node, env, mp)
    raise Unreadable(kind)


@lru_cache(maxsize=8192)
def rational(node: Node) -> Fraction | None:
    """The exact value of a node without variables, if its form gives one."""
    if symbols(node) or kinds(node) & {"const", "apply"}:
        return None
    try:
        value = evaluate(node, {})
    except NO_VALUE:
        return None
    return value if isinstance(value, Fraction) else None


@lru_cache(maxsize=8192)
def number(node: Node, digits: int = 40) -> Any:
    """The numerical value of a node without variables (mpmath), or None where it has none or cannot be read."""
    try:
        return context(digits).convert(evaluate(node, {}, context(digits)))
    except NO_VALUE:
        return None


def _bounded(value: Any, mp: Any) -> Any:
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise TooLarge("digits")
    elif not mp.isfinite(value):
        raise Undefined("not finite")
    return value


def _divide(a: Any, b: Any, env: Env, mp: Any) -> Any:
    if b == 0:
        raise Undefined("division by zero")
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else mp.convert(a) / mp.convert(b)


def _modulo(a: Any, b: Any, env: Env, mp: Any) -> Any:
    if b == 0 or mp.im(a) or mp.im(b):
        raise Undefined("modulus")
    return a + -b * _step("floor", _divide(a, b, env, mp), mp)


def _power(a: Any, b: Any, env: Env, mp: Any) -> Any:
    exact = isinstance(b, Fraction)
    if a == 0:
        if mp.re(b) <= 0:
            raise Undefined("zero to a power that is not positive")
        return a
    if exact and b.denominator == 1 and isinstance(a, Fraction):
        size = max(a.numerator.bit_length(), a.denominator.bit_length())
        small = abs(a) == 1 or abs(b) * size <= MAX_BITS
        if not small and LARGE not in env:
            raise TooLarge("power")
        if small:
            return a ** int(b) if abs(a) != 1 else a ** int(b % 2)
    if not mp.im(a) and mp.re(a) < 0:
        if exact and b.denominator % 2 and 1 < b.denominator < 1000 and abs(b.numerator) < 10**6:
            return (-mp.root(-mp.convert(a), b.denominator)) ** b.numerator  # a real root
        if REAL in env and not (exact and b.denominator % 2):
            raise Undefined("a root of a negative number")
    a, b = mp.convert(a), mp.convert(b)
    if abs(b) > 1e15 or (abs(b) > 1 and abs(mp.log(abs(a))) * abs(b) > 1e15):
        raise TooLarge("power")
    return a**b


_BINARY: dict[str, Callable[[Any, Any, Env, Any], Any]] = {
    "add": lambda a, b, env, mp: a + b,
    "mul": lambda a, b, env, mp: a * b,
    "div": _divide,
    "mod": _modulo,
    "pow": _power,
}


def _factorial(kind: str, value: Any, mp: Any) -> Any:
    if not isinstance(value, Fraction):
        raise Undefined("factorial")
    if value > MAX_FACTORIAL:
        raise TooLarge("factorial")
    if value.denominator > 1 or value < 0:
        return _bounded(mp.factorial(value), mp)
    return Fraction(math.factorial(int(value)) if kind == "fact" else math.prod(range(int(value), 0, -2)))


def _big(node: Node, env: Env, mp: Any) -> Any:
    """A sum or product whose bounds are integers not far apart."""
    low, high = evaluate(node[3], env, mp), evaluate(node[4], env, mp)
    if not all(isinstance(bound, Fraction) and bound.denominator == 1 for bound in (low, high)):
        raise Undefined("bounds that are no integers")
    if high - low > MAX_TERMS:
        raise TooLarge("a long sum")
    if any(node[2] in name.partition("_")[2] for name in symbols(node[5])):
        raise Undefined("terms with an index")
    total: Any = Fraction(node[1] == "prod")
    for k in range(int(low), int(high) + 1):
        term = evaluate(node[5], env | {node[2]: Fraction(k)}, mp)
        total = total + term if node[1] == "sum" else total * term
    return total


def _function(name: str, args: list[Any], degree: Any, env: Env, mp: Any) -> Any:
    x = args[0]
    exact = all(isinstance(a, Fraction) for a in args)
    if name == "abs":
        return abs(x)
    if name in ("floor", "ceil"):
        return _step(name, x, mp)
    if name in _REAL_ONLY and (any(map(mp.im, args)) or (name in ("gcd", "lcm") and not exact)):
        raise Undefined(name)
    if name == "sgn":
        return Fraction(int(x > 0) - int(x < 0))
    if name in ("max", "min"):
        return (max if name == "max" else min)(args if exact else map(mp.convert, args))
    if name in ("gcd", "lcm"):
        over, under = (math.gcd, math.lcm) if name == "gcd" else (math.lcm, math.gcd)
        return Fraction(over(*(a.numerator for a in args)), under(*(a.denominator for a in args)))
    large = abs(x) > 10 ** (15 if name == "exp" else 25) and name not in _UNBOUNDED  # as that of e^x
    if large or (exact and name == "binom" and x > MAX_FACTORIAL):
        raise TooLarge(name)
    if name == "binom":
        whole = exact and all(a.denominator == 1 and a >= 0 for a in args)
        return Fraction(math.comb(int(x), int(args[1]))) if whole else mp.binomial(*map(mp.convert, args))
    if name == "sqrt":
        degree = Fraction(2) if degree is None else degree
        if exact and degree == 2 and x >= 0:
            top, bottom = math.isqrt(x.numerator), math.isqrt(x.denominator)
            if top * top == x.numerator and bottom * bottom == x.denominator:
                return Fraction(top, bottom)
        return _power(mp.convert(x), _divide(Fraction(1), degree, env, mp), env, mp)
    if name in ("ln", "log", "lg"):
        if x == 0 or (REAL in env and not mp.im(x) and x < 0):
            raise Undefined("logarithm")
        base = 10 if name == "lg" or (TEN in env and name == "log" and degree is None) else degree
        return mp.log(x) if base is None else _divide(mp.log(x), mp.log(base), env, mp)
    if len(args) == 1 and name in FUNCTIONS:
        return getattr(mp, name.lower())(mp.convert(x))
    raise Unreadable(name)


def _step(name: str, x: Any, mp: Any) -> Any:
    """Floor or ceiling, safe where the argument is an integer up to rounding: log 8 to the base 2."""
    if isinstance(x, Fraction):
        return Fraction(math.floor(x) if name == "floor" else math.ceil(x))
    if mp.im(x):
        raise Undefined(name)
    near = mp.nint(mp.re(x))
    rounded = abs(x - near) < mp.mpf(10) ** (-mp.dps // 2)
    return near if rounded else mp.floor(x) if name == "floor" else mp.ceil(x)
