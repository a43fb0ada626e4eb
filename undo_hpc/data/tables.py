"""What a source is once it is read: rows with random access, each a mapping of columns to values or a `BadRow`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from undo_hpc.errors import DataError


class EmptyFileError(DataError):
    """A data file without rows: wrong where it is all there is, ignored where it is one of several parts."""


@dataclass(frozen=True)
class BadRow:
    """A row that is there but is no mapping of columns to values."""

    reason: str


class Table(Protocol):
    """Rows with random access, so that a sample of a large source reads only what it draws."""

    name: str
    columns: list[str]

    def __len__(self) -> int: ...

    def row(self, index: int) -> Mapping[str, Any] | BadRow: ...

    def where(self, index: int) -> str: ...

    def narrow(self, columns: list[str]) -> None:
        """Rows need hold no other columns from now on (what costs time or memory to decode is left out)."""


@dataclass
class ListTable:
    """Rows in memory; `lines` are the line numbers in the file, empty where the format has none.

    `is_document` is True where the file is a JSON document that may as well hold settings as rows.
    """

    name: str
    columns: list[str]
    rows: Sequence[Mapping[str, Any] | BadRow]
    lines: Sequence[int] = field(default_factory=list)
    is_document: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return self.rows[index]

    def where(self, index: int) -> str:
        return f"{self.name} line {self.lines[index]}" if self.lines else f"{self.name} row {index}"

    def narrow(self, columns: list[str]) -> None:
        return  # the rows are decoded already


@dataclass
class ArrowTable:
    """A table of Arrow (parquet, IPC): the columns stay in Arrow's form and a row is made when it is asked for."""

    name: str
    columns: list[str]
    table: Any

    def __post_init__(self) -> None:
        self._decimals = short_decimals(self.table.schema)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return decoded(
            lambda: {column: self.table.column(column)[index].as_py() for column in self.columns},
            self._decimals,
        )

    def where(self, index: int) -> str:
        return f"{self.name} row {index}"

    def narrow(self, columns: list[str]) -> None:
        self.columns = [name for name in self.columns if name in columns]
        self.table = self.table.select(self.columns)


Convert = Callable[[Any], Any]


def decoded(
    read: Callable[[], dict[str, Any]], decimals: Mapping[str, Convert]
) -> Mapping[str, Any] | BadRow:
    """A row as `read` gives it, with the floats of `short_decimals`; a row whose bytes cannot be decoded is a BadRow."""
    try:
        row = read()
    except (
        ValueError,
        ArithmeticError,
        OSError,
        TypeError,
        LookupError,
        ImportError,
        RuntimeError,
    ) as error:  # invalid UTF-8, a date or an index out of range, a broken image, sound without the package that decodes it
        return BadRow(
            f"the row cannot be decoded: {(str(error) or type(error).__name__).splitlines()[0][:200]}"
        )
    for name, convert in decimals.items():
        if name in row:
            row[name] = convert(row[name])
    return row


def short_decimals(schema: Any) -> dict[str, Convert]:
    """For each column of an Arrow schema that holds floats of 16 or 32 bits, what gives their shortest decimal: 0.1, not 0.10000000149011612."""
    return {item.name: convert for item in schema if (convert := _shorten(item.type))}


def _shorten(kind: Any) -> Convert | None:
    import numpy
    import pyarrow.types as types

    if types.is_float32(kind) or types.is_float16(kind):
        width = numpy.float32 if types.is_float32(kind) else numpy.float16
        return lambda value: (
            float(str(width(value))) if isinstance(value, float) and math.isfinite(value) else value
        )
    if types.is_dictionary(kind):
        return _shorten(kind.value_type)
    if types.is_struct(kind):
        inner = {
            kind.field(i).name: convert
            for i in range(kind.num_fields)
            if (convert := _shorten(kind.field(i).type))
        }
        return (lambda value: _shorten_items(value, inner)) if inner else None
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _shorten(kind.value_type)
        return (
            (lambda value: [item(part) for part in value] if isinstance(value, list) else value)
            if item
            else None
        )
    return None


def _shorten_items(value: Any, inner: Mapping[str, Convert]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: inner[key](part) if key in inner else part for key, part in value.items()}


def columns_of(rows: Iterable[Any]) -> list[str]:
    """All keys of the rows, in the order in which they are met."""
    seen: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Mapping):
            seen.update(dict.fromkeys(row))
    return [str(name) for name in seen]


def require_different(columns: Sequence[str], where: object) -> None:
    """Raises DataError where two columns have one name: which of the two is meant cannot be known."""
    if double := sorted(name for name, count in Counter(columns).items() if name and count > 1):
        raise DataError(f"{where} has two columns named {double[0]!r}", hint="rename or remove one of them")
