"""The distilled set on disk: parquet files and a card, in a folder that `datasets.load_dataset` reads as it is.

Rows lie in the order of (idx, id, attempt), and are written and read as streams: memory does not grow with the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from undo_hpc.errors import DataError
from undo_hpc.records import Example
from undo_hpc.storage.atomic import explained, publish_dir, write_text

ROWS_PER_GROUP = 4096
ROWS_PER_FILE = 500_000
COLUMNS = tuple(f.name for f in fields(Example))


def _schema() -> Any:
    import pyarrow as pa

    integers = {"idx", "iteration", "attempt", "completion_tokens"}
    return pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in COLUMNS])


class DistilledWriter:
    """Writes a distilled set beside its place and publishes it whole, at the end of the `with` block.

    Nothing is published where the block ends with an error.
    """

    def __init__(self, folder: Path, card: str = "") -> None:
        self.folder, self.card, self.rows = folder, card, 0
        self._temporary = folder.with_name(f".{folder.name}.tmp")
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self._writer: Any = None
        self._files = 0

    def __enter__(self) -> Self:
        with explained(self._temporary):
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(parents=True)
        return self

    def add(self, values: tuple[Any, ...]) -> None:
        """Adds a row: the fields of an Example, in their order."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self.rows += 1
        if len(self._columns[0]) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _schema()
        with explained(self._temporary):
            if self._writer is None:
                path = self._temporary / f"distilled-{self._files:05d}.parquet"
                self._writer = pq.ParquetWriter(
                    path, schema, compression="lz4", use_dictionary=False, write_statistics=False
                )
                self._files += 1
            arrays = [pa.array(column, field.type) for column, field in zip(self._columns, schema, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=schema))
            if self.rows % ROWS_PER_FILE < ROWS_PER_GROUP <= self.rows - 1:
                self._close_file()
        self._columns = [[] for _ in COLUMNS]

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._close_file()
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        if self._columns[0] or not self._files:
            self._flush()
        self._close_file()
        write_text(self._temporary / "README.md", self.card)
        publish_dir(self._temporary, self.folder)


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
