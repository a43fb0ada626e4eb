"""Rows of a local file as they stand there: JSONL, JSON, CSV, TSV (compressed, too), parquet or Arrow. No meaning is read into them here.

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

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_ABOUT_DATA = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)  # what `datasets` lays beside the rows
_DELIMITERS = (",", ";", "\t")
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
    """A parquet or Arrow file; the columns stay in Arrow's form and a row is made when it is asked for."""

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


def read_table(path: Path, split: str = "train") -> Table:
    """The rows of one file; of a JSON object of several lists of rows that of `split`.

    Raises:
        DataError: the file is missing, unreadable, empty, of an unknown kind, or broken (with the line).
    """
    if not is_data(path):
        known = f"{', '.join(SUFFIXES)}; all but parquet and arrow also with {', '.join(COMPRESSED)} behind"
        raise DataError(f"{path}: unknown kind of data file '{path.suffix}'", hint=f"known: {known}")
    if path.suffix.lower() in (".parquet", ".arrow"):
        return _read_arrow(path)
    data = _read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{path} is empty", hint="give a file with at least one row")
    suffix = _suffix(path)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, data)
    # a file may be called .jsonl and hold a list, or .json and hold lines
    return (
        _read_json(path, data, split)
        if suffix == ".json" or data.lstrip()[:1] == b"["
        else _read_jsonl(path, data)
    )


def _suffix(path: Path) -> str:
    """The ending that tells the kind of file: `.jsonl` of a.jsonl.gz."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


def is_data(path: Path) -> bool:
    """Whether a file's name is that of a data file that can be read."""
    suffix = _suffix(path)
    packed = path.suffix.lower() in COMPRESSED
    return suffix in SUFFIXES and not (packed and suffix in (".parquet", ".arrow"))


def _read_bytes(path: Path) -> bytes:
    try:
        codec = COMPRESSED.get(path.suffix.lower())
        if codec is None:
            return path.read_bytes()
        import pyarrow

        with pyarrow.input_stream(str(path), compression=codec) as stream:
            return bytes(stream.read())
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(
            f"cannot read {path}: {why}",
            hint="check the path and its permissions, and whether the copy is whole",
        ) from error


def data_files(path: Path, split: str, *, split_is_asked: bool) -> list[Path]:
    """The data files of a file or folder, in the order of their names.

    Where the names of a folder's files tell splits apart (train.jsonl, data/test-00000-of-00001.parquet), only those of
    `split` count, so that a test file beside a train file is never trained on. A lone other split is taken where the
    user did not ask for one.

    Raises:
        DataError: nothing is there, or nothing of that split.
    """
    if not path.exists() and any(sign in path.name for sign in "*?["):
        files = sorted(p for p in path.parent.glob(path.name) if p.is_file() and is_data(p))
        if not files:
            raise DataError(
                f"no data file matches {path}", hint=f"check the pattern; known kinds: {', '.join(SUFFIXES)}"
            )
        return files
    if not path.exists():
        near = sorted(p.name for p in path.parent.iterdir() if is_data(p)) if path.parent.is_dir() else []
        beside = f"; data files in {path.parent}: {', '.join(near[:8])}" if near else ""
        raise DataError(f"no such file or folder: {path}", hint=f"check the path{beside}")
    if path.is_file():
        return [path]
    inside = (
        p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts)
    )
    files = sorted(p for p in inside if is_data(p) and p.is_file() and p.name not in _ABOUT_DATA)
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
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _python_loads(data)
    return _python_loads(data) if _rounded(value) else value


