"""The middle part of the grammar: sums, products, powers, degrees. A Pratt parser from tokens into nodes."""

from __future__ import annotations

from fractions import Fraction

from undo_hpc.grading.atoms import Atoms
from undo_hpc.grading.names import word_set
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.tokens import SyntaxProblem, Wordy

MAX_DEPTH = 100
_NO_FACTOR = word_set(
    "mod bmod pmod rfloor rceil cdot times div choose over rangle cup cap setminus in notin equiv approx to subset subseteq not "
    "perp parallel propto ldots Rightarrow Leftrightarrow implies leftrightarrow rightarrow longrightarrow pm mp"
)


class Terms(Atoms):
    """Sums, products and powers."""

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
