"""An extracted answer and its readings, each made once and only when a decider asks for it."""

from __future__ import annotations

import re
from functools import cached_property

from undo_hpc.grading import latex, numbers, syntax, units
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.names import NAMES

# Pieces of a unit at the end of an answer. Each alternative can match in one way only, so that this cannot backtrack.
_UNIT_TAIL = re.compile(
    r"(?P<unit>(?: ?(?:/ ?|per )?(?:\u27e6[^\u27e6\u27e7]+\u27e7|(?<![a-zA-Z\\])[a-z]{2,}(?![a-zA-Z])\.?|°|\^ ?\{? ?\\circ ?\}?)"
    r"(?: ?\^ ?\{? ?\d ?\}?)?)+) ?$"
)
_DIGIT_GAP = re.compile(r"(?<=\d)\s+(?=\d)")
_TRIGONOMETRIC = re.compile(r"sin|cos|tan|cot|sec|csc")
_RUN = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}")
_LABEL = re.compile(r"^[A-Za-z\\][A-Za-z\\_{}\d\s,()|':;/\u27e6\u27e7-]*$")


class Answer:
    """One answer: the text as found (`raw`) and its readings.

    Args:
        part: `raw` is a part of a cleaned answer: its look-alikes are unified, and its marks of words stay.
    """

    def __init__(self, raw: str, *, part: bool = False) -> None:
        self.raw, self._part = raw, part

    @cached_property
    def clean(self) -> str:
        """One plain form without delimiters and spacing commands."""
        return latex.clean(self.raw if self._part else unify(self.raw))

    @cached_property
    def compact(self) -> str:
        """`clean` without any white space, and with one form of braces around single characters."""
        text = self.clean
        if " " in text:
            text = re.sub(r"\s+", "", _DIGIT_GAP.sub("~", text))  # `3 1/2` is not `31/2`
        return re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)

    @cached_property
    def words(self) -> str:
        """As words: lower case, no punctuation."""
        return latex.words(self.clean)

    @cached_property
    def quantity(self) -> numbers.Quantity | None:
        """As one exact number with its unit."""
        return numbers.read(self.clean)

    @cached_property
    def body_and_unit(self) -> tuple[str, str]:
        """The expression without its trailing unit phrase, and that phrase."""
        text = self.clean
        match = _UNIT_TAIL.search(text[-80:]) if len(text) < 2000 else None
        if match and match["unit"].strip():
            unit = match["unit"].strip()
            body = text[: len(text) - len(match["unit"])].rstrip(" ,*")
            found = units.read_unit(unit)
            known = (
                found is not None
                and (bool(found[0]) or "\u27e6" in unit)
                and not any(w in NAMES for w in found[2])
            )
            angle = unit.strip("^{} ") in ("°", "\\circ") and _TRIGONOMETRIC.search(body)
            if body and known and not angle and not body.endswith(("^", "_", "\\", "=", "<", ">")):
                return body, unit
        for sign in ("$", "€", "£", "¥"):
            if text.startswith(sign):
                return text[1:].strip(), sign
        return text, ""

    @cached_property
    def node(self) -> syntax.Node | None:
        """As a parsed expression, its unit left aside."""
        return syntax.parse(self.body_and_unit[0])

    @cached_property
    def wordy(self) -> bool:
        """Whether this is language rather than mathematics: it has words that are no names, units or connectives."""
        if "\\begin" in self.clean:
            return False
        return bool(self.plain_words)

    @cached_property
    def plain_words(self) -> list[str]:
        """The words of the answer that mean nothing in mathematics (three letters or more, or marked as text)."""
        found = []
        for match in _RUN.finditer(self.clean):
            word = match.group()
            marked = (
                "\u27e6" in self.clean[max(0, match.start() - 40) : match.start()].rpartition("\u27e7")[2]
            )
            low = word.lower()
            if low in ("and", "or", "if", "for", "otherwise") or word in NAMES:
                continue
            if (
                (marked and len(word) > 1)
                or (len(word) > 3 and _pronounceable(low))
                or low in ("yes", "no", "odd", "red", "not", "all")
            ):
                found.append(low)
        return found


def _pronounceable(word: str) -> bool:
    """A word rather than a product of letters or of names: it has a vowel, and is no chain of function names."""
    if not any(c in "aeiouy" for c in word):
        return False
    rest = word
    for name in (
        "sqrt",
        "theta",
        "sin",
        "cos",
        "tan",
        "log",
        "ln",
        "pi",
        "alpha",
        "beta",
        "arc",
        "exp",
        "max",
        "min",
        "gcd",
        "lcm",
    ):
        rest = rest.replace(name, "")
    return len(rest) > 3
