"""Evaluating nodes: exactly with fractions where that is possible, else with mpmath. Sizes are bounded throughout."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

from undo_hpc.grading.names import FUNCTIONS
from undo_hpc.grading.nodes import Node

MAX_BITS = 100_000
MAX_FACTORIAL = 3000
MAX_TERMS = 400
_MPMATH_NAMES = {f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc")} | {
    "sgn": "sign",
    "Re": "re",
    "Im": "im",
}
REAL = "\0real"  # in an environment: roots and logarithms of negative numbers have no value
TEN = "\0ten"  # in an environment: `log` without a base is decimal
Env = dict[str, Any]


class TooLarge(ValueError):
    """The value is beyond what is worth computing; the expression is left undecided."""


class Undefined(ValueError):
    """The expression has no value here (division by zero, infinity), or no exact one."""


class Unreadable(ValueError):
    """The expression holds what cannot be evaluated at all."""


def exact(node: Node, env: Env) -> Fraction:
    """The exact rational value. Raises Undefined where it is not rational by form, TooLarge where it is too long."""
    kind = node[0]
    if kind == "num":
        return node[1]
    if kind == "sym":
        if isinstance(value := env.get(node[1]), Fraction):
            return value
        raise Undefined(node[1])
    if kind == "neg":
        return -exact(node[1], env)
    if kind == "percent":
        return exact(node[1], env) / 100
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
    if kind in ("fact", "fact2"):
        value = exact(node[1], env)
        if value.denominator != 1 or value < 0:
            raise Undefined("factorial")
        if value > MAX_FACTORIAL:
            raise TooLarge("factorial")
        return Fraction(math.factorial(int(value)) if kind == "fact" else math.prod(range(int(value), 0, -2)))
    if kind == "fn":
        return _function(node[1], [exact(a, env) for a in node[2]], node[3])
    if kind == "big":
        return _big(node, env, lambda body, inner: _bounded(exact(body, inner)))
    raise Undefined(kind)


@lru_cache(maxsize=8192)
def rational(node: Node) -> Fraction | None:
    """The exact value of a node without variables, if its form gives one."""
    try:
        return exact(node, {})
    except (Undefined, TooLarge, Unreadable):
        return None


def _big(node: Node, env: Env, value_of: Any) -> Any:
    """A sum or product whose bounds are integers not far apart."""
    low, high = exact(node[3], env), exact(node[4], env)
    if low.denominator != 1 or high.denominator != 1:
        raise Undefined("bounds that are no integers")
    if high - low > MAX_TERMS:
        raise TooLarge("a long sum")
    if any(node[2] in name.partition("_")[2] for name in symbols(node[5])):
        raise Undefined("terms with an index")
    total: Any = Fraction(0) if node[1] == "sum" else Fraction(1)
    for k in range(int(low), int(high) + 1):
        term = value_of(node[5], env | {node[2]: Fraction(k)})
        total = total + term if node[1] == "sum" else total * term
    return total


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
    if abs(n) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
        raise TooLarge("power")
    return base**n


def _function(name: str, arguments: list[Fraction], parameter: Node | None) -> Fraction:
    first = arguments[0]
    integral = all(a.denominator == 1 for a in arguments)
    if name == "abs":
        return abs(first)
    if name == "floor":
        return Fraction(math.floor(first))
    if name == "ceil":
        return Fraction(math.ceil(first))
    if name in ("max", "min"):
        return max(arguments) if name == "max" else min(arguments)
    if name == "sgn":
        return Fraction((first > 0) - (first < 0))
    if name == "lcm" and len(set(arguments)) == 1 and not integral:
        return first
    if name in ("gcd", "lcm") and integral:
        return Fraction((math.gcd if name == "gcd" else math.lcm)(*(int(a) for a in arguments)))
    if name == "binom" and len(arguments) == 2 and integral and first >= 0 and arguments[1] >= 0:
        if first > MAX_FACTORIAL:
            raise TooLarge("binomial")
        return Fraction(math.comb(int(first), int(arguments[1])))
    if name == "sqrt" and parameter is None and first >= 0:
        top, bottom = math.isqrt(first.numerator), math.isqrt(first.denominator)
        if top * top == first.numerator and bottom * bottom == first.denominator:
            return Fraction(top, bottom)
    raise Undefined(name)


def numeric(node: Node, env: Env, mp: Any) -> Any:
    """The value as an mpmath number at the precision of `mp`; real odd roots of negative numbers are real.

    Raises Undefined at poles and for infinities, TooLarge where a size is out of all proportion, Unreadable for other nodes.
    """
    kind = node[0]
    if kind == "num":
        return mp.mpf(node[1].numerator) / node[1].denominator
    if kind == "sym":
        if node[1] in env:
            value = env[node[1]]
            return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value
        raise Undefined(node[1])
    if kind == "const":
        if node[1] == "infty":
            raise Undefined("infinity")
        return {"pi": mp.pi, "e": mp.e, "i": mp.j, "degree": mp.pi / 180}[node[1]] * 1
    if kind == "neg":
        return -numeric(node[1], env, mp)
    if kind == "percent":
        return numeric(node[1], env, mp) / 100
    if kind in ("add", "mul", "div", "pow", "mod"):
        a = numeric(node[1], env, mp)
        if kind == "pow":
            root = _real_root(a, node[2], mp)
            if root is not None:
                return root
            if REAL in env and mp.re(a) < 0 and not _integral(node[2], env):
                raise Undefined("a root of a negative number")
        return _binary(kind, a, numeric(node[2], env, mp), mp)
    if kind == "fact":
        value = numeric(node[1], env, mp)
        if abs(value) > 10**12:
            raise TooLarge("factorial")
        return _finite(mp.factorial(value), mp)
    if kind == "fn":
        return _finite(_numeric_function(node, env, mp), mp)
    if kind == "big":
        return _big(node, env, lambda body, inner: numeric(body, inner, mp)) * mp.mpf(1)
    if kind == "fact2":
        value = exact(node, env)
        return mp.mpf(value.numerator)
    raise Unreadable(kind)


def _integral(exponent: Node, env: Env) -> bool:
    """Whether an exponent keeps a negative base real: an integer, or a fraction with an odd denominator."""
    try:
        return exact(exponent, env).denominator % 2 == 1
    except (Undefined, TooLarge, Unreadable):
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
    if exponent[0] not in ("div", "num", "neg") or mp.im(a) or mp.re(a) >= 0:
        return None
    try:
        power = exact(exponent, {})
    except (Undefined, TooLarge):
        return None
    if (
        power.denominator % 2 == 0
        or power.denominator == 1
        or power.denominator > 1000
        or abs(power.numerator) > 10**6
    ):
        return None
    return (-mp.root(-a, power.denominator)) ** power.numerator


def _numeric_function(node: Node, env: Env, mp: Any) -> Any:
    name, parameter = str(node[1]), node[3]
    args = [numeric(a, env, mp) for a in node[2]]
    x = args[0]
    if abs(x) > mp.mpf(10) ** 25 and name not in ("sqrt", "ln", "log", "log10", "abs", "max", "min", "cbrt"):
        raise TooLarge(name)
    negative = mp.re(x) < 0 and not mp.im(x)
    if name == "sqrt":
        degree = 2 if parameter is None else numeric(parameter, env, mp)
        if (
            negative
            and degree != 2
            and not mp.im(degree)
            and degree == mp.floor(degree)
            and int(degree) % 2 == 1
            and 0 < degree < 10**6
        ):
            return -mp.root(-x, int(degree))
        if negative and REAL in env:
            raise Undefined("a root of a negative number")
        if degree == 0:
            raise Undefined("a root of degree zero")
        return mp.sqrt(x) if degree == 2 else x ** (1 / mp.mpmathify(degree))
    if name == "cbrt":
        return -mp.root(-x, 3) if negative else mp.root(x, 3)
    if name in ("ln", "log", "log10", "lg"):
        if x == 0 or (negative and REAL in env):
            raise Undefined("logarithm")
        if name == "log" and parameter is not None:
            base = mp.log(numeric(parameter, env, mp))
            if base == 0:
                raise Undefined("logarithm to the base one")
            return mp.log(x) / base
        return mp.log10(x) if name in ("log10", "lg") or (name == "log" and TEN in env) else mp.log(x)
    if name in ("max", "min"):
        if any(mp.im(a) for a in args):
            raise Undefined(name)
        return max(args) if name == "max" else min(args)
    if name == "abs":
        return abs(x)
    if name in ("floor", "ceil"):
        return _nearest(name, x, mp)
    if name == "binom" and len(args) == 2:
        return mp.binomial(args[0], args[1])
    if name in ("gcd", "lcm"):
        raise Undefined(name)
    if len(args) == 1 and name in FUNCTIONS and name not in ("det", "arg"):
        return getattr(mp, _MPMATH_NAMES.get(name, name))(x)
    raise Unreadable(name)


def _nearest(name: str, x: Any, mp: Any) -> Any:
    """Floor or ceiling, safe where the argument is an integer up to rounding: log 8 to the base 2."""
    if mp.im(x):
        raise Undefined(name)
    near = mp.nint(x)
    if abs(x - near) < mp.mpf(10) ** (-mp.dps // 2):
        return near
    return mp.floor(x) if name == "floor" else mp.ceil(x)


def symbols(node: Node) -> set[str]:
    """The names of the free symbols of a node."""
    found: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == "sym":
                found.add(item[1])
            elif item[0] == "big":
                stack.extend(item[3:5])
                found |= symbols(item[5]) - {item[2]}
            else:
                stack.extend(item)
    return found


def kinds(node: Node) -> set[str]:
    """The kinds of nodes, and the names of functions and constants, that an expression holds."""
    found: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if isinstance(item[0], str):
                found.add(item[0])
                if item[0] in ("fn", "const") or item[0] == "big":
                    found.add(item[1])
            stack.extend(item)
    return found