def _python_loads(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _rounded(value: Any, depth: int = 3) -> bool:
    """Whether a row may hold an integer of over 64 bits, which orjson reads as the nearest float: another ground truth."""
    if type(value) is float:
        return abs(value) >= 1 << 63
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return depth > 0 and any(_rounded(item, depth - 1) for item in inner if type(item) in (float, dict, list))


def _broken(path: Path, line: int, error: ValueError) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        hint = "save the file as UTF-8, for example: iconv -f latin1 -t utf-8 (or -f utf-16, as Windows and Excel write it)"
        return DataError(f"{path} line {line}: not UTF-8 ({error})", hint=hint)
    comma = (
        isinstance(error, json.JSONDecodeError)
        and error.msg == "Extra data"
        and error.doc[error.pos : error.pos + 1] == ","
    )
    return DataError(
        f"{path} line {line}: invalid JSON: {error}",
        hint="one object a line, with no comma behind it; or put the whole into [ ]"
        if comma
        else "mend or delete that line; a last line cut in the middle is an unfinished copy",
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
    for number, line in enumerate(
        io.BytesIO(data), 1
    ):  # the lines of a large file are never in memory beside it
        if line.strip():
            try:
                rows.append(_mapping(_loads(line)))
            except ValueError as error:
                raise _broken(path, number, error) from error
            lines.append(number)
    return ListTable(path.name, _columns(rows), rows, lines)


def _read_json(path: Path, data: bytes, split: str) -> Table:
    try:
        value = _loads(data)
    except ValueError as error:
        if (
            isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        ):  # JSON lines under another name
            return _read_jsonl(path, data)
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise _broken(path, line, error) from error
    if isinstance(value, dict):
        lists = {
            key: inner
            for key, inner in value.items()
            if isinstance(inner, list) and any(isinstance(item, dict) for item in inner)
        }
        if (
            len(lists) > 1
            and split not in lists
            and not any(isinstance(inner, str) for inner in value.values())
        ):
            raise DataError(
                f"{path} has no rows of the split '{split}'; it has {', '.join(lists)}",
                hint="set `split` to one of these",
            )
        value = lists[split] if split in lists else next(iter(lists.values())) if len(lists) == 1 else [value]
    if not isinstance(value, list) or not value:
        raise DataError(
            f"{path} holds no rows", hint='give a list of objects: [{"problem": ..., "answer": ...}, ...]'
        )
    rows = [_mapping(item) for item in value]
    return ListTable(path.name, _columns(rows), rows)


def _read_csv(path: Path, data: bytes) -> Table:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(path, data[: error.start].count(b"\n") + 1, error) from error
    csv.field_size_limit(_CELL_LIMIT)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(
        _DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign)))
    )  # of equals the comma
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[Mapping[str, Any] | BadRow] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader)]
        if double := sorted({name for name in header if name and header.count(name) > 1}):
            raise DataError(f"{path} has two columns named {double[0]!r}", hint="rename one of them")
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                fits = len(cells) == len(header)
                bad = BadRow(f"the row has {len(cells)} cells, the header {len(header)}")
                rows.append(dict(zip(header, cells, strict=True)) if fits else bad)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path} line {reader.line_num}: invalid CSV: {error}", hint="check the quotes"
        ) from error
    if not rows:
        raise DataError(f"{path} has a header but no rows", hint="give a file with at least one row")
    return ListTable(path.name, header, rows, lines)


def _read_arrow(path: Path) -> Table:
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    arrow = path.suffix.lower() == ".arrow"
    try:
        if arrow:  # as datasets' save_to_disk writes it; mapped, so that only what is asked for takes memory
            with pyarrow.memory_map(str(path)) as stream:
                table = pyarrow.ipc.open_stream(stream).read_all()
        else:
            # ParquetFile, not read_table: the latter takes part of a path such as split=test for a column
            table = pyarrow.parquet.ParquetFile(path).read()
    except (OSError, pyarrow.ArrowException) as error:
        empty = path.stat().st_size == 0
        what = (
            f"{path} is empty"
            if empty
            else f"{path} is no readable {'Arrow stream' if arrow else 'parquet file'}: {error}"
        )
        raise DataError(what, hint="write it again; a copy may be unfinished") from error
    if not table.num_rows:
        raise DataError(f"{path} has columns but no rows", hint="give a file with at least one row")
    return ParquetTable(path.name, list(table.column_names), table)
