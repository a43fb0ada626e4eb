"""A large frozen JSONL file that many tasks read in parts: where every ROWS-th row begins, and the digest of each chunk of ROWS rows.

So a task reads and checks what it works on, and not the whole file: of a million problems a few hundred kilobytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.errors import EvidenceError
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.manifest import Output
from undo_hpc.storage.opening import open_binary

ROWS = 1000
Chunks = dict[
    str, Any
]  # as it stands in a manifest: rows, ends (offset behind each chunk), sha256 (of each chunk)


def write_chunked(path: Path, lines: Iterable[bytes]) -> tuple[Output, Chunks | None]:
    """Writes a file durably, a line each; returns what a manifest says of it, and its chunks (None where one holds it all)."""
    whole, chunk, size, count = hashlib.sha256(), hashlib.sha256(), 0, 0
    ends: list[int] = []
    digests: list[str] = []

    def counted() -> Iterator[bytes]:
        nonlocal chunk, size, count
        for line in lines:
            if count and count % ROWS == 0:
                ends.append(size)
                digests.append(chunk.hexdigest())
                chunk = hashlib.sha256()
            whole.update(line)
            chunk.update(line)
            size, count = size + len(line), count + 1
            yield line

    write_bytes(path, counted())
    chunks = {"rows": ROWS, "ends": [*ends, size], "sha256": [*digests, chunk.hexdigest()]}
    return Output(whole.hexdigest(), size, count), chunks if ends else None


def read_chunked(path: Path, chunks: Mapping[str, Any], start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Rows `start` to `stop`, as a stream; the chunks that hold them are compared with their digests.

    Raises:
        EvidenceError: the file is missing or has changed.
    """
    each, ends = chunks["rows"], chunks["ends"]
    if type(each) is not int or each < 1 or not all(type(end) is int for end in ends):
        raise ValueError("its chunks are no numbers")
    try:
        with open_binary(path) as file:
            for number in range(start // each, min(len(ends), -(-stop // each))):
                begin = ends[number - 1] if number else 0
                file.seek(begin)
                data = file.read(ends[number] - begin)
                if hashlib.sha256(data).hexdigest() != chunks["sha256"][number]:
                    raise EvidenceError(
                        f"{path}, rows {number * each} to {(number + 1) * each - 1}, has changed since its manifest was written"
                    )
                first = number * each
                lines = data.split(b"\n")
                if len(lines) - 1 != each and number < len(ends) - 1:
                    raise ValueError(f"a chunk of {len(lines) - 1} rows, and not of {each}")
                for line in lines[max(0, start - first) : min(each, stop - first)]:
                    if line:
                        yield orjson.loads(line)
    except FileNotFoundError as error:
        raise EvidenceError(f"{path} is missing") from error
