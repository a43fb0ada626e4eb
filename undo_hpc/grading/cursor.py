"""Reading tokens one after the other: what stands here, and what is taken. The grammar is in `terms` and `grammar`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from undo_hpc.grading.tokens import SyntaxProblem, Token, turned_outward

CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
T = TypeVar("T")


class Cursor:
    """A place among tokens, and the brackets that are open there."""

    def __init__(self, tokens: list[Token], thousands: bool) -> None:
        self.tokens, self.thousands = tokens, thousands
        self.at = self.depth = 0
        self.bars = 0  # open bars: the next one closes
        self.brackets = 0  # open brackets: a comma in them never parts thousands
        self.outward = turned_outward(tokens)

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        """The kind and text of the next token, or of one behind it."""
        i = self.at + ahead
        return self.tokens[i][:2] if i < len(self.tokens) else ("end", "")

    def word_in(self, words: frozenset[str]) -> bool:
        """Whether one of these words stands here."""
        return self.peek()[0] == "word" and self.peek()[1].lower() in words

    def take(self) -> tuple[str, str]:
        """The next token, which is used up."""
        self.at += 1
        return self.peek(-1)

    def skip(self, *texts: str) -> bool:
        """Takes one of these operators or commands, if it is there."""
        kind, text = self.peek()
        found = kind in ("op", "cmd") and text in texts
        self.at += found
        return found

    def need(self, *texts: str) -> str:
        """Takes an operator or command that must be there."""
        if not self.skip(*texts):
            raise SyntaxProblem(f"expected {texts[0]!r}, found {self.peek()[1]!r}")
        return self.peek(-1)[1]

    def spaced(self) -> bool:
        """Whether there is space before the next token."""
        return self.at < len(self.tokens) and self.tokens[self.at][2]

    def ahead(self, count: int) -> list[str]:
        """The texts of the next tokens."""
        return [text for _, text, _ in self.tokens[self.at : self.at + count]]

    def within(self, parse: Callable[[], T], brackets: int, bars: int = 0) -> T:
        """Parses what stands in brackets."""
        outside = self.brackets, self.bars
        self.brackets, self.bars = brackets, bars
        found = parse()
        self.brackets, self.bars = outside
        return found

    def raw_subscript(self) -> str:
        """The text of a subscript or of another name in brackets."""
        opening, depth = self.take()[1], 1
        parts = [opening] if opening not in ("{", "(") else []
        while not parts or opening in ("{", "("):
            kind, text = self.take()
            depth += (text == opening) - (text == CLOSING[opening])
            if kind == "end":
                raise SyntaxProblem("open subscript")
            if not depth:
                break
            parts.append(text)
        return "".join(parts)
