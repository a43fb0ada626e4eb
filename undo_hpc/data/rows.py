"""Rows of a local file as they stand there: JSONL, JSON, CSV, TSV (compressed, too), parquet or Arrow. No meaning is read into them here.

A file that is broken as a whole (invalid JSON, no such file, no header) raises a DataError with its line. A single row that is
not what it should be comes through as a `BadRow`, for the caller to count and list.
"""

from __future__ import annotations

from pathlib import Path

from undo_hpc.data.arrow_files import ARROW, PARQUET, read_arrow
from undo_hpc.data.csv_files import read_csv
from undo_hpc.data.json_files import broken, read_json, read_lines
from undo_hpc.data.tables import EmptyFileError, Table
from undo_hpc.errors import DataError
from undo_hpc.storage.opening import open_binary
from undo_hpc.system.lent import require_not_lent

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", *PARQUET, *ARROW)
LARGE = 32 << 20  # bytes of a file of lines that is not held in memory
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
# What a file holds by its first bytes, where that is not what its name says.
_WEB_PAGE = ("a web page, not data", "download it again; a link may have led to a page for login or preview")
_POINTERS = {
    b"version https://git-lfs.github.com/": (
        "a Git LFS pointer, not the data itself",
        "`git lfs pull` in that folder (after `git lfs install`), or `hf download`",
    ),
    b"/annex/objects/": ("a git-annex pointer, not the data itself", "`git annex get` in that folder"),
    b"<!doctype html": _WEB_PAGE,
    b"<html": _WEB_PAGE,
}
_BINARY = {
    b"PAR1": "parquet (.parquet)", b"ARROW1": "Arrow (.arrow)", b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)",
    b"BZh": "bzip2 (.bz2)", b"PK\x03\x04": "a zip archive or an Excel file: unpack it, or save it as CSV",
}  # fmt: skip


def read_table(path: Path, split: str = "train") -> Table:
    """The rows of one file; of a JSON object of several lists of rows that of `split`.

    Raises:
        EmptyFileError: the file has no rows.
        DataError: the file is missing, unreadable, of an unknown kind, not what its name says, or broken (with the line).
    """
    if not is_data(path):
        known = f"{', '.join(SUFFIXES)}; all but parquet and arrow also with {', '.join(COMPRESSED)} behind"
        raise DataError(f"{path}: unknown kind of data file '{path.suffix}'", hint=f"known: {known}")
    if path.exists():
        require_not_lent(path)
    suffix = suffix_of(path)
    arrow = suffix in (*PARQUET, *ARROW)
    _refuse_disguised(
        path, _read(path, 64, compressed=False), binary=arrow or path.suffix.lower() in COMPRESSED
    )
    if arrow:
        return read_arrow(path)
    of_lines = path.suffix.lower() in (".jsonl", ".ndjson")
    if of_lines and path.stat().st_size > LARGE and (table := read_lines(path)) is not None:
        return table
    data = _read(path).removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise EmptyFileError(f"{path} is empty", hint="give a file with at least one row")
    _refuse_disguised(path, data[:64])
    if suffix not in (".csv", ".tsv"):
        return read_json(path, data, suffix, split)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken(path, data[: error.start].count(b"\n") + 1, error) from error
    return read_csv(path, text, suffix)


def suffix_of(path: Path) -> str:
    """The ending that tells the kind of file: `.jsonl` of a.jsonl.gz."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


def is_data(path: Path) -> bool:
    """Whether a file's name is that of a data file that can be read."""
    suffix = suffix_of(path)
    packed = path.suffix.lower() in COMPRESSED
    return suffix in SUFFIXES and not (packed and suffix in (*PARQUET, *ARROW))


def _refuse_disguised(path: Path, head: bytes, *, binary: bool = False) -> None:
    for mark, (what, hint) in _POINTERS.items():
        if head.lstrip().lower().startswith(mark):
            raise DataError(f"{path} is {what}", hint=hint)
    held = next((what for mark, what in _BINARY.items() if head.startswith(mark)), "")
    if held and not binary:
        raise DataError(
            f"{path} holds {held}, which its name does not say",
            hint="give the file the ending of what it holds",
        )


def _read(path: Path, size: int | None = None, *, compressed: bool = True) -> bytes:
    try:
        codec = COMPRESSED.get(path.suffix.lower()) if compressed else None
        if codec is None:
            with open_binary(path) as file:
                return file.read() if size is None else file.read(size)
        import pyarrow

        with pyarrow.input_stream(str(path), compression=codec) as stream:
            return bytes(stream.read())
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(
            f"cannot read {path}: {why}",
            hint="check the path and its permissions, and whether the copy is whole",
        ) from error
