"""The typed values of answers. Nodes inside are those of `nodes`; `reading` makes values from text, `equality` compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, dataclass_transform

from undo_hpc.grading.nodes import Node


@dataclass_transform(frozen_default=True)
class Value:
    """What an answer is. Each subclass is a frozen dataclass."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True)(cls)


class Expression(Value):
    """Numbers, surds, complex numbers, infinity, anything with variables."""

    node: Node


class Quantity(Value):
    """An expression with a unit phrase; `%` and `°` are units."""

    value: Value
    unit: str


class About(Value):
    """A value said to be approximate, or a chain of approximations: the sides that hold a value."""

    values: tuple[Value, ...]
    label: str = ""


class Base(Value):
    """A numeral of another base."""

    digits: str
    base: int


class Items(Value):
    """Items and their brackets: "" a list in any order, "{}" a set, "()", "[)" ... a tuple or an interval, "matrix" rows."""

    brackets: str
    items: tuple[Value, ...]


class Region(Value):
    """The real numbers for which a formula holds (see `regions`), and their name, if one was given: `x > 3`."""

    name: str
    formula: Node


class Relation(Value):
    """An equation or another relation between two sides."""

    operator: str
    left: Node
    right: Node


class Solutions(Value):
    """Values with names: `x = 3`, `f(x) = 2x`, `Area = 12`, `p=5, q=2; p=7, q=2`. A row has a value for each name.

    `relation` is the whole equation where there is but one.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    relation: Relation | None = None


class Ratio(Value):
    """`3:4`."""

    items: tuple[Value, ...]


class Clock(Value):
    """A time of day in minutes; `half` is am, pm, or empty where it is not said."""

    minutes: int
    half: str


class Family(Value):
    """All values of expressions (or tuples of them) as parameters run through their domains."""

    items: tuple[tuple[Node, ...], ...]
    domains: tuple[tuple[str, str], ...]
    label: str = ""


class Cases(Value):
    """A piecewise function: (value, condition) in any order."""

    rows: tuple[tuple[Value, Value], ...]


class Named(Value):
    """A set with a name of its own, such as Q, or an operation on sets that is not carried out: ('cup', operands)."""

    name: str
    operands: tuple[Value, ...] = ()


class Dots(Value):
    """The dots of a sequence that goes on."""


class Text(Value):
    """Words, in lower case, without punctuation and articles."""

    words: str


class Unread(Value):
    """What the grammar does not know: only computer algebra can tell."""

    text: str


Numeric = (Expression, Quantity)
