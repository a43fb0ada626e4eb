"""The typed values of answers. Nodes inside are those of `terms`; `reading` makes values from text, `equality` compares them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from undo_hpc.grading.sets import Piece
from undo_hpc.grading.terms import Node


class Value:
    """What an answer is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Number(Value):
    """An exact rational; `places`: digits behind the point where it was written as a decimal."""

    node: Node
    value: Fraction
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Expression(Value):
    """Any other expression: surds, pi, variables, complex numbers, infinity."""

    node: Node


@dataclass(frozen=True, slots=True)
class Quantity(Value):
    """A number or an expression with a unit phrase; `%` and `°` are units."""

    value: Value
    unit: str


@dataclass(frozen=True, slots=True)
class About(Value):
    """A value said to be approximate, or a chain of approximations: the sides that hold a value."""

    values: tuple[Value, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Base(Value):
    """A numeral of another base."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Tuple(Value):
    """Items in order, with their brackets; of two items it may be an interval."""

    opening: str
    closing: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Set(Value):
    """A finite set in braces."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class List(Value):
    """Items without brackets, in any order; repeated ones count."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Reals(Value):
    """A set of real numbers as disjoint pieces in order, and the name whose values they are (`x > 3`), if one was given."""

    pieces: tuple[Piece, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Condition(Value):
    """Inequalities that were not solved: all of them hold (or any of them)."""

    relations: tuple[Node, ...]
    every: bool = True


@dataclass(frozen=True, slots=True)
class Relation(Value):
    """An equation or another relation between two sides."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Labelled(Value):
    """A value with the name it was given: `x = 3`, `f(x) = 2x`, `Area = 12`; `relation` is the whole equation."""

    label: str
    value: Value
    relation: Relation | None = None


@dataclass(frozen=True, slots=True)
class Solutions(Value):
    """Solutions, each with a value for each of its names: `p=5, q=2; p=7, q=2`, `x=y=z=1`, `(x, y) = (1, 2)`."""

    rows: tuple[tuple[tuple[str, Value], ...], ...]


@dataclass(frozen=True, slots=True)
class Matrix(Value):
    """Rows of entries; scalar factors, sums and products are carried out."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Ratio(Value):
    """`3:4`; written as `3:40` it may be a time of day; `half` is `am` or `pm`, or `0` for `3:04`, which is no ratio."""

    items: tuple[Value, ...]
    clock: tuple[int, int] | None = None
    half: str = ""


@dataclass(frozen=True, slots=True)
class Family(Value):
    """All values of expressions (or tuples of them) as parameters run through their domains."""

    items: tuple[tuple[Node, ...], ...]
    domains: tuple[tuple[str, str], ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Cases(Value):
    """A piecewise function: pieces in any order, each with its condition."""

    rows: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class Named(Value):
    """A set with a name of its own, such as Z, or one made of such sets: ('cup', operands)."""

    name: str
    operands: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Dots(Value):
    """The dots of a sequence that goes on."""


@dataclass(frozen=True, slots=True)
class Text(Value):
    """Words, in lower case, without punctuation and articles."""

    words: str


@dataclass(frozen=True, slots=True)
class Unread(Value):
    """What the grammar does not know: only computer algebra can tell."""

    text: str
