r"""The upper half of the grammar: lists, relations, sets, ratios, brackets, matrices, cases, units and what is said of parameters.

`parse(text)` turns a whole answer into one node (see `nodes`); it raises SyntaxProblem for what is no mathematics, and Wordy for words.
"""

from __future__ import annotations

from functools import lru_cache

from undo_hpc.grading import tables, units
from undo_hpc.grading.tables import word_set
from undo_hpc.grading.terms import CURRENCIES, Terms
from undo_hpc.grading.tokens import SyntaxProblem, Wordy, prepare, tokenize
from undo_hpc.grading.values import Node, num, walk

MAX_LENGTH = 3000
MAX_ITEMS = 200
_APPROXIMATE = word_set("about approximately roughly around approx")
_HEDGES = _APPROXIMATE | word_set("exactly only just simply thus therefore hence so answer final")
_CODES = {"usd": "$", "us": "$", "rs": "₹", "inr": "₹", "eur": "€", "gbp": "£"}
_QUANTIFIED = word_set(
    "all any every positive nonnegative non-negative natural whole real rational integer integers number numbers value values of"
)
_NAMED_BY_LETTER = {("sym", letter) for letter in "ZNRQ"}  # k \\in Z
_TELLS = word_set("is are an any integer integers")
_CLAUSES = word_set("where for with if when provided any some integer integers")
_CHANGES = word_set("not except but otherwise than less greater least most")
_CLOSING = {"(": (")", "]", "["), "[": (")", "]", "["), "]": (")", "]", "["), "{": ("}",), "\\{": ("\\}",)}
_PARAMETERS = frozenset("klmnst")
_BEGINNINGS = {("ge", num(0)): "0..", ("ge", num(1)): "1..", (">", num(0)): "1.."}
_NAMING = tables.MARKS | {"(", "{"}  # Var(X), area of \\triangle ABC
_FROM = ((num(0),), (num(1),))
_IN_BRACES = 2  # of `brackets`: a colon says `such that`
_SEPARATORS = ("", ",", "and", "or", ";")  # each stronger than the one before
_INTEGERS = {"N": "Z+", "Z+": "Z+", "N+": "Z+", "N*": "Z+", "N0+": "N", "Z0+": "N"}


def domain_of(node: Node, before: tuple[Node, ...] = ()) -> list[tuple[str, str]] | None:
    """The names and their set, where a relation only says that parameters are numbers of a kind: `k, m in Z`, and `k >= 0` of one before."""
    if node[0] != "rel" or len(node[1]) != 1:
        return None
    (operator,), (left, right) = node[1:]
    if (operator, right) in _BEGINNINGS and left[0] == "sym" and left[1] in _PARAMETERS:
        sides = (item[2][-1] if item[0] == "rel" else item for item in before)
        parameter = any(left in walk(side) for side in sides)
        return [(left[1], _BEGINNINGS[operator, right])] if parameter else None
    if operator != "in" or right[0] != "named":
        return None
    items = left[2] if left[0] == "list" else left[3] if left[0] == "bracket" else (left,)
    if any(item[0] != "sym" and item != ("const", "i") for item in items):
        return None
    return [(item[1], _INTEGERS.get(right[1], right[1])) for item in items]


def domain_in(said: list[str]) -> str:
    """The domain that words tell of, such as `any positive integer`; empty where they tell of none."""
    stems = [word.rstrip("s") for word in said]
    return next((name for wanted, name in tables.DOMAINS if all(word in stems for word in wanted)), "")


