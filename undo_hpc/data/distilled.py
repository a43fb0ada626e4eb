"""The distilled set on disk: parquet files and a card, in a folder that `datasets.load_dataset` reads as it is.

Rows lie in the order of (idx, id, attempt), and are written and read as streams: memory does not grow with the data.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from undo_hpc.errors import DataError
from undo_hpc.records import Example
from undo_hpc.storage.atomic import explained, publish_dir, write_text
from undo_hpc.storage.manifest import Output

ROWS_PER_GROUP = 1024
ROWS_PER_FILE = 500_000
COLUMNS = tuple(f.name for f in fields(Example))


def _schema() -> Any:
    import pyarrow as pa

    integers = {"idx", "iteration", "attempt", "completion_tokens"}
    return pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in COLUMNS])


def _array(values: Sequence[Any], kind: Any) -> Any:
    """An Arrow array from its buffers: `pyarrow.array` would import pandas for its checks, 60 MiB that a merge can do without."""
    import pyarrow as pa

    if kind == pa.int64():
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(array("q", values))])
    texts = [value.encode("utf-8", "replace") for value in values]
    offsets = array("i", itertools.accumulate(map(len, texts), initial=0))
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))])


class _Hashed(io.FileIO):
    """A file for writing that keeps the digest of what went into it: nobody has to read it again for its manifest."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self.path, self.sha = path, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Writes all of the data."""
        left = memoryview(data).cast("B")
        self.sha.update(left)
        size = len(left)
        while left:
            left = left[super().write(left) :]
        return size


class DistilledWriter:
    """Writes a distilled set beside its place and publishes it whole, at the end of the `with` block.

    Nothing is published where the block ends with an error. A thread compresses and writes one group of rows while the
    next is gathered.
    """

    def __init__(self, folder: Path, card: str = "") -> None:
        self.folder, self.card, self.rows = folder, card, 0
        # a name of its own: a zombie of an earlier start may still be writing its one
        self._temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{time.time_ns():x}.tmp")
        self._group: list[tuple[Any, ...]] = []
        self.outputs: dict[Path, Output] = {}  # the data files, known once the block has ended
        self._writer: Any = None
        self._sink: _Hashed | None = None
        self._files = 0
        self._rows_in_file = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        with explained(self._temporary):
            for left in self.folder.parent.glob(f".{self.folder.name}.*"):  # of starts that were killed
                shutil.rmtree(left, ignore_errors=True)
            self._temporary.mkdir(parents=True)
        return self

    def extend(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows: each the fields of an Example, in their order."""
        self._group += rows
        self.rows += len(rows)
        if len(self._group) >= ROWS_PER_GROUP:
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the group to the thread, which may be one group behind (its errors come up here)."""
        while len(self._writing) > 1:
            self._writing.popleft().result()
        self._writing.append(self._thread.submit(self._write, self._group))
        self._group = []

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema()
        columns = list(zip(*rows, strict=True)) or [() for _ in COLUMNS]
        with explained(self._temporary):
            if self._writer is None:
                self._sink = _Hashed(self._temporary / f"distilled-{self._files:05d}.parquet")
                self._writer = pq.ParquetWriter(
                    self._sink, schema, compression="lz4", use_dictionary=False, write_statistics=False
                )
                self._files, self._rows_in_file = self._files + 1, 0
            arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            # write_table closes its row group; write_batch would keep up to a million rows in memory
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            self._rows_in_file += len(rows)
            if self._rows_in_file >= ROWS_PER_FILE:
                self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._sink is not None:
            self._sink.close()
            size = self._sink.path.stat().st_size
            self.outputs[self.folder / self._sink.path.name] = Output(self._sink.sha.hexdigest(), size)
            self._sink = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._group or not self.rows:
                    self._hand_over()
                while self._writing:
                    self._writing.popleft().result()
            self._thread.shutdown()
            with explained(self._temporary):
                self._close_file()
            if kind is None:
                write_text(self._temporary / "README.md", self.card)
                publish_dir(self._temporary, self.folder)
        finally:
            self._thread.shutdown()
            shutil.rmtree(self._temporary, ignore_errors=True)


def parquet_files(folder: Path) -> list[Path]:
    """The data files of a distilled set, in order. Raises DataError where there are none."""
    files = sorted(folder.glob("distilled-*.parquet"))
    if not files:
        raise DataError(f"{folder} holds no distilled set", hint="run the merge of that iteration first")
    return files


def read_distilled(folder: Path) -> Iterator[Example]:
    """The rows of a distilled set, in order, as a stream."""
    import pyarrow.parquet as pq

    for path in parquet_files(folder):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=ROWS_PER_GROUP, columns=list(COLUMNS)):
            yield from (
                Example(*values) for values in zip(*(column.to_pylist() for column in batch.columns), strict=True)
            )
