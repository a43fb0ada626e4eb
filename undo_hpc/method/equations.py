r"""Finds arithmetic claims such as `48/2 = 24` in free text and checks them with exact fractions. Pure, linear, never eval.

Careful by design: a claim is judged only where its whole extent is understood. Next to a variable, a function, a root or an
unknown LaTeX command it is skipped, for a slip that is none would mislead the teacher. Understood are numbers with
thousands separators, decimals and per cent, + - * / ^ and their LaTeX and Unicode forms, brackets, `\frac{a}{b}`, one unit that
all numbers of a sum share, chains `a+b = c = d`, run-on chains `3*4=12+5=17`, working in brackets `47*8=(7*8=56,4*8+5=37)376`
and GSM8K's `<<48/2=24>>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from undo_hpc.method.arithmetic import MAX_DEPTH, Token, Value, evaluate

_NUMBER = r"(?:\d{1,3}(?:(?:,|\{,\}|,\\!)\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_TOKEN = re.compile(
    rf"""
      (?P<word>[^\W\d_]+)
    | (?P<bullet>^[ \t]*(?:[-*+•]|\d{{1,3}}[.)])[ \t]+)
    | (?P<space>[ \t\r]+)
    | (?P<frac>\\[dt]?frac\s*\{{\s*-?{_NUMBER}\s*\}}\s*\{{\s*{_NUMBER}\s*\}})
    | (?P<boxed>\\(?:boxed|fbox)\s*+\{{\s*+-?(?:\\?\$)?\s*+{_NUMBER}\s*+\}})
    | (?P<num>{_NUMBER})
    | (?P<text>\\(?:text|mathrm|textbf|mbox)\s*\{{[^{{}}\n]*\}})
    | (?P<aside><<|>>)
    | (?P<bold>\*\*)
    | (?P<op>\\(?:times|cdot|div)(?![a-zA-Z])|[-+*/^×·÷−–])
    | (?P<eq>==?)
    | (?P<lpar>\\left\s*\(|\()
    | (?P<rpar>\\right\s*\)|\))
    | (?P<pct>\\?%)
    | (?P<line>\n[ \t]*(?:\\\\)?(?:(?=&?=)|))
    | (?P<skip>\\?\$|[€£&]|\\[,;:!\ ()\[\]]|\\(?:quad|left|right)(?![a-zA-Z])|\\\\(?=\s*&?=))
    | (?P<opaque>\\[a-zA-Z]+|\.(?=\\)|,(?=\d{{4}}))
    | (?P<stop>[.,;?"'“”‘’\#•\[\]…]|:(?!\d))
    | (?P<other>.)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_DROPPED = frozenset({"space", "skip"})
_KINDS = {
    "other": "opaque",
    "text": "word",
}  # what a group of the pattern is a token of, where their names differ
_OPS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
_JOINING = {
    "and",
    "of",
    "minus",
    "plus",
    "times",
    "by",
    "over",
    "from",
    "than",
    "to",
    "per",
    "mod",
    "divided",
    "x",
}
_MAX_DIGITS = 40
_NUMBERS, _NO_DIGIT = re.compile(_NUMBER), re.compile(r"[^\d.]")
_CROSSES = frozenset({"x", "X", "of"})


@dataclass(frozen=True, slots=True)
class Equation:
    """A claim `left = right` that was understood, with its place in the text (end exclusive)."""

    start: int
    end: int
    left: Fraction
    right: Fraction
    holds: bool


def equations(text: str) -> list[Equation]:
    """The claims in a text that can be judged, in the order in which they end."""
    found: list[Equation] = []
    if "=" not in text:
        return found
    for statement, clear_before, clear_after in _statements(_asides(_tokens(text))):
        found += _claims(text, statement, clear_before, clear_after)
    return sorted(found, key=lambda e: (e.end, e.start))


def numbers(text: str) -> list[Fraction]:
    """All numbers that stand in a text, signs ignored, in their order."""
    return [token.value for token in _tokens(text) if token.value is not None]


def number(text: str) -> Fraction | None:
    """The value of a text that is one number, a fraction or plain arithmetic; None for anything else."""
    tokens = [token for token in _tokens(text) if token.kind != "stop" or token.text != "."]
    value = evaluate(tokens)
    return value.value if value else None


def show(value: Fraction) -> str:
    """A value as people write it: an integer, a short decimal, or a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**6
    return (
        f"{float(value):.6f}".rstrip("0")
        if scaled.denominator == 1
        else f"{value.numerator}/{value.denominator}"
    )


# ---- reading ---------------------------------------------------------------------------------------------------------


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind in _DROPPED:
            continue
        body, (start, end) = match[0], match.span()
        token = Token(_KINDS.get(kind, kind), body, start, end)
        if kind == "word":
            found.append(token)
            continue
        if kind in ("num", "frac", "boxed"):
            parts = (
                [body] if body.isdecimal() else [_NO_DIGIT.sub("", part) for part in _NUMBERS.findall(body)]
            )
            if sum(map(len, parts)) > _MAX_DIGITS or (kind == "frac" and not Fraction(parts[1])):
                token.kind = "opaque"
            else:
                sign = -1 if kind != "num" and "-" in body else 1
                token.kind, token.value = (
                    "num",
                    sign * _exact(parts[0]) / (_exact(parts[1]) if kind == "frac" else 1),
                )
                token.decimals = len(parts[0].partition(".")[2]) if kind != "frac" else 0
                if kind == "boxed" and found and found[-1].kind in ("num", "rpar", "pct"):
                    found.append(Token("stop", "", start, start))  # `24-4=20 \boxed{24}` are two statements
        elif kind == "op":
            token.text = _OPS.get(body.rstrip(), body)
        elif kind == "bold":  # a power between two numbers, else the stars of bold print
            if not (
                found
                and found[-1].kind in ("num", "rpar")
                and found[-1].end == start
                and text[end : end + 1].isdigit()
            ):
                continue
            token.kind, token.text = "op", "^"
        elif kind == "line":
            if text[end : end + 1] in ("=", "&"):
                continue  # an aligned derivation goes on
            token.kind = "stop"
        elif kind == "bullet":
            token.kind = "stop"
        found.append(token)
    return [
        _cross(found, at) if token.kind == "word" and token.text in _CROSSES else token
        for at, token in enumerate(found)
    ]


def _exact(digits: str) -> Fraction:
    return Fraction(int(digits)) if digits.isdecimal() else Fraction(digits)


def _cross(tokens: list[Token], at: int) -> Token:
    """An `x` between two numbers is a multiplication, and `of` behind a per cent is one, too."""
    token = tokens[at]
    if not 0 < at < len(tokens) - 1:
        return token
    before, after = tokens[at - 1], tokens[at + 1]
    times = (
        token.text in ("x", "X") and before.kind in ("num", "rpar", "pct") and after.kind in ("num", "lpar")
    )
    if times or (token.text == "of" and before.kind == "pct" and after.kind in ("num", "lpar")):
        return Token("op", "*", token.start, token.end)
    return token


def _asides(tokens: list[Token]) -> Iterator[list[Token]]:
    """The text without its asides, and each aside by itself: <<48/2=24>>, and brackets that hold an equation."""
    stack: list[tuple[str, list[Token], bool]] = [("", [], False)]  # opening mark, tokens, holds an equation
    for token in tokens:
        opens = token.kind == "lpar" or token.text == "<<"
        closes = token.kind == "rpar" or token.text == ">>"
        if opens and len(stack) <= MAX_DEPTH:
            stack.append(("<<" if token.text == "<<" else "(", [token], False))
        elif closes and len(stack) > 1 and stack[-1][0] == ("<<" if token.text == ">>" else "("):
            mark, inner, equation = stack.pop()
            if mark == "<<" or equation:
                yield inner[1:]
            else:
                stack[-1][1].extend([*inner, token])
        else:
            mark, inner, equation = stack[-1]
            inner.append(Token("opaque", token.text, token.start, token.end) if opens or closes else token)
            stack[-1] = (mark, inner, equation or token.kind == "eq")
    while len(stack) > 1:  # never closed: what follows the bracket is read by itself
        _, inner, _ = stack.pop()
        stack[-1][1].append(Token("opaque", "(", inner[0].start, inner[0].end))
        stack[-1][1].extend(inner[1:])
    yield stack[0][1]


def _statements(parts: Iterator[list[Token]]) -> Iterator[tuple[list[Token], bool, bool]]:
    """Runs of tokens without a stop, and whether what stands before and behind them is understood."""
    for tokens in parts:
        run: list[Token] = []
        clear = True
        for token in tokens:
            if token.kind in ("stop", "opaque", "aside"):
                after = token.kind == "stop"
                yield run, clear, after
                run, clear = [], after
            else:
                run.append(token)
        yield run, clear, True


# ---- judging ---------------------------------------------------------------------------------------------------------


def _claims(text: str, statement: list[Token], clear_before: bool, clear_after: bool) -> Iterator[Equation]:
    at = [i for i, token in enumerate(statement) if token.kind == "eq"]
    if not at or any(token.text == "mod" for token in statement):
        return
    statement, at = _without_unit(statement, at)
    bounds = [-1, *at, len(statement)]
    segments = [statement[bounds[i] + 1 : bounds[i + 1]] for i in range(len(bounds) - 1)]
    for place, (left, right) in enumerate(pairwise(segments)):
        left_clear = clear_before or place > 0 or _first_word_cuts(left)
        right_clear = clear_after or place + 2 < len(segments)
        a = evaluate(_tail(left)) if left_clear else None
        b = evaluate(_head(right, right_clear))
        if a is None or b is None or not (a.operated or b.operated):
            continue
        holds = _equal(a, b)
        if holds is not None:
            yield Equation(a.start, b.end, a.value, b.value, holds)


def _first_word_cuts(segment: list[Token]) -> bool:
    return any(token.kind == "word" for token in segment)


def _without_unit(statement: list[Token], at: list[int]) -> tuple[list[Token], list[int]]:
    """Sums whose every number carries one and the same unit lose it: '5 apples + 3 apples = 8 apples'."""
    words = [token.text.lower() for token in statement if token.kind == "word"]
    count = sum(token.kind == "num" for token in statement)
    same = (
        len({word.rstrip("s") for word in words}) == 1 and len(words) in (count, count - 1) and len(words) > 1
    )
    if (
        not same
        or len(words[0]) < 3
        or any(token.kind == "op" and token.text not in "+-" for token in statement)
    ):
        return statement, at
    kept = [token for token in statement if token.kind != "word"]
    return kept, [i for i, token in enumerate(kept) if token.kind == "eq"]


def _tail(segment: list[Token]) -> list[Token]:
    """What stands behind the last word; nothing where the word belongs to the expression."""
    last = max((i for i, token in enumerate(segment) if token.kind == "word"), default=-1)
    if last < 0:
        return segment
    rest, word = segment[last + 1 :], segment[last]
    belongs = not rest or rest[0].kind == "op" or rest[0].start == word.end or word.text.lower() in _JOINING
    return [] if belongs else rest


def _head(segment: list[Token], clear_after: bool) -> list[Token]:
    """What stands before the first word; nothing where the expression goes on behind it, or ends at something that is not understood."""
    first = next((i for i, token in enumerate(segment) if token.kind == "word"), -1)
    if first < 0:
        return segment if clear_after else []
    word = segment[first]
    after = segment[first + 1] if first + 1 < len(segment) else None
    glued = first > 0 and segment[first - 1].end == word.start
    rate = after is not None and after.text == "/"
    goes_on = after is not None and after.kind in ("op", "lpar") and not rate
    remainder = word.text.lower() in ("r", "rem", "remainder", "with")
    mixed = word.text.lower() == "and" and any(
        token.text == "/" or "frac" in token.text for token in segment[first:]
    )
    unclear = glued or goes_on or remainder or mixed or word.text.lower() in _JOINING - {"and"}
    return [] if unclear else segment[:first]


def _equal(a: Value, b: Value) -> bool | None:
    """Whether a claim holds; None where rounding on the way makes it doubtful."""
    if a.value == b.value or (b.operated and a.value == b.first):  # the latter is a run-on chain
        return True
    if (b.percent and b.value * 100 == a.value) or (a.percent and a.value * 100 == b.value):
        return True
    for exact, rounded in ((a, b), (b, a)):
        unit = Fraction(1, 10**rounded.decimals)
        if not rounded.operated and rounded.decimals and (exact.value / unit).denominator != 1:
            return abs(exact.value - rounded.value) <= unit
    near = abs(a.value - b.value) <= abs(a.value) / 200
    return None if near and max(a.most_decimals, b.most_decimals) >= 2 else False
