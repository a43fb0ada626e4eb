"""JSON in all the shapes in which tables are kept: lines, a list of objects, an object of splits, of columns or of rows by id."""

from __future__ import annotations

import io
import json
import re
from array import array
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.data.split_names import SPLIT_WORDS
from undo_hpc.data.tables import BadRow, EmptyFileError, ListTable, Table, columns_of, require_different
from undo_hpc.errors import DataError

# Nineteen digits in a row, a point among them or not, may be an integer of over 64 bits or a decimal of over 17 digits, which orjson reads
# as the nearest float. Faster than a regular expression.
_DIGITS_ONLY = bytes(48 if 48 <= byte <= 57 or byte == 46 else 32 for byte in range(256))
_MANY_DIGITS = b"0" * 19
_KEY_ENDS = re.compile(rb'"[ \t\r\n]*:')  # behind each key, and perhaps inside a text
_INT_DIGITS = 4000  # Python converts no longer integers; they stay text
_ROWS_KEYS = ("data", "rows", "examples", "instances", "problems", "questions")


def loads(data: bytes) -> Any:
    """JSON as orjson reads it, or else as Python does, which knows NaN and keeps numbers of any length exact. Raises ValueError."""
    if _MANY_DIGITS not in data.translate(_DIGITS_ONLY):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    try:
        return json.loads(data.decode("utf-8"), parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < _INT_DIGITS else digits


def _float(text: str) -> float | Decimal:
    """A float; a Decimal where it is written with more digits than a float holds."""
    exact = Decimal(text)
    return exact if len(exact.as_tuple().digits) > 17 and abs(exact.adjusted()) < _INT_DIGITS else float(text)


def broken(path: Path, line: int, error: ValueError) -> DataError:
    """The error for a text that cannot be read, with what to do about it."""
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
        else "fix or delete that line; a last line cut in the middle is an unfinished copy",
    )


def read_json(path: Path, data: bytes, suffix: str, split: str) -> Table:
    """The rows of a JSON or JSONL file. A file may be called .jsonl and hold a list, or .json and hold lines.

    Raises:
        DataError: invalid JSON (with the line), no rows, or an object of splits without the one that is asked for.
    """
    return (
        _whole(path, data, split)
        if suffix == ".json" or data.lstrip()[:1] == b"["
        else _lines(path, data, split)
    )


def _lines(path: Path, data: bytes, split: str) -> Table:
    rows: list[Any] = []
    lines: list[int] = []
    for number, line in enumerate(
        io.BytesIO(data), 1
    ):  # the lines of a large file are never in memory beside it
        if line.strip():
            try:
                rows.append(loads(line))
                _require_single_keys(line, rows[-1], f"{path} line {number}")
            except ValueError as error:
                if not rows and data.lstrip()[:1] == b"{" and _is_one_value(data):
                    return _whole(path, data, split)  # one object over several lines
                raise broken(path, number, error) from error
            lines.append(number)
    if len(rows) == 1 and _is_columns(rows[0]):
        return _table(path, rows[0], split)
    found = [_mapping(row) for row in rows]
    return ListTable(path.name, columns_of(found), found, lines)


class LinesTable:
    """The rows of a large file of lines, each read when it is asked for: what is held is where they begin."""

    def __init__(self, path: Path, columns: list[str], places: array[int], lines: array[int]) -> None:
        self.name, self.columns = path.name, columns
        self._file = path.open("rb")
        self._places, self._lines = places, lines

    def __len__(self) -> int:
        return len(self._places)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        self._file.seek(self._places[index])
        return _mapping(loads(self._file.readline()))

    def where(self, index: int) -> str:
        return f"{self.name} line {self._lines[index]}"

    def narrow(self, columns: list[str]) -> None:
        return  # a line is decoded as a whole


def read_lines(path: Path) -> Table | None:
    """A large file of JSON lines, read once as a stream; None where it holds something else, for `read_json`.

    Raises:
        DataError: a line is invalid JSON.
    """
    places, lines, columns = array("q"), array("I"), dict[str, None]()
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = loads(line)
                    _require_single_keys(line, value, f"{path} line {number}")
                except ValueError as error:
                    if not places:  # one value over several lines, perhaps
                        return None
                    raise broken(path, number, error) from error
                if isinstance(value, dict):
                    columns.update(dict.fromkeys(map(str, value)))
                elif not places:
                    return None
                places.append(place)
                lines.append(number)
            place += len(line)
    return LinesTable(path, list(columns), places, lines) if len(places) > 1 else None


