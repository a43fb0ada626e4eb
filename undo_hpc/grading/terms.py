"""The lower half of the grammar: a Pratt parser from tokens into the nodes of an expression. `grammar` adds lists, relations and sets."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from undo_hpc.grading import tables
from undo_hpc.grading.tokens import CLOSING, Cursor, SyntaxProblem, Wordy
from undo_hpc.grading.values import Node, num, rename_index

CURRENCIES = "$€£¥₹¢"
_SUM, _PRODUCT = 10, 20  # binding powers
_SUMS = {"+": "add", "-": "neg", "pm": "pm", "mp": "mp"}
_PRODUCTS = {"*": "mul", "/": "div", "mod": "mod"}
_EVENTS = tables.RELATIONS | {"|"}  # P(A | B)
_SUPERSETS = {">0": "+", "*": "*", "ge0": "0+", "0": "0+", "+": "+", "-": "-"}


class Terms(Cursor):
    """The expressions of algebra."""

    bracket: Callable[[str], Node]  # these two are in `grammar`
    environment: Callable[[str], Node]

    def expression(self, level: int = 0) -> Node:
        """An expression of operators that bind stronger than `level`."""
        if self.skip(*_SUMS):
            sign, node = self.peek(-1)[1], self.expression(max(level, _SUM))
            node = node if sign == "+" or node[0] in ("pm", "mp") else (_SUMS[sign], node)
        else:
            node = self.power()
        while True:
            kind, text = self.peek()
            operator = text if kind in ("op", "cmd") else ""
            if operator in _SUMS and level < _SUM:
                self.at += 1
                right = self.expression(_SUM)
                node = ("add", node, right if text == "+" else (_SUMS[text], right))
            elif level >= _PRODUCT or (text == "/" and self.peek(1)[0] == "word"):
                break
            elif operator in _PRODUCTS:
                self.at += 1
                node = (_PRODUCTS[text], node, self.expression(_PRODUCT))
            elif self.starts_factor():
                if kind == self.peek(-1)[0] == "num" and self.spaced():
                    raise Wordy("two numbers side by side")
                node = ("mul", node, self.power())
            else:
                break
        return node

    def starts_factor(self) -> bool:
        """Whether a factor without a sign of multiplication stands here."""
        kind, text = self.peek()
        if kind == "cmd":
            return text not in tables.NO_FACTORS
        if kind != "op":
            return kind in ("num", "sym", "begin")
        opens = text == "(" or (text == "[" and not self.outward)
        return text == "{" or (text == "|" and not self.bars) or (opens and not self.is_remark())

    def is_remark(self) -> bool:
        """Whether the bracket here holds words, a modulus, or the domain of a parameter, so that it is no factor."""
        return (
            self.peek(1)[0] == "word"
            or self.peek(1)[1] == "mod"
            or self.peek(2)[1] in ("in", "ne", "ge", ">", "le", "<")
        )

    # -- powers and what stands behind a factor
    def power(self) -> Node:
        """A factor with its exponent."""
        node = self.postfix(self.atom())
        if not self.skip("^"):
            return node
        braced = self.peek() == ("op", "{")
        mark = self.peek(int(braced))[1]
        if mark in ("circ", "°", "'", "prime"):
            self.at += braced
            degree = self.skip("circ", "°")
            while self.skip("'", "prime"):
                node = self.primed(node)
            if braced:
                self.need("}")
            return self.postfix(self.degrees(node) if degree else node)
        exponent = ("neg", self.power()) if self.skip("-") else self.power()
        if node[0] == "sym" and self.peek() == ("op", "(") and self.is_application(node[1]):  # f^{-1}(x)
            return self.applied(f"{node[1]}^{exponent}")
        return self.postfix(("pow", node, exponent))

    def postfix(self, node: Node) -> Node:
        """Factorials, degrees, percent signs and primes."""
        while True:
            if self.skip("!"):
                node = ("fact2" if self.skip("!") else "fact", node)
            elif self.skip("°"):
                node = self.degrees(node)
            elif self.skip("%"):
                node = ("percent", node)
            elif self.skip("'"):
                node = self.application(self.primed(node)[1])
            else:
                return node

    def primed(self, node: Node) -> Node:
        """A symbol with a prime."""
        if node[0] != "sym":
            raise SyntaxProblem("a prime on something that is not a symbol")
        return ("sym", node[1] + "'")

    def degrees(self, node: Node) -> Node:
        """An angle in degrees, its minutes and seconds; or a temperature."""
        if self.peek()[1] in ("C", "F"):
            return ("quantity", node, "celsius" if self.take()[1] == "C" else "fahrenheit")
        for marks, share in (("'", 60), ('"', 3600)):
            raised = self.peek(1)[1] == "^" and self.peek(2)[1] in ("prime", "{")
            written = '"' if self.ahead(3)[1:] == ["'", "'"] else self.peek(1)[1]
            if self.peek()[0] == "num" and (raised or written == marks):
                node = ("add", node, num(Fraction(self.take()[1]) / share))
                while self.skip("'", '"', "^", "{", "}", "prime"):
                    pass
        return ("mul", node, ("const", "degree"))

    # -- atoms
    def atom(self) -> Node:
        """A number, a name, a bracket, a command with its arguments."""
        kind, text = self.take()
        if kind == "num":
            return self.number(text)
        if kind == "sym":
            return self.symbol(text)
        if kind == "begin":
            return self.environment(text)
        if kind == "cmd":
            return self.command(text)
        if kind == "op" and (text in CLOSING or (text == "]" and self.outward)):
            return self.bracket(text)
        if kind == "op" and text == "|":
            inside = self.within(self.expression, self.brackets, 1)
            self.need("|")
            return ("fn", "abs", (inside,), None)
        if kind == "op" and text in CURRENCIES:
            return ("quantity", self.expression(_PRODUCT), text)
        raise SyntaxProblem(f"unexpected {text!r}")

    def group(self, opening: str) -> Node:
        """An argument in brackets of its own."""
        self.need(opening)
        node = self.within(self.expression, 0)
        self.need(CLOSING[opening])
        return node

    def argument(self) -> Node:
        r"""One argument of a LaTeX command: `{...}`, a digit, a letter, or a command."""
        kind, text = self.peek()
        if text == "{":
            return self.group("{")
        if kind != "num":
            return self.atom()
        self.at += 1
        if len(text) > 1 and text.isdigit():
            self.tokens.insert(self.at, ("num", text[1:], False))
            text = text[0]
        return num(Fraction(text.replace(",", "")))

    def number(self, text: str) -> Node:
        """A number: with its decimal places, mixed, or of another base."""
        if "," in text and (self.brackets or not self.thousands):
            text, *rest = text.split(",")
            comma = ("op", ",", False)
            self.tokens[self.at : self.at] = [t for r in rest for t in (comma, ("num", r, False))]
        value = Fraction(text.replace(",", ""))
        if text.replace(",", "").isdigit():
            if self.skip("_"):
                base = self.raw_subscript().lower().removeprefix("base").strip()
                return ("base", text, int(tables.NUMBER_WORDS.get(base, base)))
            if mixed := self.mixed():
                return num(value + mixed)
        if self.peek()[0] == "num" and self.spaced():
            raise Wordy("two numbers side by side")
        plain = "." in text and "e" not in text.lower()
        return ("num", value, len(text.partition(".")[2]) if plain else None)

    def mixed(self) -> Fraction | None:
        r"""The fraction of `3\frac{1}{2}` and `3 1/2`, where both parts are bare integers."""
        written, spaced = self.ahead(7), self.spaced()
        found = re.match(r"frac(?:\{(\d+)\}\{(\d+)\}|(\d)(\d)(?!\d))", "".join(written))
        if found and self.peek() == ("cmd", "frac"):
            tokens = 7 if found[1] else 2 if len(written[1]) == 2 else 3
        elif spaced and (found := re.match(r"(\d+)/(\d+)", "".join(written[:3]))):
            tokens = 3
        else:
            return None
        top, bottom = (int(digits) for digits in found.groups() if digits)
        self.at += tokens if bottom else 0
        return Fraction(top, bottom) if bottom else None

    def symbol(self, name: str) -> Node:
        """A letter with its index; e and i are constants."""
        if self.skip("_"):
            return self.application(f"{name}_{self.raw_subscript()}")
        if name == "e" or (name in ("i", "I") and not (name == "I" and self.peek() == ("op", "("))):
            return ("const", name.lower())
        return self.application(name)

    def application(self, name: str) -> Node:
        """A symbol, or a function of no known meaning applied to arguments: `f(0)` is no product."""
        applied = self.peek() == ("op", "(") and self.is_application(name)
        return self.applied(name) if applied else ("sym", name)

    def is_application(self, name: str) -> bool:
        """Whether the bracket here holds arguments: one number or letter, several parts, or anything behind `f`."""
        depth, inside = 0, []
        for token in self.tokens[self.at : self.at + 60]:
            depth += (token[1] in ("(", "[")) - (token[1] in (")", "]"))
            if depth == 0:
                break
            inside.append((depth, *token))
        several = any(d == 1 and (t in ",;" or (kind == "num" and "," in t)) for d, kind, t, _ in inside)
        said = any(t in _EVENTS for _, _, t, _ in inside) or self.peek(1)[0] == "word"
        event = said and len(name) == 1 and name.isupper() and not self.spaced()  # P(X = 0)
        function = name[0] in "fF" and not self.is_remark()
        return several or event or function or len(inside) == 2 or (name[-1] == "'" and len(inside) > 1)

    def applied(self, name: str) -> Node:
        """A name applied to its arguments, or to an event as one name: P(X = 0)."""
        self.need("(")
        inside = self.ahead(len(self.tokens))
        inside = inside[: inside.index(")") if ")" in inside else 0]
        event = _EVENTS & set(inside) and inside.count("|") != 2  # f(|x|)
        if (event or self.peek()[0] == "word") and "(" not in inside:
            self.at += len(inside) + 1
            return ("sym", f"{name}({' '.join(inside)})")
        arguments = self.within(self.arguments, 1)
        self.need(")")
        return ("apply", name, arguments)

    def arguments(self) -> tuple[Node, ...]:
        """Arguments parted by commas."""
        found = [self.expression()]
        while self.skip(",", ";"):
            found.append(self.expression())
        return tuple(found)

    # -- commands and functions
    def command(self, name: str) -> Node:
        """A command with its arguments."""
        if name == "frac":
            return self.derivative() or ("div", self.argument(), self.argument())
        if name in ("sqrt", "cbrt"):
            degree = self.group("[") if self.peek() == ("op", "[") else num(3) if name == "cbrt" else None
            return ("fn", "sqrt", (self.argument(),), degree)
        if name == "binom" and self.peek() != ("op", "("):
            return ("fn", name, (self.argument(), self.argument()), None)
        if name in ("infty", "pi"):
            return ("const", name)
        if name in ("lfloor", "lceil"):
            inside = self.expression()
            self.need("r" + name[1:])
            return ("fn", name[1:], (inside,), None)
        if name in tables.FUNCTIONS or name in tables.MULTI_ARGUMENT:
            return self.function(name)
        if name in ("sum", "prod"):
            return self.big(name)
        if name in ("lim", "limsup", "liminf", "int", "iint", "oint", "iiint"):
            return self.opaque(name)
        if name == "bold" or (name == "hat" and {"i", "j", "k"} & set(self.ahead(2))):
            return self.argument()
        if name in tables.MARKS:  # the letters below an accent or behind a mark: \vec{a}, \angle ABC
            letters = self.raw_subscript()
            while letters.isupper() and self.peek()[1].isupper() and not self.spaced():
                letters += self.take()[1]
            return ("sym", f"{name}:{letters}")
        if name in tables.GREEK or name in ("ell", "partial", "hbar", "nabla"):
            return self.symbol(name)
        if name == "mathbb":  # `\mathbb{Z}^+`, `\mathbb{R}_{>0}`
            name = self.raw_subscript()
            while self.skip("^", "_"):
                mark = self.raw_subscript()
                name += _SUPERSETS.get(mark, f"^{mark}")
            return ("named", name)
        if name == "langle":
            return self.bracket(name)
        if name in ("emptyset", "ldots"):
            return ("ldots",) if name == "ldots" else ("bracket", "\\{", "\\}", ())
        raise SyntaxProblem(f"command {name}")

    def derivative(self) -> Node | None:
        r"""`\frac{dy}{dx}` as one name."""
        found = re.match(r"\{ (?:d|partial) (\w+ )?\} \{ (?:d|partial) (\w+) \}", " ".join(self.ahead(8)))
        if not found:
            return None
        if not found[1]:
            raise SyntaxProblem("a derivative to be carried out")
        self.at += 8
        return ("sym", f"d{found[1].strip()}/d{found[2]}")

    def big(self, name: str) -> Node:
        r"""`\sum_{k=1}^{n} body`; the body is the term behind it. The sum over i is the sum over k: bound names are the same."""
        self.need("_")
        self.need("{")
        variable = self.take()[1]
        self.need("=")
        low = self.expression()
        self.need("}")
        self.need("^")
        high, body = self.argument(), self.expression(_SUM)
        index = "∑" + "'" * str(body).count("'big'")
        return ("big", name, index, low, high, rename_index(body, variable, index))

    def opaque(self, name: str) -> Node:
        """A limit or an integral up to the end of this side: a name for its value, which only algebra can compute."""
        parts, depth = [name], 0
        while self.peek()[0] != "end":
            text = self.peek()[1]
            depth += (text in ("(", "{", "[")) - (text in (")", "}", "]"))
            if depth < 0 or (depth == 0 and text in (tables.RELATIONS - {"to"} | {",", ";", "and", "or"})):
                break
            parts.append(self.take()[1])
        return ("opaque", " ".join(parts))

    def function(self, name: str) -> Node:
        """A function with its base, exponent and arguments."""
        parameter: Node | None = None
        exponent: Node | None = None
        while self.skip("_", "^"):
            if self.peek(-1)[1] == "_":
                parameter = self.argument()
            else:
                exponent = ("neg", self.argument()) if self.skip("-") else self.argument()
        if exponent == ("neg", num(1)) and f"a{name}" in tables.FUNCTIONS:
            name, exponent = f"a{name}", None
        opening = self.peek()[1]
        if name in ("max", "min") and opening in ("=", "approx"):
            return ("sym", name)  # \max = 5
        if self.skip("(", "{", "\\{", "["):
            arguments = self.within(self.arguments, int(opening != "{"))
            self.need(CLOSING[opening])
        else:
            arguments = (self.bare_argument(),)
        if name not in tables.MULTI_ARGUMENT and len(arguments) != 1:
            raise SyntaxProblem(f"arguments of {name}")
        node: Node = ("fn", name, arguments, parameter)
        return ("pow", node, exponent) if exponent is not None else node

    def bare_argument(self) -> Node:
        r"""The argument of `\sin 2x \cos y`: factors up to the next sign or function."""
        if self.skip("-"):
            return ("neg", self.bare_argument())
        node = self.power()
        while True:
            kind, text = self.peek()
            if kind in ("num", "sym") or (kind == "cmd" and text in tables.GREEK | {"pi", "frac", "sqrt"}):
                node = ("mul", node, self.power())
            elif self.skip("/"):
                node = ("div", node, self.power())
            else:
                return node
