"""The distilled set on disk: parquet files and a card, in a folder that `datasets.load_dataset` reads as it is.

Rows lie in the order of (idx, id, attempt), and are written and read as streams: memory does not grow with the data.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from undo_hpc.errors import DataError
from undo_hpc.pipeline.layout import distilled_files
from undo_hpc.records import Example
from undo_hpc.storage.atomic import make_folder, publish_dir, translate_os_error, write_text
from undo_hpc.storage.hashing import HashingFile
from undo_hpc.storage.manifest import Output
from undo_hpc.storage.opening import require_file

ROWS_PER_GROUP = 512
COLUMNS = tuple(f.name for f in fields(Example))


def _schema() -> Any:
    import pyarrow as pa

    integers = {"idx", "iteration", "attempt", "completion_tokens"}
    return pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in COLUMNS])


def arrow_array(values: Sequence[Any], kind: Any) -> Any:
    """An Arrow array from its buffers: `pyarrow.array` would import pandas for its checks, 60 MiB that a merge can do without."""
    import pyarrow as pa

    if kind == pa.int64():
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(array("q", values))])
    if values.count(values[0]) == len(values):
        text, size = values[0].encode("utf-8", "replace"), len(values)
        offsets, data = (
            array("i", range(0, (size + 1) * len(text), len(text)) if text else [0] * (size + 1)),
            text * size,
        )
    else:
        texts = [value.encode("utf-8", "replace") for value in values]
        offsets, data = array("i", itertools.accumulate(map(len, texts), initial=0)), b"".join(texts)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


class DistilledFile:
    """Writes one parquet file of a distilled set, in groups of rows; a set has one for each range of problems.

    Attributes:
        rows: rows so far.
        output: what a manifest says of the file, once the `with` block has ended; None where there was no row, and so no file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self.output: Output | None = None
        self._group: list[tuple[Any, ...]] = []
        self._writer: Any = None
        self._sink: HashingFile | None = None

    def __enter__(self) -> Self:
        return self

    def extend(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows: each the fields of an Example, in their order."""
        self._group += rows
        self.rows += len(rows)
        if len(self._group) >= ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema()
        columns = list(zip(*self._group, strict=True))
        self._group = []
        with translate_os_error(self.path):
            if self._writer is None:
                self._sink = HashingFile(self.path)
                self._writer = pq.ParquetWriter(
                    self._sink, schema, compression="lz4", use_dictionary=False, write_statistics=["idx"]
                )
            arrays = [arrow_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            # write_table closes its row group; write_batch would keep up to a million rows in memory
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._group:
            self._write()
        if self._sink is None:
            return
        with translate_os_error(self.path):
            self._writer.close()
            self._sink.close()
        self.output = Output(self._sink.sha.hexdigest(), self.path.stat().st_size)


class DistilledFolder:
    """A distilled set in the making, beside its place; published whole, with its card, at the end of the `with` block.

    Nothing is published where the block ends with an error.
    """

    def __init__(self, folder: Path, card: str = "") -> None:
        self.folder, self.card = folder, card
        # a name of its own: a zombie of an earlier start may still be writing its one
        self.temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{time.time_ns():x}.tmp")

    def __enter__(self) -> Self:
        with translate_os_error(self.temporary):
            for left in self.folder.parent.glob(f".{self.folder.name}.*"):  # of starts that were killed
                shutil.rmtree(left, ignore_errors=True)
            make_folder(self.folder.parent)
            self.temporary.mkdir()
        return self

    def make_durable(self, names: Iterable[str]) -> None:
        """Waits until these files are on the disk; publishing does the same for what is left."""
        for name in names:
            with translate_os_error(self.temporary / name), (self.temporary / name).open("rb") as file:
                os.fsync(file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                write_text(self.temporary / "README.md", self.card)
                publish_dir(self.temporary, self.folder)
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)


def parquet_files(folder: Path) -> list[Path]:
    """The data files of a distilled set, in order. Raises DataError where there are none, OSError for a pipe in place of one."""
    files = distilled_files(folder)
    if not files:
        raise DataError(f"{folder} holds no distilled set", hint="run the merge of that iteration first")
    for file in files:
        require_file(file)
    return files


def read_distilled(folder: Path, low: int | None = None, high: int | None = None) -> Iterator[Example]:
    """The rows of a distilled set, in order, as a stream; `low` and `high` bound idx, `high` itself left out."""
    yield from read_files(parquet_files(folder), low, high)


def file_ranges(folder: Path) -> list[tuple[Path, float, float]]:
    """The files of a distilled set, each with its least and greatest idx, by their footers."""
    import pyarrow.parquet as pq

    column, found = COLUMNS.index("idx"), []
    for path in parquet_files(folder):
        with pq.ParquetFile(path) as file:
            groups = [
                file.metadata.row_group(k).column(column).statistics for k in range(file.num_row_groups)
            ]
        known = all(group is not None and group.has_min_max for group in groups)
        least = min((group.min for group in groups), default=0) if known else -math.inf
        found.append((path, least, max((group.max for group in groups), default=0) if known else math.inf))
    return found


def read_files(paths: Iterable[Path], low: int | None = None, high: int | None = None) -> Iterator[Example]:
    """`read_distilled` of some of its files."""
    import pyarrow.parquet as pq

    column = COLUMNS.index("idx")
    for path in paths:
        with pq.ParquetFile(path) as file:
            groups = [
                g
                for g in range(file.num_row_groups)
                if _meets(file.metadata.row_group(g).column(column).statistics, low, high)
            ]
            for batch in file.iter_batches(
                batch_size=ROWS_PER_GROUP, row_groups=groups, columns=list(COLUMNS)
            ):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    example = Example(*values)
                    if (low is None or example.idx >= low) and (high is None or example.idx < high):
                        yield example


def read_solutions(folder: Path) -> Iterator[tuple[tuple[int, str], str]]:
    """The first rationale of each problem, with its (idx, id), in that order, as a stream that reads no other column."""
    import pyarrow.parquet as pq

    last = None
    for path in parquet_files(folder):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(
                batch_size=ROWS_PER_GROUP, columns=["idx", "id", "teacher_solution"]
            ):
                texts = batch.column(
                    "teacher_solution"
                )  # only first ones become strings: there may be many a problem
                idx, who = batch.column("idx").to_pylist(), batch.column("id").to_pylist()
                for row, order in enumerate(zip(idx, who, strict=True)):
                    if order != last:
                        yield order, texts[row].as_py()
                        last = order


def _meets(statistics: Any, low: int | None, high: int | None) -> bool:
    """Whether a group of rows may have an idx of the range."""
    if statistics is None or not statistics.has_min_max:
        return True
    return (low is None or statistics.max >= low) and (high is None or statistics.min < high)
