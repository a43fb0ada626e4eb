"""Append-only JSONL shards: rows become durable in groups, and a torn tail is cut off at the next start."""

from __future__ import annotations

import base64
import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from undo_hpc.errors import StorageError
from undo_hpc.storage.atomic import fsync_dir, make_folder, translate_os_error
from undo_hpc.storage.opening import open_append, open_binary, open_file


def repair_tail(path: Path) -> int:
    """Cuts a last line that was not written to its end; returns the number of bytes cut (0 where all is well)."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    with os.fdopen(open_file(path, os.O_RDWR | os.O_NOFOLLOW), "rb+") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            file.flush()
            os.fsync(file.fileno())
    return size - end


def first_row_from(file: BinaryIO, idx: int) -> int:
    """Offset of the first row whose `idx` is not below the given one, in a JSONL file sorted by it; by bisection."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        file.seek(max(0, middle - 1))
        start = (
            middle - 1 + len(file.readline()) if middle else 0
        )  # of the first line that begins in the middle or behind it
        if start >= high:
            high = middle
            continue
        line = file.readline()
        if orjson.loads(line)["idx"] < idx:
            low = start + len(line)
        else:
            high = middle
    return low


def last_row(path: Path) -> bytes:
    """The last line of a JSONL file that is not empty."""
    with open_binary(path) as file:
        end = file.seek(0, os.SEEK_END)
        size = 4096
        while True:
            file.seek(max(0, end - size))
            lines = file.read().splitlines()
            if len(lines) > 1 or size >= end:
                return lines[-1]
            size *= 4


def read_rows(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, in order, from an offset on. Raises StorageError that names file and line of a damaged row."""
    with open_binary(path) as file:
        file.seek(start)
        after = f" after byte {start}" if start else ""
        for number, line in enumerate(file, start=1):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise StorageError(
                    f"{path}, line {number}{after}: not valid JSON ({error})",
                    hint="a line was damaged from outside; delete the file and run the same command again: its rows are made again",
                ) from error
            if not isinstance(row, dict):
                raise StorageError(
                    f"{path}, line {number}{after}: a row must be a JSON object",
                    hint="delete the file and run the same command again",
                )
            yield row


def encode_row(row: dict[str, Any]) -> bytes:
    """A row as a JSON line. Lone surrogates, which no UTF-8 file can hold, become U+FFFD."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_without_surrogates(row), option=orjson.OPT_APPEND_NEWLINE)


_SEAL, _END = b',"seal":"', b"}\n"


def encode_sealed(row: dict[str, Any]) -> bytes:
    """A row as a JSON line with a checksum as its last key, for rows whose file no manifest validates: those of a shard in the making."""
    return seal_line(encode_row(row))


def seal_line(line: bytes) -> bytes:
    """A JSON object's line with a checksum of it as its last key."""
    return b'%s%s%08x"}\n' % (line[:-2], _SEAL, zlib.crc32(line))


def pack_ids(ids: Sequence[int]) -> str:
    """Token ids as they stand in a row: base64 of little-endian int32 (without numpy: a task that keeps none need not load it)."""
    return base64.b64encode(struct.pack(f"<{len(ids)}i", *ids)).decode()


def decode_sealed(line: bytes) -> dict[str, Any]:
    """A row of `encode_sealed`, or of `encode_row` (earlier versions). Raises ValueError where it is torn, or a value has changed."""
    row = orjson.loads(line)
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    seal = row.pop("seal", None)
    if seal is not None and seal != f"{zlib.crc32(line.rpartition(_SEAL)[0] + _END):08x}":
        raise ValueError("its values have changed since it was written")
    return row


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def dump_rows(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> bytes:
    """Rows as JSONL bytes; the same rows always give the same bytes."""
    return b"".join(map(encode_row, rows))


class ShardWriter:
    """Appends rows to a JSONL file and makes them durable in groups (so a kill loses one group at most).

    Args:
        path: the file; a torn tail is repaired before the first append.
        flush_rows: rows in a group.
        flush_seconds: longest time that an appended row waits.
        sealed: each row gets a checksum (`encode_sealed`).
    """

    def __init__(
        self, path: Path, *, flush_rows: int = 64, flush_seconds: float = 10.0, sealed: bool = False
    ) -> None:
        self.path, self._encode = path, encode_sealed if sealed else encode_row
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._pending: list[bytes] = []
        self._since = time.monotonic()
        with translate_os_error(path):
            make_folder(path.parent)
            repair_tail(path)
            new = not path.exists()
            self._file = open_append(path)
            if new:
                fsync_dir(path.parent)

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; the group becomes durable when it is full or old."""
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(self._encode(row))
        if len(self._pending) >= self._flush_rows or time.monotonic() - self._since >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Makes all appended rows durable. Raises StorageError where the disk is full; the rows wait for another try then."""
        if not self._pending:
            return
        data, fd = memoryview(b"".join(self._pending)), self._file.fileno()
        with translate_os_error(self.path):
            before = os.fstat(fd).st_size
            try:
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(fd)
            except OSError:
                with contextlib.suppress(
                    OSError
                ):  # half a row, which the next try would be glued to, and rows that it would double
                    os.ftruncate(fd, before)
                raise
        self._pending.clear()

    def close(self) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
