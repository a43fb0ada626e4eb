"""Rows of a local file as they stand there: JSONL, JSON, CSV or parquet. No meaning is read into them here.

A file that is broken as a whole (invalid JSON, no such file, no header) raises a DataError with its line. A single row that is
not what it should be comes through as a `BadRow`, for the caller to count and list.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from undo_hpc.errors import DataError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
_SPLIT_NAMES = ("train", "test", "validation", "valid", "val", "dev")
_CELL_LIMIT = 1 << 28  # the csv module refuses cells over 128 KiB by default; worked solutions may be longer


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
    """Rows in memory; `lines` are the line numbers in the file, empty where the format has none."""

    name: str
    columns: list[str]
    rows: Sequence[Mapping[str, Any] | BadRow]
    lines: Sequence[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return self.rows[index]

    def where(self, index: int) -> str:
        return f"{self.name} line {self.lines[index]}" if self.lines else f"{self.name} row {index}"

    def narrow(self, columns: list[str]) -> None:
        return  # the rows are decoded already


@dataclass
class ParquetTable:
    """A parquet file; the columns stay in Arrow's form and a row is made when it is asked for."""

    name: str
    columns: list[str]
    table: Any

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return {column: self.table.column(column)[index].as_py() for column in self.columns}

    def where(self, index: int) -> str:
        return f"{self.name} row {index}"

    def narrow(self, columns: list[str]) -> None:
        self.columns = [name for name in self.columns if name in columns]
        self.table = self.table.select(self.columns)


def read_table(path: Path) -> Table:
    """The rows of one file.

    Raises:
        DataError: the file is missing, unreadable, empty, of an unknown kind, or broken (with the line).
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of data file '{suffix}'", hint=f"known: {', '.join(SUFFIXES)}")
    if suffix == ".parquet":
        return _read_parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{path} is empty", hint="give a file with at least one row")
    if suffix == ".csv":
        return _read_csv(path, data)
    return _read_json(path, data) if suffix == ".json" else _read_jsonl(path, data)


def data_files(path: Path, split: str, *, split_is_asked: bool) -> list[Path]:
    """The data files of a file or folder, in the order of their names.

    Where the names of a folder's files tell splits apart (train.jsonl, data/test-00000-of-00001.parquet), only those of
    `split` count, so that a test file beside a train file is never trained on. A lone other split is taken where the
    user did not ask for one.

    Raises:
        DataError: nothing is there, or nothing of that split.
    """
    if not path.exists():
        near = sorted(p.name for p in path.parent.iterdir() if p.suffix in SUFFIXES) if path.parent.is_dir() else []
        beside = f"; data files in {path.parent}: {', '.join(near[:8])}" if near else ""
        raise DataError(f"no such file or folder: {path}", hint=f"check the path{beside}")
    if path.is_file():
        return [path]
    inside = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
    files = sorted(p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"the folder {path} holds no data file", hint=f"known kinds: {', '.join(SUFFIXES)}")
    named = {file: name for file in files if (name := _split_of(file.relative_to(path)))}
    if not named:
        return files
    present = sorted(set(named.values()))
    wanted = _canonical(split)
    if wanted not in present:
        if split_is_asked or len(present) > 1:
            raise DataError(
                f"the folder {path} has no file of the split '{split}'; it has {', '.join(present)}",
                hint="set `split` to one of these, or give the file itself as `path`",
            )
        wanted = present[0]
    return [file for file in files if named.get(file) == wanted]


def _canonical(split: str) -> str:
    return "validation" if split.lower() in ("valid", "val", "dev") else split.lower()


def _split_of(path: Path) -> str:
    for word in re.split(r"[^a-z]+", path.stem.lower()) + [part.lower() for part in path.parts[:-1]]:
        if word in _SPLIT_NAMES:
            return _canonical(word)
    return ""


def _loads(data: bytes) -> Any:
    """JSON as orjson reads it, or else as Python does, which knows NaN and integers of any size. Raises ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data.decode("utf-8"))


def _broken(path: Path, line: int, error: ValueError) -> DataError:
    what = f"not UTF-8 ({error})" if isinstance(error, UnicodeDecodeError) else f"invalid JSON: {error}"
    return DataError(
        f"{path} line {line}: {what}",
        hint="mend or delete that line; a last line cut in the middle is an unfinished copy",
    )


def _columns(rows: Iterable[Any]) -> list[str]:
    seen: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Mapping):
            seen.update(dict.fromkeys(row))
    return [str(name) for name in seen]


def _mapping(value: Any) -> Mapping[str, Any] | BadRow:
    return value if isinstance(value, dict) else BadRow(f"the row is no object but a {type(value).__name__}")


def _read_jsonl(path: Path, data: bytes) -> Table:
    rows, lines = [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                rows.append(_mapping(_loads(line)))
            except ValueError as error:
                raise _broken(path, number, error) from error
            lines.append(number)
    return ListTable(path.name, _columns(rows), rows, lines)


def _read_json(path: Path, data: bytes) -> Table:
    try:
        value = _loads(data)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":  # JSON lines under another name
            return _read_jsonl(path, data)
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise _broken(path, line, error) from error
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list) or not value:
        raise DataError(f"{path} holds no rows", hint='give a list of objects: [{"problem": ..., "answer": ...}, ...]')
    rows = [_mapping(item) for item in value]
    return ListTable(path.name, _columns(rows), rows)


def _read_csv(path: Path, data: bytes) -> Table:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(path, data[: error.start].count(b"\n") + 1, error) from error
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Mapping[str, Any] | BadRow] = []
    lines: list[int] = []
    try:
        header = next(reader)
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                fits = len(cells) == len(header)
                bad = BadRow(f"the row has {len(cells)} cells, the header {len(header)}")
                rows.append(dict(zip(header, cells, strict=True)) if fits else bad)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: invalid CSV: {error}", hint="check the quotes") from error
    if not rows:
        raise DataError(f"{path} has a header but no rows", hint="give a file with at least one row")
    return ListTable(path.name, header, rows, lines)


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        # ParquetFile, not read_table: the latter takes part of a path such as split=test for a column
        table = pyarrow.parquet.ParquetFile(path).read()
    except (OSError, pyarrow.ArrowException) as error:
        empty = path.stat().st_size == 0
        what = f"{path} is empty" if empty else f"{path} is no readable parquet file: {error}"
        raise DataError(what, hint="write it again; a copy may be unfinished") from error
    if not table.num_rows:
        raise DataError(f"{path} has columns but no rows", hint="give a file with at least one row")
    return ParquetTable(path.name, list(table.column_names), table)
