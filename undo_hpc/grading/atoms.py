"""The lowest part of the grammar: numbers, names, applied names, functions, fractions, roots, sums: what a term is made of."""

from __future__ import annotations

import re
from fractions import Fraction

from undo_hpc.grading import names
from undo_hpc.grading.nodes import Node, rename_index
from undo_hpc.grading.tokens import SyntaxProblem, Token, Wordy, turned_outward

_INVERSE = {
    "sin": "arcsin",
    "cos": "arccos",
    "tan": "arctan",
    "cot": "arccot",
    "sec": "arcsec",
    "csc": "arccsc",
} | {"sinh": "asinh", "cosh": "acosh", "tanh": "atanh"}
_SAME = {"lg": "log10"}
CURRENCIES = "$€£¥₹"


class Atoms:
    """Reading tokens, and the atoms of algebra."""

    def __init__(self, tokens: list[Token], thousands: bool) -> None:
        self.tokens, self.thousands = tokens, thousands
        self.at = self.depth = self.bars = self.brackets = 0
        self.outward = turned_outward(tokens)

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        return self.tokens[i][:2] if (i := self.at + ahead) < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        found = self.peek()
        self.at += 1
        return found

    def op(self, *texts: str) -> bool:
        kind, text = self.peek()
        if kind == "op" and text in texts:
            self.at += 1
            return True
        return False

    def cmd(self, *texts: str) -> bool:
        kind, text = self.peek()
        if kind == "cmd" and text in texts:
            self.at += 1
            return True
        return False

    def need(self, *texts: str) -> str:
        kind, text = self.take()
        if kind != "op" or text not in texts:
            raise SyntaxProblem(f"expected {texts[0]!r}, found {text!r}")
        return text

    def spaced(self) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][2]

    def atom(self) -> Node:
        kind, text = self.take()
        if kind == "num":
            return self.number(text)
        if kind == "sym":
            return self.symbol(text)
        if kind == "begin":
            return self.environment(text)
        if kind == "op":
            if text in ("(", "[", "{", "\\{") or (text == "]" and self.outward):
                return self.bracket(text)
            if text == "|":
                bars, self.bars = self.bars, 1
                inside = self.expression()
                self.bars = bars
                self.need("|")
                return ("fn", "abs", (inside,), None)
            if text in CURRENCIES:
                return ("quantity", self.signed(), text)
        if kind == "cmd":
            return self.command(text)
        raise SyntaxProblem(f"unexpected {text!r}")

    def bracket(self, opening: str) -> Node:
        raise NotImplementedError

    def environment(self, name: str) -> Node:
        raise NotImplementedError

    def expression(self) -> Node:
        raise NotImplementedError  # in `terms`

    def term(self) -> Node:
        raise NotImplementedError

    def power(self) -> Node:
        raise NotImplementedError

    def signed(self) -> Node:
        raise NotImplementedError

    def is_remark(self) -> bool:
        raise NotImplementedError

    def group(self, closing: str) -> Node:
        self.need({"}": "{", "]": "["}[closing])
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        self.need(closing)
        return node

    def argument(self) -> Node:
        r"""One argument of a LaTeX command: `{...}`, a digit, a letter, or a command."""
        kind, text = self.peek()
        if (kind, text) == ("op", "{"):
            brackets, self.brackets = self.brackets, 0
            node = self.group("}")
            self.brackets = brackets
            return node
        if kind == "num":
            self.at += 1
            if len(text) > 1 and text.isdigit():
                self.tokens.insert(self.at, ("num", text[1:], False))
                text = text[0]
            return ("num", Fraction(text.replace(",", "")), None)
        return self.atom()

    def number(self, text: str) -> Node:
        if "," in text and (self.brackets or not self.thousands):
            pieces = text.split(",")
            rest: list[Token] = [
                t for piece in pieces[1:] for t in (("op", ",", False), ("num", piece, False))
            ]
            self.tokens[self.at : self.at] = rest
            text = pieces[0]
        value = Fraction(text.replace(",", ""))
        places = len(text.partition(".")[2]) if "." in text and "e" not in text.lower() else None
        if places is None and text.replace(",", "").isdigit():
            if self.peek() == ("op", "_"):
                return self.based(text)
            mixed = self.mixed(value)
            if mixed is not None:
                return mixed
        if self.peek()[0] == "num" and self.spaced():
            raise Wordy("two numbers side by side")
        return ("num", value, places)

    def based(self, digits: str) -> Node:
        self.at += 1
        written = self.raw_subscript()
        base = names.NUMBER_WORDS.get(written.lower().removeprefix("base").strip(), written)
        if not str(base).isdigit():
            raise SyntaxProblem("a number with a subscript that is no base")
        return ("base", digits, int(base))

    def mixed(self, whole: Fraction) -> Node | None:
        r"""`3\frac{1}{2}`, `3 1/2`: a mixed number where all parts are bare integers."""
        if self.peek() == ("cmd", "frac") and self.peek(2)[0] != "word":
            at, tokens = self.at, list(self.tokens)
            self.at += 1
            top, bottom = (self.argument() if self.peek()[0] != "end" else None for _ in range(2))
            if (
                top
                and bottom
                and top[0] == bottom[0] == "num"
                and top[1].denominator == bottom[1].denominator == 1
                and bottom[1]
            ):
                return ("num", whole + top[1] / bottom[1], None)
            self.at, self.tokens = at, tokens
            return None
        one, slash, two = self.peek(), self.peek(1), self.peek(2)
        if self.spaced() and slash == ("op", "/") and one[1].isdigit() and two[1].isdigit() and int(two[1]):
            self.at += 3
            return ("num", whole + Fraction(int(one[1]), int(two[1])), None)
        return None

    def raw_subscript(self) -> str:
        kind, text = self.take()
        if kind != "op" or text not in ("{", "("):
            return text
        depth, parts, closing = 1, [], {"{": "}", "(": ")"}[text]
        while depth:
            kind, piece = self.take()
            if kind == "end":
                raise SyntaxProblem("open subscript")
            depth += (piece == text) - (piece == closing)
            if depth:
                parts.append(piece)
        return "".join(parts)

    def symbol(self, name: str) -> Node:
        if self.op("_"):
            return self.application(f"{name}_{self.raw_subscript()}")
        if name == "e":
            return ("const", "e")
        if name in ("i", "I") and not (name == "I" and self.peek() == ("op", "(")):
            return ("const", "i")
        return self.application(name)

    def application(self, name: str) -> Node:
        """A symbol, or a function of no known meaning applied to arguments: `f(0)` is no product."""
        if self.peek() == ("op", "(") and self.is_application(name):
            return self.applied(name)
        return ("sym", name)

    def is_application(self, name: str) -> bool:
        """Whether the bracket here holds arguments: one number or letter, several parts, or anything behind `f`."""
        depth, size, commas = 0, 0, 0
        for i in range(self.at, min(len(self.tokens), self.at + 60)):
            text = self.tokens[i][1]
            depth += (text in ("(", "[")) - (text in (")", "]"))
            if depth == 0:
                break
            size += 1
            commas += depth == 1 and (text in (",", ";") or (self.tokens[i][0] == "num" and "," in text))
        inside = {text for _, text, _ in self.tokens[self.at : self.at + size + 1]}
        said = names.RELATIONS & inside or self.peek(1)[0] == "word"
        return (
            commas > 0
            or bool(said and len(name) == 1 and name.isupper() and not self.spaced())
            or size == 2
            or (name[0] in "fF" and not self.is_remark())
            or (name[-1] == "'" and size > 1)
        )

    def applied(self, name: str) -> Node:
        self.need("(")
        closing = next(
            (i for i in range(self.at, len(self.tokens)) if self.tokens[i][1] in ("(", ")")), self.at
        )
        inside = [text for _, text, _ in self.tokens[self.at : closing]]
        if (names.RELATIONS.intersection(inside) or self.peek()[0] == "word") and self.tokens[closing][
            1
        ] == ")":  # P(X = 0)
            self.at = closing + 1
            return ("sym", f"{name}({' '.join(inside)})")
        bars, self.bars = self.bars, 0
        self.brackets += 1
        arguments = [self.expression()]
        while self.op(",", ";"):
            arguments.append(self.expression())
        self.brackets -= 1
        self.bars = bars
        self.need(")")
        return ("apply", name, tuple(arguments))

    def command(self, name: str) -> Node:
        if name == "frac":
            derivative = self.derivative()
            if derivative:
                return derivative
            top = self.argument()
            return ("div", top, self.argument())
        if name == "sqrt":
            degree = self.group("]") if self.peek() == ("op", "[") else None
            return ("fn", "sqrt", (self.argument(),), degree)
        if name == "binom" and self.peek() != ("op", "("):
            top = self.argument()
            return ("fn", "binom", (top, self.argument()), None)
        if name in ("infty", "pi"):
            return ("const", name)
        if name in ("lfloor", "lceil"):
            inside = self.expression()
            if self.take() != ("cmd", "r" + name[1:]):
                raise SyntaxProblem("open floor or ceiling")
            return ("fn", "ceil" if name == "lceil" else "floor", (inside,), None)
        if name in names.FUNCTIONS or name in names.MULTI_ARGUMENT:
            return self.function(_SAME.get(name, name))
        if name in names.BIG:
            return self.big(name)
        if name in ("lim", "limsup", "liminf", "int", "iint", "oint", "iiint"):
            return self.opaque(name)
        if name == "bold":
            return self.argument()
        if name in names.MARKS:
            return ("sym", f"{name}:{self.marked()}")
        if name in names.GREEK or name in ("ell", "partial", "hbar", "Delta", "nabla"):
            return self.symbol(name)
        if name == "emptyset":
            return ("bracket", "\\{", "\\}", ())
        if name == "ldots":
            return ("ldots",)
        if name == "mathbb":
            return self.named()
        if name == "langle":
            return self.bracket("langle")
        raise SyntaxProblem(f"command {name}")

    def marked(self) -> str:
        if self.peek()[1] in ("{", "("):
            return self.raw_subscript()
        letters = self.take()[1]
        while (
            self.peek()[0] == "sym" and self.peek()[1].isupper() and letters.isupper() and not self.spaced()
        ):
            letters += self.take()[1]
        return letters

    def derivative(self) -> Node | None:
        r"""`\frac{dy}{dx}` as one name."""
        found = [text for _, text, _ in self.tokens[self.at : self.at + 8]]
        match = re.match(r"\{ (?:d|partial) (\w+ )?\} \{ (?:d|partial) (\w+) \}", " ".join(found))
        if not match:
            return None
        if not match[1]:
            raise SyntaxProblem("a derivative to be carried out")
        self.at += 7 + bool(match[1])
        return ("sym", f"d{(match[1] or '').strip()}/d{match[2]}")

    def named(self) -> Node:
        r"""`\mathbb{R}`, `\mathbb{Z}^+`, `\mathbb{R}_{>0}`."""
        name = self.raw_subscript()
        while self.peek()[1] in ("^", "_"):
            self.at += 1
            name += {"+": "+", ">0": "+", "-": "-", "*": "*", "ge0": "0+", "geq0": "0+", "0": "0+"}.get(
                mark := self.raw_subscript(), "^" + mark
            )
        return ("named", name)

    def big(self, name: str) -> Node:
        r"""`\sum_{k=1}^{n} body`; the body is the term behind it."""
        self.need("_")
        self.need("{")
        variable = self.take()[1]
        self.need("=")
        low = self.expression()
        self.need("}")
        self.need("^")
        high = self.argument()
        body = self.term()
        index = "∑" + "'" * str(body).count(
            "'big'"
        )  # bound names are all the same: the sum over i is the sum over k
        return ("big", name, index, low, high, rename_index(body, variable, index))

    def opaque(self, name: str) -> Node:
        """A limit or an integral up to the end of this side: a name for its value, which only algebra can compute."""
        parts, depth = [name], 0
        while self.peek()[0] != "end":
            text = self.peek()[1]
            depth += (text in "({[") - (text in ")}]") if len(text) == 1 else 0
            if depth < 0 or (
                depth == 0 and text in ("=", "approx", ",", ";", "<", ">", "le", "ge", "and", "or")
            ):
                break
            parts.append(self.take()[1])
        return ("opaque", " ".join(parts))

    def function(self, name: str) -> Node:
        parameter: Node | None = None
        exponent: Node | None = None
        for _ in range(2):
            if self.op("_"):
                parameter = self.argument()
            elif self.op("^"):
                exponent = ("neg", self.argument()) if self.op("-") else self.argument()
        if exponent == ("neg", ("num", Fraction(1), None)) and name in _INVERSE:
            name, exponent = _INVERSE[name], None
        arguments: tuple[Node, ...]
        kind, text = self.peek()
        if kind == "op" and text in ("(", "{", "\\{", "["):
            self.at += 1
            bars, self.bars = self.bars, 0
            self.brackets += text != "{"
            found = [self.expression()]
            while self.op(",", ";"):
                found.append(self.expression())
            self.brackets -= text != "{"
            self.bars = bars
            self.need({"(": ")", "{": "}", "\\{": "\\}", "[": "]"}[text])
            arguments = tuple(found)
        else:
            arguments = (self.bare_argument(),)
        if name not in names.MULTI_ARGUMENT and len(arguments) != 1:
            raise SyntaxProblem(f"arguments of {name}")
        if name in ("gcd", "lcm") and len(arguments) == 1 and arguments[0][0] == "bracket":
            arguments = arguments[0][3]
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
                kind == "cmd" and (text in names.GREEK or text in ("pi", "frac", "sqrt"))
            ):
                node = ("mul", node, self.power())
            elif (kind, text) == ("op", "/"):
                self.at += 1
                node = ("div", node, self.power())
            else:
                return node
