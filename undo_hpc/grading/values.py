"""The typed values of answers. Nodes inside are those of `terms`; `reading` makes values from text, `equality` compares them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, dataclass_transform

from undo_hpc.grading.nodes import Node
from undo_hpc.grading.sets import Piece


@dataclass_transform(frozen_default=True)
class Value:
    """What an answer is. Each subclass is a frozen dataclass."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True)(cls)


class Number(Value):
    """An exact rational; `places`: digits behind the point where it was written as a decimal."""

    node: Node
    value: Fraction
    places: int | None = None


class Expression(Value):
    """Any other expression: surds, pi, variables, complex numbers, infinity."""

    node: Node


class Quantity(Value):
    """A number or an expression with a unit phrase; `%` and `°` are units."""

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


class Tuple(Value):
    """Items in order, with their brackets; of two items it may be an interval."""

    opening: str
    closing: str
    items: tuple[Value, ...]


class Set(Value):
    """A finite set in braces."""

    items: tuple[Value, ...]


class List(Value):
    """Items without brackets, in any order; repeated ones count."""

    items: tuple[Value, ...]


class Reals(Value):
    """A set of reals as disjoint pieces in order, and the name whose values they are (`x > 3`), if one was given."""

    pieces: tuple[Piece, ...]
    name: str = ""


class Condition(Value):
    """Inequalities that were not solved: all of them hold (or any of them)."""

    relations: tuple[Node, ...]
    every: bool = True


class Relation(Value):
    """An equation or another relation between two sides."""

    operator: str
    left: Node
    right: Node


class Labelled(Value):
    """A value with its name: `x = 3`, `f(x) = 2x`, `Area = 12`; `relation` is the whole equation."""

    label: str
    value: Value
    relation: Relation | None = None


class Solutions(Value):
    """Solutions with a value for each name: `p=5, q=2; p=7, q=2`, `x=y=z=1`, `(x, y) = (1, 2)`."""

    rows: tuple[tuple[tuple[str, Value], ...], ...]


class Matrix(Value):
    """Rows of entries; scalar factors, sums and products are carried out."""

    rows: tuple[tuple[Value, ...], ...]


class Ratio(Value):
    """`3:4`; with two digits behind the colon it may be a time; `half`: am, pm, or `0` for `3:04`, which is no ratio."""

    items: tuple[Value, ...]
    clock: tuple[int, int] | None = None
    half: str = ""


class Family(Value):
    """All values of expressions (or tuples of them) as parameters run through their domains."""

    items: tuple[tuple[Node, ...], ...]
    domains: tuple[tuple[str, str], ...]
    label: str = ""


class Cases(Value):
    """A piecewise function: pieces in any order, each with its condition."""

    rows: tuple[tuple[Value, Value], ...]


class Named(Value):
    """A set with a name of its own, such as Z, or an operation on such sets: ('cup', operands)."""

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