class Grammar(Terms):
    """A whole answer."""

    def answer(self) -> Node:
        """All tokens as one node."""
        node = self.listing()
        if self.peek()[0] != "end":
            raise (Wordy if self.peek()[0] == "word" else SyntaxProblem)(f"unexpected {self.peek()[1]!r}")
        return node

    # -- lists
    def listing(self) -> Node:
        """Items and what parts them."""
        items, separators = [self.item()], []
        while separator := self.separator():
            closed = self.peek()[1] in (")", "]", "\\}", "}", "&", "[" if self.outward else "&")
            if closed or self.peek()[0] in ("end", "row"):
                break
            separators.append(separator)
            items.append(self.item())
        if len(items) > MAX_ITEMS:
            raise SyntaxProblem("too many items")
        return ("list", tuple(separators), tuple(items)) if separators else items[0]

    def separator(self) -> str:
        """The strongest of the separators that stand here; an empty string for none."""
        found = ""
        while True:
            kind, text = self.peek()
            if (kind, text) == ("cmd", "ldots") and not found:
                return ","
            if kind == "op" and text in tables.CONNECTORS:
                text = "or" if text in ("or", "oder", "ou", "o") else "and"
            elif (kind == "op" and text in (",", "quad")) or (kind == "row" and not self.brackets):
                text = ","
            elif (kind, text) != ("op", ";"):
                return found
            found = max(found, text, key=_SEPARATORS.index)
            self.at += 1

    # -- one item: a value, a relation, a label with its value
    def item(self) -> Node:
        """A relation with its modulus, remarks in brackets, and clauses such as `where k is an integer`."""
        node = self.relation()
        while True:
            bracket = self.peek() == ("op", "(")
            if self.skip("pmod"):
                node = ("modulo", node, self.argument())
            elif bracket and self.peek(1)[1] == "mod":
                self.at += 2
                node = ("modulo", node, self.expression())
                self.need(")")
            elif bracket and self.is_remark():
                self.at += 1
                node = self.remark(node)
                self.need(")")
            elif self.word_in(_CLAUSES) or (self.peek() == ("op", ",") and self.clause_follows()):
                self.skip(",")
                node = self.clause(node)
            else:
                return node

    def clause_follows(self) -> bool:
        """Whether `where k is an integer`, or `k is an integer`, stands behind the comma here."""
        return self.peek(1)[1].lower() in _CLAUSES or (
            self.peek(1)[0] == "sym" and self.peek(2)[1].lower() in _TELLS
        )

    def relation(self) -> Node:
        """Sides and the relations between them."""
        named = [self.peek()[1], self.peek(1)[0], self.peek(2)[1]] == ["(", "word", ")"]
        if named and len(self.peek(1)[1]) < 3:
            label = f"({self.peek(1)[1]})"  # (i) 4, (ii) 9
            self.at += 3
            return ("rel", ("=",), (("words", label), self.relation()))
        while self.peek() == ("cmd", "approx") or self.word_in(_HEDGES):
            hedge = self.take()[1].lower()
            self.skip(":")
            if hedge in _APPROXIMATE:
                return ("about", self.side())
        if self.word_in(_QUANTIFIED) and (node := self.quantified()):
            return node
        sides, operators = [self.labelled()], []
        while operator := self.operator():
            operators.append(operator)
            side = self.side()
            sides.append(("named", side[1]) if operator == "in" and side in _NAMED_BY_LETTER else side)
        return ("rel", tuple(operators), tuple(sides)) if operators else sides[0]

    def operator(self) -> str:
        """The relation here, if there is one."""
        if self.skip("not"):
            return {"=": "ne", "in": "notin"}.get(self.operator(), "?")
        self.at += self.peek() == ("op", ":") and self.peek(1) == ("op", "=")
        kind, text = self.peek()
        found = kind in ("op", "cmd") and text in tables.RELATIONS
        self.at += found
        return text if found else ""

    def labelled(self) -> Node:
        """The first side: an expression, or words that name one (`Area = 12`, `Total: 260 sheep`)."""
        kind, text = self.peek()
        if kind != "word":
            return self.side()
        if self.peek(1)[0] == "num" and text.lower() in (*_CODES, "negative", "minus"):
            self.at += 1
            code = _CODES.get(text.lower())
            return ("quantity", self.expression(), code) if code else ("neg", self.side())
        said: list[str] = []
        while (kind := self.peek()[0]) == "word" or (said and (kind == "sym" or self.peek()[1] in _NAMING)):
            said.append(self.raw_subscript() if self.peek()[1] in "({" else self.take()[1])
        verb = said[-1].lower() in ("is", "are", "be", "equals")
        plain = not any(word.lower() in tables.NO_UNITS for word in said[: len(said) - verb])
        if self.skip(":") or (verb and plain):
            return self.side()
        if plain and self.peek() in (("op", "="), ("cmd", "approx")):
            return ("words", " ".join(said))
        raise Wordy("words")

    def remark(self, node: Node) -> Node:
        """What is said in brackets behind a value: words that do not change it, or the domains of parameters."""
        if self.peek()[0] != "word" or self.peek()[1].lower() in _CLAUSES | {"all", "every"}:
            return self.clause(node)
        while self.peek()[0] == "word":
            if self.take()[1].lower() in tables.NO_UNITS - {"only"} | tables.REJECTS:
                raise Wordy("a remark that changes the answer")
        return node

    def clause(self, node: Node) -> Node:
        """`where k is any integer`, `for all real x`, `k in Z`: the domains of the names that it tells of."""
        said: list[str] = []
        names: list[str] = []
        domains: list[tuple[str, str]] = []
        while self.peek()[0] in ("word", "sym") or self.peek() in (("op", ","), ("op", "and")):
            kind, text = self.peek()
            if kind == "sym" and self.peek(1)[1] in ("in", "=", "<", ">", "le", "ge", "ne"):
                condition = self.relation()
                found = domain_of(condition, (node,))
                arguments = node[2][0] if node[0] == "rel" else ()
                bound = condition[1] in ((">",), ("ge",), ("ne",)) and condition[2][1:] in _FROM
                if bound and {"all", "every"} & set(said) and ("sym", text) in walk(arguments):
                    found = [(text, "R")]  # f(x) = 1/x for all x > 0
                if not found and (names or domains or (_CHANGES | {"all", "every"}) & set(said)):
                    raise Wordy("a condition")
                if not found:
                    return ("told", node, condition)
                domains += [*((name, found[0][1]) for name in names), *found]
                continue
            self.at += 1
            (names if kind == "sym" else said).append(text if kind == "sym" else text.lower())
        if domains:
            return ("given", node, tuple(domains))
        told = domain_in(said)
        if not told or _CHANGES & set(said):
            raise Wordy("a clause")
        return ("given", node, tuple((name, told) for name in dict.fromkeys(names)) or (("", told),))

    def quantified(self) -> Node | None:
        """`all integers n \\ge 3`, `any real x`: a condition on a name, and its domain."""
        start, said = self.at, []
        while self.word_in(_QUANTIFIED):
            said.append(self.take()[1].lower())
        if (told := domain_in(said)) and self.peek()[0] == "sym":
            name, node = self.peek()[1], self.relation()
            domain = ("rel", ("in",), (node, ("named", {"N": "N0"}.get(told, told))))
            return domain if node[0] == "sym" else ("given", node, ((name, told),))
        self.at = start
        return None

    # -- one side of a relation: sets, ratios, quantities
    def side(self) -> Node:
        """A set, a ratio, a time of day, a quantity, or an expression."""
        node = self.measured()
        such_that = self.brackets == _IN_BRACES or node[0] == "named" or self.peek(1) == ("op", "=")
        if self.peek() == ("op", ":") and not such_that:
            return self.ratio(node)
        if self.peek() in (("word", "to"), ("op", "to")) and self.peek(1)[0] == "num" and node[0] == "num":
            self.at += 1
            return ("ratio", (node, self.measured()))
        if node[0] == "num" and node[1] in range(13) and self.peek() in (("word", "am"), ("word", "pm")):
            return ("clock", 60 * int(node[1]), self.take()[1])  # 3 PM
        while self.skip("cup", "cap", "setminus") or (node[0] in ("named", "bracket") and self.skip("-")):
            operator = self.peek(-1)[1]
            node = ("setop", "setminus" if operator == "-" else operator, node, self.measured())
        return node

    def ratio(self, node: Node) -> Node:
        """`3:4:5`, or a time of day: two digits behind the colon, below 60, and below 25 before it."""
        sides, minutes = [node], self.peek(1)[1]
        while self.skip(":"):
            sides.append(self.expression())
        half = self.take()[1] if self.peek() in (("word", "am"), ("word", "pm")) else ""
        hour = node[1] if node[0] == "num" and len(sides) == 2 and len(minutes) == 2 else None
        if hour in range(25) and minutes.isdigit() and int(minutes) < 60 and sides[1] == num(int(minutes)):
            return ("clock", 60 * int(hour) + int(minutes), half)  # type: ignore[arg-type]
        if half:
            raise Wordy("no time of day")
        return ("ratio", tuple(sides))

    def measured(self) -> Node:
        """An expression with its unit; `5 feet 4 inches` and `5 feet and 4 inches` are one quantity."""
        node = self.expression()
        if node[0] == "num" and not self.spaced() and self.peek()[1] in ("th", "st", "nd", "rd"):
            self.at += 1
            return node
        unit = self.unit() if node[0] != "named" else ""
        if not unit:
            return node
        if node[0] == "sym" and unit in ("odd", "even", "prime"):
            raise Wordy("what a name is like")
        joined = self.peek() == ("op", "and")
        if self.peek(joined)[0] != "num" or self.peek(joined + 1)[0] != "word":
            return ("quantity", node, unit)
        start = self.at
        self.at += joined
        _, amount, smaller = rest = self.measured()
        first, second = units.read(unit), units.read(smaller) if rest[0] == "quantity" else None
        ratio = units.conversion(first, second) if first and second and first.dimension else None
        if ratio and ratio > 1:
            return ("quantity", ("add", ("mul", node, num(ratio)), amount), smaller)
        if not joined:
            raise Wordy("numbers and words in turn")
        self.at = start
        return ("quantity", node, unit)

    def unit(self) -> str:
        """The unit phrase here as one string, or an empty one. Raises Wordy where the words are no unit."""
        pieces: list[str] = []
        while True:
            kind, text = self.peek()
            clause = text.lower() in _CLAUSES or (not pieces and text in ("to", "am", "pm", "over"))
            if (kind == "word" and not clause) or (kind == "op" and text in CURRENCIES and not pieces):
                pieces.append(self.take()[1])
            elif pieces and self.skip("^"):
                braced, minus = self.skip("{"), self.skip("-")
                kind, text = self.take()
                if kind != "num":
                    raise Wordy("the power of a unit")
                pieces.append("^" + "-" * minus + text)
                if braced:
                    self.need("}")
            elif text in ("/", "*") and self.peek(1)[0] in ("word", "sym"):
                pieces += [self.take()[1], self.take()[1]]
            else:
                break
        phrase = " ".join(pieces)
        if phrase and (len(pieces) > 8 or units.read(phrase) is None):
            raise Wordy("words that are no unit")
        return phrase

    # -- brackets and environments
    def bracket(self, opening: str) -> Node:
        """What stands in brackets: an expression, a tuple, an interval (also `]0, 1[`), a set, a set by its condition."""
        latex, braces = opening == "{", opening == "\\{"
        if opening == "langle":
            node = self.within(self.listing, 1)
            self.need("rangle")
            return ("bracket", "(", ")", node[2] if node[0] == "list" else (node,))
        if self.skip(_CLOSING[opening][0]):
            return ("bracket", opening, _CLOSING[opening][0], ())
        if braces and self.peek()[0] == "begin" and "\\}" not in self.ahead(200):
            return self.environment(self.take()[1])  # a system of equations behind a single brace
        ends = "\\}" if braces else "}"
        texts = self.ahead(200)
        inside = texts[: texts.index(ends)] if ends in texts and (braces or latex) else []
        parted = inside.count("|") % 2  # names | condition
        node = self.within(self.inside, self.brackets if latex else _IN_BRACES if braces else 1, parted)
        closing = self.need(*_CLOSING[opening])
        items = node[2] if node[0] == "list" else (node,)
        if node[0] == "builder":
            return node
        if len(items) == 1 and not braces and opening != "]":
            if opening + closing not in ("()", "[]", "{}"):
                raise SyntaxProblem("brackets that do not match")
            return node if node[0] != "rel" or latex else ("bracket", opening, closing, items)
        if latex:
            opening, closing = "\\{", "\\}"
        return ("bracket", "(" if opening == "]" else opening, ")" if closing == "[" else closing, items)

    def inside(self) -> Node:
        """The items between brackets, a set by its condition, `{n \\choose k}`."""
        node = self.listing()
        if self.skip("|", "mid") or (self.brackets == _IN_BRACES and self.skip(":")):
            return ("builder", node, self.listing())
        if self.skip("choose"):
            return ("fn", "binom", (node, self.expression()), None)
        return ("div", node, self.expression()) if self.skip("over") else node

    def environment(self, name: str) -> Node:
        """The rows of a matrix or of a piecewise function."""
        rows: list[list[Node]] = [[]]
        cell = self.listing if name == "cases" else self.relation

        def cells() -> None:
            while self.peek()[0] != "end":
                if self.peek()[0] == "row":
                    self.at += 1
                    rows.append([])
                elif not self.skip("&"):
                    rows[-1].append(self.condition() if name == "cases" and rows[-1] else cell())

        self.within(cells, 1)
        if self.take() != ("end", name):
            raise SyntaxProblem("an environment that is never closed")
        filled = tuple(tuple(row) for row in rows if row)
        system = any(cell[0] == "rel" for row in filled for cell in row)
        return ("cases", filled) if name == "cases" or system else ("matrix", name, filled)

    def condition(self) -> Node:
        """The condition of a piece: `if x > 0`, `otherwise`."""
        said = []
        while self.peek()[0] == "word":
            said.append(self.take()[1].lower())
        if self.peek()[0] in ("row", "end"):
            return ("words", "otherwise" if said[:1] in (["otherwise"], ["else"]) else " ".join(said))
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
    except (RecursionError, ValueError, IndexError) as error:
        wordy = any(kind == "word" and len(word) > 1 for kind, word, _ in tokens)
        if isinstance(error, SyntaxProblem) and not wordy:
            raise
        raise (Wordy if wordy else SyntaxProblem)(f"{type(error).__name__}: {error}") from error
