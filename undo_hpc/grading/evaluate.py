"""Evaluating parsed expressions: exactly with fractions where that is possible, else with mpmath. Sizes are bounded throughout."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from undo_hpc.grading.names import FUNCTIONS
from undo_hpc.grading.syntax import Node

MAX_BITS = 100_000
MAX_EXACT_FACTORIAL = 3000
_MPMATH_NAMES = {f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")} | {
    "sgn": "sign",
    "Re": "re",
    "Im": "im",
}
REAL = "\0real"  # in an environment: roots and logarithms of negative numbers have no value


class TooLarge(ValueError):
    """The value is beyond what is worth computing; the expression is left undecided."""


class Undefined(ValueError):
    """The expression has no value (division by zero, infinity) or no exact one."""


Env = dict[str, Fraction]


def exact(node: Node, env: Env) -> Fraction:
    """The exact rational value. Raises Undefined where it is not rational by form, TooLarge where it is too long."""
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "sym":
        if node[1] in env:
            return env[node[1]]
        raise Undefined(node[1])
    if kind == "neg":
        return -exact(node[1], env)
    if kind == "add":
        return _bounded(exact(node[1], env) + exact(node[2], env))
    if kind == "mul":
        return _bounded(exact(node[1], env) * exact(node[2], env))
    if kind == "div":
        below = exact(node[2], env)
        if below == 0:
            raise Undefined("division by zero")
        return _bounded(exact(node[1], env) / below)
    if kind == "pow":
        return _power(exact(node[1], env), exact(node[2], env))
    if kind == "mod":
        modulus = exact(node[2], env)
        if modulus == 0:
            raise Undefined("modulus zero")
        return exact(node[1], env) % modulus
    if kind == "fact":
        value = exact(node[1], env)
        if value.denominator != 1 or value < 0:
            raise Undefined("factorial")
        if value > MAX_EXACT_FACTORIAL:
            raise TooLarge("factorial")
        return Fraction(math.factorial(int(value)))
    if kind == "fact2":
        value = exact(node[1], env)
        if value.denominator != 1 or value < 0:
            raise Undefined("double factorial")
        if value > MAX_EXACT_FACTORIAL:
            raise TooLarge("double factorial")
        return Fraction(math.prod(range(int(value), 0, -2)))
    if kind == "fn":
        return _function(node[1], [exact(a, env) for a in node[2]], node[3])
    raise Undefined(kind)


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooLarge("digits")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise Undefined("root")
    n = int(exponent)
    if base == 0:
        if n <= 0:
            raise Undefined("zero to a power that is not positive")
        return base
    if abs(base) == 1:
        return base if n % 2 else Fraction(1)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(n) * bits > MAX_BITS:
        raise TooLarge("power")
    return base**n


def _function(name: str, arguments: list[Fraction], parameter: Node | None) -> Fraction:
    first = arguments[0]
    if name == "abs":
        return abs(first)
    if name == "floor":
        return Fraction(math.floor(first))
    if name == "ceil":
        return Fraction(math.ceil(first))
    if name == "max":
        return max(arguments)
    if name == "min":
        return min(arguments)
    if name in ("gcd", "lcm"):
        if any(a.denominator != 1 for a in arguments):
            if name == "lcm" and len(set(arguments)) == 1:
                return first
            raise Undefined(name)
        return Fraction((math.gcd if name == "gcd" else math.lcm)(*(int(a) for a in arguments)))
    if name == "binom" and len(arguments) == 2 and all(a.denominator == 1 and a >= 0 for a in arguments):
        if arguments[0] > MAX_EXACT_FACTORIAL:
            raise TooLarge("binomial")
        return Fraction(math.comb(int(first), int(arguments[1])))
    if name == "sqrt" and parameter is None and first >= 0:
        top, bottom = math.isqrt(first.numerator), math.isqrt(first.denominator)
        if top * top == first.numerator and bottom * bottom == first.denominator:
            return Fraction(top, bottom)
    raise Undefined(name)


def numeric(node: Node, env: dict[str, Any], mp: Any, log10: bool = False) -> Any:
    """The value as an mpmath number at the precision of `mp`; real cube roots of negative numbers are real.

    Raises Undefined at poles and TooLarge where an exponent or an argument is out of all proportion.
    """
    kind = node[0]
    if kind == "num":
        return mp.mpf(node[1].numerator) / node[1].denominator
    if kind == "sym":
        if node[1] in env:
            return env[node[1]]
        raise Undefined(node[1])
    if kind == "const":
        if node[1] == "infty":
            raise Undefined("infinity")
        return {"pi": mp.pi, "e": mp.e, "i": mp.j, "degree": mp.pi / 180}[node[1]] * 1
    if kind == "neg":
        return -numeric(node[1], env, mp, log10)
    if kind in ("add", "mul", "div", "pow", "mod"):
        a = numeric(node[1], env, mp, log10)
        if kind == "pow" and REAL in env and mp.re(a) < 0 and not _integral(node[2]):
            raise Undefined("a root of a negative number")
        if kind == "pow" and node[2][0] == "div":
            root = _real_root(a, node[2], mp)
            if root is not None:
                return root
        b = numeric(node[2], env, mp, log10)
        return _binary(kind, a, b, mp)
    if kind == "fact":
        value = numeric(node[1], env, mp, log10)
        if abs(value) > 10**12:
            raise TooLarge("factorial")
        return _finite(mp.factorial(value), mp)
    if kind == "fn":
        return _finite(_numeric_function(node, env, mp, log10), mp)
    raise Undefined(kind)


def _integral(exponent: Node) -> bool:
    """Whether an exponent keeps a negative base real: an integer, or a fraction with an odd denominator."""
    try:
        return exact(exponent, {}).denominator % 2 == 1
    except (Undefined, TooLarge):
        return False


def _finite(value: Any, mp: Any) -> Any:
    if not mp.isfinite(value):
        raise Undefined("not finite")
    return value


def _binary(kind: str, a: Any, b: Any, mp: Any) -> Any:
    if kind == "add":
        return a + b
    if kind == "mul":
        return a * b
    if kind == "div":
        if b == 0:
            raise Undefined("division by zero")
        return a / b
    if kind == "mod":
        if b == 0 or mp.im(a) or mp.im(b):
            raise Undefined("modulus")
        return a - b * mp.floor(a / b)
    if a == 0:
        if mp.re(b) <= 0:
            raise Undefined("zero to a power that is not positive")
        return a
    if abs(b) > 1e15 or (abs(b) > 1 and abs(mp.log(abs(a))) * abs(b) > 1e15):
        raise TooLarge("power")
    return _finite(a**b, mp)


def _real_root(a: Any, exponent: Node, mp: Any) -> Any:
    """A real value for a negative base to p/q with odd q."""
    if mp.im(a) or mp.re(a) >= 0 or exponent[1][0] != "num" or exponent[2][0] != "num":
        return None
    power = exponent[1][1] / exponent[2][1] if exponent[2][1] else None
    if (
        power is None
        or power.denominator % 2 == 0
        or power.denominator > 1000
        or abs(power.numerator) > 10**6
    ):
        return None
    return (-mp.root(-a, power.denominator)) ** power.numerator


def _numeric_function(node: Node, env: dict[str, Any], mp: Any, log10: bool) -> Any:
    name, parameter = str(node[1]), node[3]
    args = [numeric(a, env, mp, log10) for a in node[2]]
    x = args[0]
    if abs(x) > mp.mpf(10) ** 25 and name not in ("sqrt", "ln", "log", "log10", "abs", "max", "min", "cbrt"):
        raise TooLarge(name)
    if (
        REAL in env
        and mp.re(x) < 0
        and (name in ("ln", "log", "log10", "lg") or (name == "sqrt" and parameter is None))
    ):
        raise Undefined("a root or a logarithm of a negative number")
    if name == "sqrt":
        if parameter is None:
            return mp.sqrt(x)
        degree = numeric(parameter, env, mp, log10)
        if degree == 3 and not mp.im(x) and mp.re(x) < 0:
            return -mp.root(-x, 3)
        if mp.im(degree) or degree != mp.floor(degree) or not 1 <= degree <= 10**6:
            return x ** (1 / degree)
        odd = int(degree) % 2 == 1 and not mp.im(x) and mp.re(x) < 0
        return -mp.root(-x, int(degree)) if odd else mp.root(x, int(degree))
    if name == "cbrt":
        return -mp.root(-x, 3) if not mp.im(x) and mp.re(x) < 0 else mp.root(x, 3)
    if name in ("ln", "log", "log10", "lg"):
        if x == 0:
            raise Undefined("logarithm of zero")
        if name == "log" and parameter is not None:
            return mp.log(x) / mp.log(numeric(parameter, env, mp, log10))
        return mp.log10(x) if name in ("log10", "lg") or (name == "log" and log10) else mp.log(x)
    if name in ("max", "min"):
        if any(mp.im(a) for a in args):
            raise Undefined(name)
        return max(args) if name == "max" else min(args)
    if name == "abs":
        return abs(x)
    if name in ("floor", "ceil"):
        return getattr(mp, name)(x)
    if name == "binom" and len(args) == 2:
        return mp.binomial(args[0], args[1])
    if len(args) == 1 and name in FUNCTIONS and name != "det":
        return getattr(mp, _MPMATH_NAMES.get(name, name))(x)
    raise Undefined(name)
