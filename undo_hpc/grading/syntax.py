r"""A small parser of mathematical expressions, LaTeX and ASCII mixed, into plain tuples. It never evaluates anything.

Nodes: ('num', Fraction, decimals or None), ('sym', name), ('neg', a), ('add', a, b), ('mul', a, b), ('div', a, b), ('pow', a, b),
('mod', a, b), ('fn', name, arguments, parameter), ('fact', a), ('const', name).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from undo_hpc.grading.names import FUNCTIONS, GREEK, MULTI_ARGUMENT
from undo_hpc.grading.tokens import SyntaxProblem, tokenize

Node = tuple[Any, ...]
MAX_LENGTH = 1500
MAX_DEPTH = 50

_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)[^{}]{0,8}\}\s*\{\s*(?:d|\\partial)\s*[a-zA-Z]")
_OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
_INVERSE = {
    "sin": "arcsin",
    "cos": "arccos",
    "tan": "arctan",
    "cot": "arccot",
    "sec": "arcsec",
    "csc": "arccsc",
    "sinh": "asinh",
    "cosh": "acosh",
    "tanh": "atanh",
}
_SAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn", "lg": "log10"}


def _is_fraction(tokens: list[tuple[str, str]]) -> bool:
    """Two integers with a slash between them, as in the mixed number `3 1/2`."""
    kinds = [kind for kind, _ in tokens]
    return (
        kinds == ["num", "op", "num"]
        and tokens[1][1] == "/"
        and tokens[0][1].isdigit()
        and tokens[2][1].isdigit()
    )


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self) -> tuple[str, str]:
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "space":
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        found = self.peek()
        self.at += 1
        return found

    def op(self, *texts: str) -> bool:
        kind, text = self.peek()
        if kind in ("op", "esc") and text in texts:
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.op(text):
            raise SyntaxProblem(f"expected {text!r}, found {self.peek()[1]!r}")

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise SyntaxProblem("nested too deep")
        node = self.term()
        while True:
            if self.op("+"):
                node = ("add", node, self.term())
            elif self.op("-"):
                node = ("add", node, ("neg", self.term()))
            else:
                self.depth -= 1
                return node

    def term(self) -> Node:
        negative = False
        while self.peek() in (("op", "-"), ("op", "+")):
            negative ^= self.take()[1] == "-"
        node = self.power()
        while True:
            kind, text = self.peek()
            if (kind, text) in (("op", "*"), ("cmd", "cdot"), ("cmd", "times")):
                self.at += 1
                node = ("mul", node, self.signed())
            elif (kind, text) in (("op", "/"), ("cmd", "div")):
                self.at += 1
                node = ("div", node, self.signed())
            elif kind == "cmd" and text in ("mod", "bmod"):
                self.at += 1
                node = ("mod", node, self.signed())
            elif self.starts_factor(kind, text):
                if kind == "num" and self.tokens[self.at - 1][0] == "word":
                    raise SyntaxProblem("a number behind a word")  # `3 apples 4 pears` is no product
                node = ("mul", node, self.power())
            else:
                return ("neg", node) if negative else node

    def signed(self) -> Node:
        if self.op("-"):
            return ("neg", self.signed())
        self.op("+")
        return self.power()

    def starts_factor(self, kind: str, text: str) -> bool:
        if kind in ("num", "sym", "word"):
            return True
        if kind == "cmd":
            return text not in (
                "mod",
                "bmod",
                "rfloor",
                "rceil",
                "cdot",
                "times",
                "div",
                "choose",
                "over",
                "end",
                "pmod",
                "rangle",
            )
        return text in ("(", "[", "{") or (text == "|" and self.bars == 0)

    bars = 0

    def power(self) -> Node:
        node = self.postfix(self.atom())
        if self.op("^"):
            kind, text = self.peek()
            if (kind, text) == ("cmd", "circ"):
                self.at += 1
                return self.degrees(node)
            if kind == "op" and text == "{":
                start = self.at
                self.at += 1
                if self.peek() == ("cmd", "circ"):
                    self.at += 1
                    self.need("}")
                    return self.degrees(node)
                self.at = start
            exponent = ("neg", self.power()) if self.op("-") else self.power()
            return self.postfix(("pow", node, exponent))
        return node

    def degrees(self, node: Node) -> Node:
        return ("mul", node, ("const", "degree"))

    def postfix(self, node: Node) -> Node:
        while True:
            if self.op("!"):
                node = ("fact2", node) if self.op("!") else ("fact", node)
            elif self.op("°"):
                node = self.degrees(node)
            elif self.op("%"):
                node = ("mul", node, ("num", Fraction(1, 100), None))
            elif self.op("'"):
                node = ("sym", self.name_of(node) + "'")
            else:
                return node

    @staticmethod
    def name_of(node: Node) -> str:
        if node[0] != "sym":
            raise SyntaxProblem("a prime on something that is not a symbol")
        return str(node[1])

    def group(self, closing: str) -> Node:
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        self.need(closing)
        return node

    def argument(self) -> Node:
        r"""One argument of a LaTeX command: `{...}`, a digit, a letter, or a command."""
        kind, text = self.peek()
        if (kind, text) == ("op", "{"):
            self.at += 1
            return self.group("}")
        if (kind, text) == ("op", "("):
            return self.atom()
        if kind == "num":
            self.at += 1
            if len(text) > 1 and text.isdigit():
                self.tokens.insert(self.at, ("num", text[1:]))
                text = text[0]
            return ("num", Fraction(text), None)
        return self.atom()

    def atom(self) -> Node:
        kind, text = self.take()
        if kind == "num":
            return self.number(text)
        if kind == "sym":
            return self.symbol(text)
        if kind == "word":
            name = text.strip("\u27e6\u27e7")
            return self.symbol(name) if len(name) == 1 else ("sym", name.lower())
        if kind in ("op", "esc") and text in ("(", "[", "{"):
            return self.braces() if text == "{" else self.group(_OPENING[text])
        if kind == "op" and text == "|":
            bars, self.bars = self.bars, 1
            inside = self.expression()
            self.bars = bars
            self.need("|")
            return ("fn", "abs", (inside,), None)
        if kind == "cmd":
            return self.command(text)
        raise SyntaxProblem(f"unexpected {text!r}")

    def braces(self) -> Node:
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        if self.peek() in (("cmd", "choose"), ("cmd", "over")):
            name = self.take()[1]
            other = self.expression()
            self.need("}")
            return ("fn", "binom", (node, other), None) if name == "choose" else ("div", node, other)
        self.need("}")
        return node

    def number(self, text: str) -> Node:
        value = Fraction(text.replace(",", ""))
        decimals = len(text.split(".")[1]) if "." in text and "e" not in text.lower() else None
        digits = text.replace(".", "").lstrip("0")
        node: Node = ("num", value, None if decimals is None else (decimals, len(digits)))
        raw = self.tokens[self.at : self.at + 6]
        if decimals is None and value.denominator == 1 and text.isdigit():
            after = [t for t in raw if t[0] != "space"]
            if after and after[0] == ("cmd", "frac"):
                mark = self.at
                mixed = self.mixed(value)
                if mixed is not None:
                    return mixed
                self.at = mark
            spaced = raw and raw[0][0] == "space"
            if spaced and _is_fraction(after[:3]) and int(after[2][1]):
                for _ in range(3):
                    self.take()
                return ("num", value + Fraction(int(after[0][1]), int(after[2][1])), None)
        if len(raw) > 1 and raw[0][0] == "space" and raw[1][0] == "num":
            raise SyntaxProblem("two numbers side by side")
        if text.endswith(".") or (raw and raw[0] == ("cmd", "overline")):
            raise SyntaxProblem("repeating decimal")
        return node

    def mixed(self, whole: Fraction) -> Node | None:
        r"""`3\frac{1}{2}` is a mixed number where both parts are bare integers."""
        self.take()
        top, bottom = self.argument(), self.argument()
        if (
            top[0] == "num"
            and bottom[0] == "num"
            and top[1].denominator == bottom[1].denominator == 1
            and bottom[1] > 0
        ):
            return ("num", whole + top[1] / bottom[1], None)
        return None

    def subscript(self) -> str:
        kind, text = self.take()
        if kind == "op" and text in ("{", "("):
            depth, parts = 1, []
            closing = {"{": "}", "(": ")"}[text]
            while depth:
                kind, piece = self.take()
                if kind == "end":
                    raise SyntaxProblem("open subscript")
                depth += (piece == text) - (piece == closing)
                if depth:
                    parts.append(piece)
            return "".join(parts).strip("\u27e6\u27e7")
        return text.strip("\u27e6\u27e7")

    def symbol(self, name: str) -> Node:
        if self.op("_"):
            return ("sym", f"{name}_{self.subscript()}")
        if name == "e":
            return ("const", "e")
        if name in ("i", "I"):
            return ("const", "i")
        return ("sym", name)

    def command(self, name: str) -> Node:
        if name == "frac":
            top = self.argument()
            return ("div", top, self.argument())
        if name == "sqrt":
            degree: Node | None = None
            if self.op("["):
                degree = self.group("]")
            inside = self.argument() if self.peek()[1] != "\\" else self.atom()
            return ("fn", "sqrt", (inside,), degree)
        if name == "binom":
            if self.op("("):
                top = self.expression()
                self.need(",")
                bottom = self.expression()
                self.need(")")
                return ("fn", "binom", (top, bottom), None)
            top = self.argument()
            return ("fn", "binom", (top, self.argument()), None)
        if name in ("infty", "pi"):
            return ("const", name)
        if name in ("lfloor", "lceil"):
            inside = self.expression()
            if self.take() != ("cmd", "r" + name[1:]):
                raise SyntaxProblem("open floor or ceiling")
            return ("fn", name[1:5], (inside,), None) if name == "lceil" else ("fn", "floor", (inside,), None)
        if name in FUNCTIONS or name in MULTI_ARGUMENT:
            return self.function(_SAME.get(name, name))
        if name in GREEK:
            return self.symbol(name)
        if name in (
            "overline",
            "bar",
            "hat",
            "vec",
            "overrightarrow",
            "mathbb",
            "angle",
            "triangle",
            "prime",
            "ell",
            "partial",
            "mathbf",
            "widehat",
            "tilde",
        ):
            if name in ("ell", "partial"):
                return self.symbol(name)
            return ("sym", f"{name}:{self.subscript()}")
        raise SyntaxProblem(f"command {name}")

    def function(self, name: str) -> Node:
        parameter: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.op("_"):
                parameter = self.argument()
            elif self.op("^"):
                exponent = ("neg", self.argument()) if self.op("-") else self.argument()
        inverse = exponent == ("neg", ("num", Fraction(1), None)) and name in _INVERSE
        if inverse:
            name, exponent = _INVERSE[name], None
        kind, text = self.peek()
        arguments: tuple[Node, ...]
        if (
            (kind, text) == ("op", "(")
            or (kind in ("op", "esc") and text in ("{", "\\{"))
            or (kind, text) == ("op", "[")
        ):
            closing = _OPENING[text]
            self.at += 1
            found = [self.expression()]
            while self.op(","):
                found.append(self.expression())
            self.need(closing)
            arguments = tuple(found)
        else:
            arguments = (self.bare_argument(),)
        if name not in MULTI_ARGUMENT and len(arguments) != 1:
            raise SyntaxProblem(f"arguments of {name}")
        node: Node = ("fn", name, arguments, parameter)
        return ("pow", node, exponent) if exponent is not None else node

    def bare_argument(self) -> Node:
        r"""The argument of `\sin 2x \cos y`: factors up to the next sign or function."""
        if self.op("-"):
            return ("neg", self.bare_argument())
        node = self.power()
        while True:
            kind, text = self.peek()
            if kind in ("num", "sym") or (
                kind == "cmd" and (text in GREEK or text in ("pi", "frac", "sqrt"))
            ):
                node = ("mul", node, self.power())
            elif (kind, text) == ("op", "/"):
                self.at += 1
                node = ("div", node, self.power())
            else:
                return node


@lru_cache(maxsize=4096)
def parse(text: str) -> Node | None:
    """The expression as nodes, or None where it is not one (too long, too deep, words, relations, unknown commands)."""
    if not text or len(text) > MAX_LENGTH or _DERIVATIVE.search(text):
        return None
    try:
        parser = _Parser(tokenize(text))
        node = parser.expression()
        if parser.peek() == ("cmd", "choose"):
            parser.take()
            node = ("fn", "binom", (node, parser.expression()), None)
        return node if parser.peek()[0] == "end" else None
    except (SyntaxProblem, ZeroDivisionError, RecursionError):
        return None


def symbols(node: Node) -> set[str]:
    """The names of the variables of an expression."""
    found: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == "sym":
                found.add(item[1])
            else:
                stack.extend(item)
    return found


def holds(node: Node, kind: str, name: str | None = None) -> bool:
    """Whether a node of this kind (and name) stands anywhere in the expression."""
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple) and item:
            if item[0] == kind and (name is None or item[1] == name):
                return True
            stack.extend(item)
    return False