def _require_single_keys(text: bytes, value: Any, where: object) -> None:
    """Raises DataError where an object has one key twice: readers would take the last of its values silently, and of rows by their id
    lose one. Most texts end as many keys as their value has, and are not read again."""
    if len(_KEY_ENDS.findall(text)) == _number_of_keys(value):
        return

    def different(pairs: list[tuple[str, Any]]) -> None:
        require_different([key for key, _ in pairs], where)

    with suppress(RecursionError):
        json.loads(text, object_pairs_hook=different, parse_int=str, parse_float=str)


def _number_of_keys(value: Any) -> int:
    """The keys of all objects in a value."""
    found, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found += len(each)
            each = each.values()
        elif not isinstance(each, list):
            continue
        waiting += [inner for inner in each if isinstance(inner, dict | list)]
    return found


def _is_one_value(data: bytes) -> bool:
    try:
        loads(data)
    except ValueError:
        return False
    return True


def _whole(path: Path, data: bytes, split: str) -> Table:
    try:
        value = loads(data)
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":  # lines under another name
            return _lines(path, data, split)
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise broken(path, line, error) from error
    _require_single_keys(data, value, path)
    return _table(path, value, split)


def _table(path: Path, value: Any, split: str) -> Table:
    rows = rows_of(value, split, path)
    if not isinstance(rows, list) or not rows:
        raise EmptyFileError(
            f"{path} holds no rows", hint='give a list of objects: [{"problem": ..., "answer": ...}, ...]'
        )
    found = [_mapping(item) for item in rows]
    return ListTable(
        path.name, columns_of(found), found, is_document=isinstance(value, dict) or not _has_objects(rows)
    )


def rows_of(value: Any, split: str, path: Path) -> Any:
    """The list of rows in a JSON value; an object in which none are found is one row itself."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get(split), list | dict) and (
        isinstance(value[split], dict) or _has_objects(value[split])
    ):
        return rows_of(value[split], split, path)
    if (
        {"columns", "data"} <= value.keys()
        and isinstance(value["columns"], list)
        and isinstance(value["data"], list)
    ):
        return [_zipped(value["columns"], cells) for cells in value["data"]]  # pandas, orient="split"
    if "schema" in value and isinstance(value.get("data"), list):
        return value["data"]  # pandas, orient="table"
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list) and _has_objects(inner)}
    if named := [key for key in _ROWS_KEYS if key in lists]:
        return lists[named[0]]
    if _is_columns(value) and not (lists.keys() & set(SPLIT_WORDS)):
        return _from_columns(value, path)
    if len(lists) > 1 and not any(isinstance(inner, str) for inner in value.values()):
        raise DataError(
            f"{path} has no rows of the split '{split}'; it has {', '.join(lists)}",
            hint="set `split` to one of these",
        )
    if len(lists) == 1:
        return next(iter(lists.values()))
    if value and all(isinstance(inner, dict) for inner in value.values()):
        return _from_objects(value)
    return [value] if value else []


def _has_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _is_columns(value: Any) -> bool:
    """Whether an object is a table by columns: {"problem": [...], "answer": [...]}."""
    return (
        isinstance(value, dict)
        and len(value) > 1
        and all(isinstance(inner, list) for inner in value.values())
    )


def _from_columns(value: Mapping[str, list[Any]], path: Path) -> list[dict[str, Any]]:
    lengths = {key: len(inner) for key, inner in value.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key!r} {length}" for key, length in list(lengths.items())[:8])
        raise DataError(
            f"{path} has columns of different lengths: {told}", hint="give each column one value for each row"
        )
    return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]


def _from_objects(value: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Objects in an object: rows by their id ({"q1": {"problem": ...}}), or pandas' columns ({"problem": {"0": ...}})."""
    keys = list(next(iter(value.values())))
    if keys and all(key.isdigit() for key in keys) and all(list(inner) == keys for inner in value.values()):
        return [{column: inner[key] for column, inner in value.items()} for key in keys]
    if len(value) > 1 and all(inner.keys() & set(keys) for inner in value.values()):
        return list(value.values())
    return [value]


def _zipped(columns: list[Any], cells: Any) -> Any:
    fits = isinstance(cells, list) and len(cells) == len(columns)
    return dict(zip(map(str, columns), cells, strict=True)) if fits else cells


def _mapping(value: Any) -> Mapping[str, Any] | BadRow:
    return value if isinstance(value, dict) else BadRow(f"the row is no JSON object ({type(value).__name__})")
