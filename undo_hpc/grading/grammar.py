r"""The upper half of the grammar: lists, relations, sets, ratios, brackets, matrices, cases, units and what is said of parameters.

`parse(text)` turns a whole answer into one node (see `terms`); it raises SyntaxProblem for what is no mathematics, and Wordy for words.
"""

from __future__ import annotations

from functools import lru_cache

from undo_hpc.grading import names, units
from undo_hpc.grading.atoms import CURRENCIES
from undo_hpc.grading.domains import domain_of, said_domain
from undo_hpc.grading.names import word_set
from undo_hpc.grading.nodes import Node
from undo_hpc.grading.terms import MAX_DEPTH, Terms
from undo_hpc.grading.tokens import SyntaxProblem, Wordy, prepare, tokenize

MAX_LENGTH = 3000
_HEDGES = word_set(
    "about approximately exactly roughly around only just simply thus therefore hence so answer final"
)
_CODES = {"usd": "$", "us": "$", "rs": "₹", "inr": "₹", "eur": "€", "gbp": "£"}
_CLAUSES = word_set("where for with if when provided any some integer integers")
_CLOSING = {"(": (")", "]", "["), "[": (")", "]", "["), "]": (")", "]", "["), "{": ("}",), "\\{": ("\\}",)}


class Grammar(Terms):
    """A whole answer."""

    def answer(self) -> Node:
        node = self.listing()
        if self.peek()[0] != "end":
            raise (Wordy if self.peek()[0] == "word" else SyntaxProblem)(f"unexpected {self.peek()[1]!r}")
        return node

    # -- lists
    def listing(self) -> Node:
        items, separators = [self.item()], []
        while separator := self.separator():
            if self.peek()[0] in ("end", "row") or self.peek()[1] in (")", "]", "\\}", "}", "&", "["):
                break
            separators.append(separator)
            items.append(self.item())
        return ("list", tuple(separators), tuple(items)) if separators else items[0]

    def separator(self) -> str:
        """The strongest of the separators that stand here: `;`, `or`, `and`, `,`; an empty string for none."""
        found = ""
        while True:
            kind, text = self.peek()
            if (kind, text) == ("cmd", "ldots") and not found:
                return ","
            if kind == "op" and (text in (",", ";", "quad") or text in names.CONNECTORS):
                text = {"quad": ","}.get(text, text)
                text = {"or": "or", "oder": "or", "ou": "or", "o": "or"}.get(
                    text, "and" if text in names.CONNECTORS else text
                )
                found = max(found, text, key=["", ",", "and", "or", ";"].index)
            elif kind == "row" and self.brackets == 0:
                found = max(found, ",", key=["", ",", "and", "or", ";"].index)
            else:
                return found
            self.at += 1

    # -- one item: a value, a relation, a label with its value
    def item(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise SyntaxProblem("nested too deep")
        try:
            return self.suffixes(self.relation())
        finally:
            self.depth -= 1

    def relation(self) -> Node:
        if (
            self.peek() == ("op", "(")
            and self.peek(1)[0] == "word"
            and len(self.peek(1)[1]) < 3
            and self.peek(2) == ("op", ")")
        ):
            label = self.peek(1)[1]
            self.at += 3
            return ("rel", ("=",), (("words", f"({label})"), self.relation()))
        if self.cmd("approx"):
            return ("about", self.side())
        while self.peek()[0] == "word" and self.peek()[1].lower() in _HEDGES:
            about = self.take()[1].lower() in ("about", "approximately", "roughly", "around")
            self.op(":")
            if about:
                return ("about", self.side())
        sides, operators = [self.labelled()], []
        while operator := self.operator():
            operators.append(operator)
            sides.append(self.side())
        return ("rel", tuple(operators), tuple(sides)) if operators else sides[0]

    def operator(self) -> str:
        kind, text = self.peek()
        if kind == "cmd" and text == "not":
            self.at += 1
            return {"=": "ne", "in": "notin"}.get(self.operator(), "?")
        if (kind, text) == ("op", ":") and self.peek(1) == ("op", "="):
            self.at += 1
        elif kind not in ("op", "cmd") or text not in names.RELATIONS:
            return ""
        self.at += 1
        return "=" if text == ":" else text

    def labelled(self) -> Node:
        """The first side: an expression, or words that name one (`Area = 12`, `Total: 260 sheep`)."""
        if self.peek()[0] != "word":
            return self.side()
        text = self.peek()[1]
        if text.lower() in ("negative", "minus") and self.peek(1)[0] == "num":
            self.at += 1
            return ("neg", self.side())
        if text.lower() in _CODES and self.peek(1)[0] == "num":
            self.at += 1
            return ("quantity", self.expression(), _CODES[text.lower()])
        words: list[str] = []
        while self.peek()[0] == "word" or (words and self.peek()[0] == "sym"):
            words.append(self.take()[1])
        said = words[-1].lower() in ("is", "are", "be", "equals") and not any(
            w.lower() in units.NO_UNIT for w in words[:-1]
        )
        if self.op(":") or said:
            return self.side()
        if self.peek() in (("op", "="), ("cmd", "approx")) and not any(
            w.lower() in units.NO_UNIT for w in words
        ):
            return ("words", " ".join(words))
        raise Wordy("words")

    def suffixes(self, node: Node) -> Node:
        """A modulus, remarks in brackets, and clauses such as `where k is an integer`."""
        while True:
            if self.cmd("pmod"):
                node = ("modulo", node, self.argument())
            elif self.peek() == ("op", "(") and self.peek(1)[1] in ("mod", "bmod"):
                self.at += 2
                node = ("modulo", node, self.expression())
                self.need(")")
            elif self.peek() == ("op", "(") and self.is_remark():
                self.at += 1
                node = self.remark(node)
            elif self.peek()[0] == "word" and self.peek()[1].lower() in _CLAUSES:
                node = self.clause(node)
            else:
                return node

    def remark(self, node: Node) -> Node:
        if self.peek()[0] == "word" and self.peek()[1].lower() not in _CLAUSES | {"all", "every"}:
            while self.peek()[0] == "word":
                if self.take()[1].lower() in units.NO_UNIT - {"only"}:
                    raise Wordy("a remark that changes the answer")
            self.need(")")
            return node
        node = self.clause(node)
        self.need(")")
        return node

    def clause(self, node: Node) -> Node:
        """`where k is any integer`, `for all real x`, `k in Z`: the domains of the names that it tells of."""
        said: list[str] = []
        domains: list[tuple[str, str]] = []
        spoken: list[str] = []
        while self.peek()[0] in ("word", "sym") or self.peek() in (("op", ","), ("op", "and")):
            if self.peek()[0] == "sym" and self.peek(1)[1] in ("in", "=", "<", ">", "le", "ge", "ne", ","):
                spoken.append(self.peek()[1])
                if self.peek(1) == ("op", ","):
                    self.at += 1
                    continue
                found = domain_of(self.relation())
                if found is None:
                    raise Wordy("a condition")
                domains.extend(found)
                continue
            kind, text = self.take()
            (spoken if kind == "sym" else said).append(text.lower() if kind == "word" else text)
        if domains:
            return ("given", node, tuple(domains))
        if any(
            word in ("not", "except", "but", "otherwise", "than", "less", "greater", "least", "most")
            for word in said
        ):
            raise Wordy("a condition in words")
        stems = [word.rstrip("s") for word in said]
        domain = said_domain(stems)
        if domain is None:
            raise Wordy("a clause")
        return ("given", node, tuple((name, domain) for name in dict.fromkeys(spoken)) or (("", domain),))

    # -- one side of a relation: sets, ratios, quantities
    def side(self) -> Node:
        node = self.measured()
        if self.peek() == ("op", ":") and self.peek(1) != ("op", "=") and node[0] != "named":
            sides = [node]
            written = self.peek(1)[1]
            while self.op(":"):
                sides.append(self.expression())
            clock = "0" if written[0] == "0" else ":" if len(written) == 2 else ""
            clock = self.take()[1] if self.peek() in (("word", "am"), ("word", "pm")) else clock
            return ("ratio", tuple(sides), clock)
        if (
            self.peek() in (("word", "to"), ("op", "to"), ("word", "over"))
            and self.peek(1)[0] == "num"
            and node[0] == "num"
        ):
            word = self.take()[1]
            other = self.measured()
            return ("ratio", (node, other), "") if word == "to" else ("div", node, other)
        sets = (("cmd", "cup"), ("cmd", "cap"), ("cmd", "setminus"))
        while self.peek() in sets or (node[0] in ("named", "bracket") and self.peek() == ("op", "-")):
            operator = self.take()[1]
            node = ("setop", "setminus" if operator == "-" else operator, node, self.measured())
        return node

    def measured(self) -> Node:
        """An expression with its unit; `5 feet 4 inches` is one quantity."""
        node = self.expression()
        if node[0] == "named":
            return node
        ordinal = self.peek()[1] in ("th", "st", "nd", "rd") and node[0] == "num" and not self.spaced()
        unit = self.unit()
        if ordinal:
            if " " in unit:
                raise Wordy("words")
            return node
        if unit:
            node = ("quantity", node, unit)
            if self.peek()[0] == "num" and self.peek(1)[0] == "word":
                rest = self.measured()
                first, second = units.read(unit), units.read(rest[2]) if rest[0] == "quantity" else None
                if not (
                    first
                    and second
                    and first.dimension
                    and first.dimension == second.dimension
                    and second.size < first.size
                ):
                    raise Wordy("numbers and words in turn")
                factor = ("num", first.size / second.size, None)
                return ("quantity", ("add", ("mul", node[1], factor), rest[1]), rest[2])
        return node

    def unit(self) -> str:
        """The unit phrase here as one string, or an empty one. Raises Wordy where the words are no unit."""
        pieces: list[str] = []
        while True:
            kind, text = self.peek()
            if (
                kind == "word"
                and text.lower() not in _CLAUSES
                and (text not in ("to", "am", "pm", "over") or pieces)
            ):
                if text.lower() in ("where", "if"):
                    break
                pieces.append(text)
                self.at += 1
            elif (kind, text) == ("cmd", "frac") and self.peek(1)[1] == "{" and self.peek(2)[0] == "word":
                self.at += 2
                pieces.append(self.unit())
                self.need("}")
                self.need("{")
                pieces.append("/ (" + self.unit() + ")")
                self.need("}")
            elif pieces and (kind, text) == ("op", "^"):
                self.at += 1
                braced, minus = self.op("{"), self.op("-")
                kind, text = self.take()
                if kind != "num":
                    raise Wordy("the power of a unit")
                pieces.append("^" + "-" * minus + text)
                if braced:
                    self.need("}")
            elif text in ("/", "cdot", "*") and kind in ("op", "cmd") and self.peek(1)[0] in ("word", "sym"):
                self.at += 1
                pieces.append("/" if text == "/" else "*")
                if self.peek()[0] == "sym":
                    pieces.append(self.take()[1])
            elif kind == "op" and text in CURRENCIES and not pieces:
                self.at += 1
                pieces.append(text)
            else:
                break
        phrase = " ".join(pieces)
        if phrase and (len(pieces) > 8 or units.read(phrase) is None):
            raise Wordy("words that are no unit")
        return phrase

    # -- brackets and environments
    def bracket(self, opening: str) -> Node:
        """What stands in brackets: an expression, a tuple, an interval (also `]0, 1[`), a set, a set by its condition."""
        if opening == "langle":
            inside = self.inside()
            if not self.cmd("rangle"):
                raise SyntaxProblem("open angle bracket")
            return ("bracket", "(", ")", inside)
        bars, self.bars = self.bars, int(opening == "\\{" and self.odd_bars())
        latex = opening == "{"
        self.brackets += not latex
        if self.op(*(closings := _CLOSING[opening])):
            items: tuple[Node, ...] = ()
            closing = closings[0]
        else:
            node = self.listing()
            if opening in ("\\{", "{") and (
                self.op("|", "mid") or (node[0] in ("rel", "sym") and self.op(":"))
            ):
                node = ("builder", node, self.listing())
            elif node[0] == "ratio" and opening == "\\{" and len(node[1]) == 2:
                node = ("builder", node[1][0], node[1][1])
            if latex and self.peek() in (("cmd", "choose"), ("cmd", "over")):
                name, other = self.take()[1], self.expression()
                node = ("fn", "binom", (node, other), None) if name == "choose" else ("div", node, other)
            items = node[2] if node[0] == "list" else (node,)
            closing = self.need(*closings)
        self.brackets -= not latex
        self.bars = bars
        if items and items[0][0] == "builder":
            return items[0]
        if len(items) == 1 and not (opening == "\\{" or opening == "]"):
            if opening + closing not in ("()", "[]", "{}"):
                raise SyntaxProblem("brackets that do not match")
            return items[0] if items[0][0] != "rel" or latex else ("bracket", opening, closing, items)
        if latex:
            opening, closing = "\\{", "\\}"
        return ("bracket", "(" if opening == "]" else opening, ")" if closing == "[" else closing, items)

    def inside(self) -> tuple[Node, ...]:
        self.brackets += 1
        node = self.listing()
        self.brackets -= 1
        return node[2] if node[0] == "list" else (node,)

    def odd_bars(self) -> bool:
        count = 0
        for _, text, _ in self.tokens[self.at : self.at + 200]:
            if text == "\\}":
                break
            count += text == "|"
        return count % 2 == 1

    def environment(self, name: str) -> Node:
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        bars, self.bars = self.bars, 0
        self.brackets += 1
        while self.peek()[0] != "end":
            if self.peek()[0] == "row":
                self.at += 1
                rows, row = [*rows, tuple(row)] if row else rows, []
            elif not self.op("&"):
                row.append(
                    self.condition()
                    if name == "cases" and row
                    else self.listing()
                    if name == "cases"
                    else self.expression()
                )
        if self.take() != ("end", name):
            raise SyntaxProblem("an environment that is never closed")
        self.brackets -= 1
        self.bars = bars
        rows = [*rows, tuple(row)] if row else rows
        return ("cases", tuple(rows)) if name == "cases" else ("matrix", name, tuple(rows))

    def condition(self) -> Node:
        """The condition of a piece: `if x > 0`, `otherwise`."""
        words = []
        while self.peek()[0] == "word":
            words.append(self.take()[1].lower())
        if self.peek()[0] in ("row", "end"):
            return ("words", "otherwise" if words and words[0] in ("otherwise", "else") else " ".join(words))
        return self.listing()


@lru_cache(maxsize=8192)
def parse(text: str, thousands: bool = True) -> Node:
    """The answer as one node. `thousands`: `100,200` outside of brackets is one number.

    Raises:
        Wordy: words that are no unit, label or clause.
        SyntaxProblem: anything else that this grammar does not know.
    """
    if len(text) > MAX_LENGTH:
        raise SyntaxProblem(f"an answer of more than {MAX_LENGTH} characters")
    plain = prepare(text)
    if not plain:
        raise SyntaxProblem("nothing")
    tokens = tokenize(plain)
    try:
        return Grammar(tokens, thousands).answer()
    except (RecursionError, ZeroDivisionError, ValueError, IndexError) as error:
        if any(kind == "word" and len(word) > 1 for kind, word, _ in tokens):
            raise Wordy(str(error)) from error
        if isinstance(error, SyntaxProblem):
            raise
        raise SyntaxProblem(type(error).__name__) from error
