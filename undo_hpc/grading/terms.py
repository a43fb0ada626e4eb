r"""The lower half of the grammar: terms of algebra. A Pratt parser from tokens into plain tuples; it never evaluates anything.

Nodes: ('num', Fraction, decimal places or None), ('sym', name), ('const', name), ('neg', a), ('pm', a), ('mp', a), ('add', a, b),
('mul', a, b), ('div', a, b), ('pow', a, b), ('mod', a, b), ('fact', a), ('fact2', a), ('percent', a), ('fn', name, args, parameter),
('apply', name, args), ('big', 'sum' or 'prod', variable, low, high, body), ('base', digits, base), ('quantity', a, unit),
('matrix', kind, rows), and from `grammar`: ('bracket', open, close, items), ('list', separators, items), ('rel', operators, sides),
('setop', operator, a, b), ('named', set), ('ratio', sides), ('modulo', a, m), ('given', a, domains), ('builder', a, condition),
('cases', rows), ('words', text), ('about', a), ('ldots',), ('opaque', text): a limit or an integral.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from undo_hpc.grading import names
from undo_hpc.grading.names import word_set
from undo_hpc.grading.tokens import SyntaxProblem, Token, Wordy

Node = tuple[Any, ...]
MAX_DEPTH = 100
_INVERSE = {
    "sin": "arcsin",
    "cos": "arccos",
    "tan": "arctan",
    "cot": "arccot",
    "sec": "arcsec",
    "csc": "arccsc",
} | {"sinh": "asinh", "cosh": "acosh", "tanh": "atanh"}
_SAME = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn", "lg": "log10"}
_NO_FACTOR = word_set(
    "mod bmod pmod rfloor rceil cdot times div choose over rangle cup cap setminus in notin equiv approx to subset subseteq not "
    "perp parallel propto ldots Rightarrow Leftrightarrow implies leftrightarrow rightarrow longrightarrow pm mp"
)
CURRENCIES = "$€£¥₹"
ONE_HUNDREDTH: Node = ("num", Fraction(1, 100), None)


def turned_outward(tokens: list[Token]) -> bool:
    """Whether brackets stand as in `]0, 1[`, so that a `[` closes: they do not nest when each opens that looks like opening."""
    depth = 0
    for kind, text, _ in tokens:
        if kind == "op" and text in "([])":
            depth += 1 if text in "([" else -1
            if depth < 0:
                return True
    return depth > 0


def replace(node: Node, old: Node, new: Node) -> Node:
    """The node with another one in the place of one that it holds."""
    if node == old:
        return new
    return tuple(replace(part, old, new) if isinstance(part, tuple) else part for part in node)


def _renamed(node: Node, name: str, index: str) -> Node:
    """The node with the bound name of a sum replaced, in subscripts, too."""
    if node == ("const", name):
        return ("sym", index)
    if node[0] == "sym":
        head, underscore, subscript = node[1].partition("_")
        return (
            ("sym", index) if node[1] == name else ("sym", head + underscore + subscript.replace(name, index))
        )
    return tuple(_renamed(part, name, index) if isinstance(part, tuple) and part else part for part in node)


class Terms:
    """Sums, products, powers, functions, fractions, roots, and the atoms of algebra."""

    def __init__(self, tokens: list[Token], thousands: bool) -> None:
        self.tokens, self.thousands = tokens, thousands
        self.at = self.depth = self.bars = self.brackets = 0
        self.outward = turned_outward(tokens)

    # -- tokens
    def peek(self, ahead: int = 0) -> tuple[str, str]:
        i = self.at + ahead
        return self.tokens[i][:2] if i < len(self.tokens) else ("end", "")

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

    # -- sums and products
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
            elif self.peek() in (("cmd", "pm"), ("cmd", "mp")):
                node = ("add", node, (self.take()[1], self.term()))
            else:
                self.depth -= 1
                return node

    def term(self) -> Node:
        if self.peek() in (("cmd", "pm"), ("cmd", "mp")):
            return (self.take()[1], self.term())
        negative = False
        while self.peek() in (("op", "-"), ("op", "+")):
            negative ^= self.take()[1] == "-"
        if self.peek() in (("cmd", "pm"), ("cmd", "mp")):
            return self.term()
        node = self.power()
        while True:
            kind, text = self.peek()
            if (kind, text) in (("op", "*"), ("cmd", "cdot"), ("cmd", "times")):
                self.at += 1
                node = ("mul", node, self.signed())
            elif (kind, text) in (("op", "/"), ("cmd", "div")):
                if self.peek(1)[0] == "word":
                    break
                self.at += 1
                node = ("div", node, self.signed())
            elif kind == "cmd" and text in ("mod", "bmod"):
                self.at += 1
                node = ("mod", node, self.signed())
            elif self.starts_factor(kind, text):
                if kind == "num" and self.spaced() and self.tokens[self.at - 1][0] == "num":
                    raise Wordy("two numbers side by side")
                node = ("mul", node, self.power())
            else:
                break
        return ("neg", node) if negative else node

    def signed(self) -> Node:
        if self.op("-"):
            return ("neg", self.signed())
        self.op("+")
        return self.power()

    def starts_factor(self, kind: str, text: str) -> bool:
        if kind in ("num", "sym", "begin"):
            return True
        if kind == "cmd":
            return text not in _NO_FACTOR and not (
                text == "frac" and self.peek(1)[1] == "{" and self.peek(2)[0] == "word"
            )
        if kind != "op":
            return False
        if text == "(" or (text == "[" and not self.outward):
            return not self.is_remark()
        return text == "{" or (text == "|" and self.bars == 0)

    def is_remark(self) -> bool:
        """Whether the bracket here holds words, a modulus, or the domain of a parameter, so that it is no factor."""
        first, second = self.peek(1), self.peek(2)
        return (
            first[0] == "word"
            or first[1] in ("mod", "bmod")
            or second[1] in ("in", "ne")
            or first[1] == "sym:"
        )

    def power(self) -> Node:
        node = self.postfix(self.atom())
        if not self.op("^"):
            return node
        if self.degree_sign():
            return self.degrees(node)
        mark = self.peek(1 if self.peek()[1] == "{" else 0)
        if mark in (("op", "'"), ("cmd", "prime")):
            braced = self.op("{")
            while self.op("'") or self.cmd("prime"):
                node = ("sym", self.name_of(node) + "'")
            if braced:
                self.need("}")
            return self.postfix(node)
        exponent = ("neg", self.power()) if self.op("-") else self.power()
        if node[0] == "sym" and self.peek() == ("op", "(") and self.is_application(node[1]):  # f^{-1}(x)
            return self.applied(node[1] + "^" + str(exponent))
        return self.postfix(("pow", node, exponent))

    def degree_sign(self) -> bool:
        """Takes `\\circ` or `{\\circ}` behind a caret."""
        if self.cmd("circ") or self.op("°"):
            return True
        if (
            self.peek() == ("op", "{")
            and self.peek(1) in (("cmd", "circ"), ("op", "°"))
            and self.peek(2) == ("op", "}")
        ):
            self.at += 3
            return True
        return False

    def degrees(self, node: Node) -> Node:
        """An angle in degrees, its minutes and seconds; or a temperature."""
        if self.peek() in (("sym", "C"), ("word", "C"), ("sym", "F"), ("word", "F")):
            return ("quantity", node, "celsius" if self.take()[1] == "C" else "fahrenheit")
        for marks, share in (("'", 60), ('"', 3600)):
            if self.peek()[0] == "num":
                minute = self.peek(1) == ("op", marks) or (
                    self.peek(1)[1] == "^" and self.peek(2)[1] in ("prime", "{")
                )
                if not minute:
                    break
                value = Fraction(self.take()[1])
                while self.op("'", '"', "^", "{", "}") or self.cmd("prime"):
                    pass
                node = ("add", node, ("num", value / share, None))
        return ("mul", node, ("const", "degree"))

    def postfix(self, node: Node) -> Node:
        while True:
            if self.op("!"):
                node = ("fact2", node) if self.op("!") else ("fact", node)
            elif self.op("°"):
                node = self.degrees(node)
            elif self.op("%"):
                node = ("percent", node)
            elif self.op("'"):
                node = self.application(self.name_of(node) + "'")
            else:
                return node

    @staticmethod
    def name_of(node: Node) -> str:
        if node[0] != "sym":
            raise SyntaxProblem("a prime on something that is not a symbol")
        return str(node[1])

    # -- atoms
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
        """The tokens of a subscript as one string."""
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
        if name in ("bold",):
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
        """What an accent or a sign such as the angle's stands on."""
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
        return ("big", name, index, low, high, _renamed(body, variable, index))

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
