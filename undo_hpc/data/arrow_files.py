"""Parquet and Arrow files (IPC stream or file, as `datasets` and pandas write them) as a table."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from undo_hpc.data.tables import ArrowTable, EmptyFileError, Table, require_different
from undo_hpc.errors import DataError

PARQUET = (".parquet", ".pq")
LARGE = 64 << 20  # bytes of a parquet file's decoded columns that are held in memory
ARROW = (".arrow", ".feather", ".ipc")


def read_arrow(path: Path) -> Table:
    """The rows of a parquet or Arrow file; Arrow files are mapped, so that only what is asked for takes memory.

    Raises:
        DataError: the file is empty, broken, or has two columns of one name.
    """
    import pyarrow

    parquet = path.suffix.lower() in PARQUET
    try:
        table = _parquet(path) if parquet else _ipc(path)
        found = ArrowTable(path.name, list(table.column_names), table)
    except (OSError, ValueError, NotImplementedError, pyarrow.ArrowException) as error:
        if path.stat().st_size == 0:
            raise EmptyFileError(
                f"{path} is empty", hint="write it again; a copy may be unfinished"
            ) from error
        kind = "parquet file" if parquet else "Arrow file"
        raise DataError(
            f"{path} is no readable {kind}: {str(error).splitlines()[0][:300] if str(error) else type(error).__name__}",
            hint="write it again; a copy may be unfinished",
        ) from error
    require_different(found.columns, path)
    if not table.num_rows:
        raise EmptyFileError(f"{path} has columns but no rows", hint="give a file with at least one row")
    return found


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    # ParquetFile, not read_table: the latter takes part of a path such as split=test for a column
    file = pyarrow.parquet.ParquetFile(path)
    size = sum(file.metadata.row_group(k).total_byte_size for k in range(file.num_row_groups))
    return file.read() if size < LARGE else _mapped(file)


def _mapped(file: Any) -> Any:
    """A large parquet file as an Arrow file without a name, mapped: memory holds what is asked for."""
    import pyarrow
    import pyarrow.ipc

    with tempfile.NamedTemporaryFile() as copy:
        with pyarrow.ipc.new_file(copy.name, file.schema_arrow) as writer:
            for batch in file.iter_batches():
                writer.write_batch(batch)
        return pyarrow.ipc.open_file(pyarrow.memory_map(copy.name)).read_all()


def _ipc(path: Path) -> Any:
    import pyarrow
    import pyarrow.ipc

    with pyarrow.memory_map(str(path)) as stream:
        head = stream.read(6)
        stream.seek(0)
        if head[:4] == b"FEA1":
            raise ValueError(
                "Feather version 1, which current libraries no longer read; write it as version 2 or as parquet"
            )
        opened = pyarrow.ipc.open_file(stream) if head == b"ARROW1" else pyarrow.ipc.open_stream(stream)
        table = opened.read_all()
        table.validate(full=True)  # Arrow believes the offsets of a file: damaged ones end the process
        return table
