"""PURE: the exact value of a run of tokens: + - * / ^, brackets, per cent. Bounded in tokens, depth and size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MAX_DEPTH = 40
_MAX_TOKENS, _MAX_BITS = 120, 4096


@dataclass(slots=True)
class Token:
    """A piece of a text: its kind is num, op, eq, lpar, rpar, pct, word, stop or opaque."""

    kind: str
    text: str
    start: int
    end: int
    value: Fraction | None = None
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """What a run of tokens amounts to."""

    value: Fraction
    first: Fraction  # its first operand
    operated: bool  # holds an operator
    decimals: int  # digits after the point of a lone number
    most_decimals: int  # of any number in it
    percent: bool
    start: int
    end: int


class _NotArithmetic(Exception):
    """The tokens are no arithmetic; never leaves this module."""


def evaluate(tokens: list[Token]) -> Value | None:
    """What the tokens amount to, exactly; None where they are no arithmetic, or too much of it."""
    if not tokens or len(tokens) > _MAX_TOKENS:
        return None
    parser = _Parser(tokens)
    try:
        value = parser.sum(0)
        if parser.at != len(tokens):
            return None
    except _NotArithmetic:
        return None
    lone = [token for token in tokens if token.kind == "num"]
    first = lone[0].value
    if first is None:
        return None
    if tokens[0].kind == "op" and tokens[0].text == "-":
        first = -first
    single = len(lone) == 1
    return Value(
        value,
        first,
        not single,
        lone[0].decimals if single else 0,
        max(t.decimals for t in lone),
        any(token.kind == "pct" for token in tokens),
        tokens[0].start,
        tokens[-1].end,
    )


class _Parser:
    """Recursive descent over + - * / ^, brackets, per cent; a number before a bracket multiplies it."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> tuple[str, str]:
        """Kind and text of the next token."""
        if self.at >= len(self.tokens):
            return "", ""
        return self.tokens[self.at].kind, self.tokens[self.at].text

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.peek() in (("op", "+"), ("op", "-")):
            sign = 1 if self.peek()[1] == "+" else -1
            self.at += 1
            value = _bounded(value + sign * self.product(depth))
        return value

    def product(self, depth: int) -> Fraction:
        value, divided = self.signed(depth), False
        while True:
            kind, text = self.peek()
            if kind == "op" and text in "*/":
                if divided and text == "/":  # 28 / 1/5: written for 28 / (1/5) as often as not
                    raise _NotArithmetic
                divided = text == "/"
                self.at += 1
                factor = self.signed(depth)
            elif kind == "lpar":
                text, factor = "*", self.power(depth)
            else:
                return value
            if text == "/" and not factor:
                raise _NotArithmetic
            value = _bounded(value * factor if text == "*" else value / factor)

    def signed(self, depth: int) -> Fraction:
        if self.peek() in (("op", "+"), ("op", "-")):
            sign = 1 if self.peek()[1] == "+" else -1
            self.at += 1
            return sign * self.power(depth)
        return self.power(depth)

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self.peek() != ("op", "^"):
            return base
        self.at += 1
        exponent = self.atom(depth)
        if exponent.denominator != 1 or not 0 <= exponent <= 32 or self.peek() == ("op", "^"):
            raise _NotArithmetic
        return _bounded(base ** int(exponent))

    def atom(self, depth: int) -> Fraction:
        kind, _ = self.peek()
        token = self.tokens[self.at] if kind else None
        self.at += 1
        if token is not None and token.value is not None:
            value = token.value
        elif kind == "lpar" and depth < MAX_DEPTH:
            value = self.sum(depth + 1)
            if self.peek()[0] != "rpar":
                raise _NotArithmetic
            self.at += 1
        else:
            raise _NotArithmetic
        if self.peek()[0] == "pct":
            self.at += 1
            value /= 100
        return value


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > _MAX_BITS or value.denominator.bit_length() > _MAX_BITS:
        raise _NotArithmetic
    return value
