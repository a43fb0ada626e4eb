"""A pipe, a device, an endless file or a link in place of a file of a run: nothing waits, fills the memory or writes elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from undo_hpc.data.distilled import parquet_files
from undo_hpc.errors import StorageError
from undo_hpc.storage.atomic import read_json, sha256_file
from undo_hpc.storage.events import append_line, read_events
from undo_hpc.storage.lease import Lease, read_lease
from undo_hpc.storage.opening import open_append, read_bytes
from undo_hpc.storage.reading import read_fast, read_rows_tolerant
from undo_hpc.storage.shards import ShardWriter, read_rows
from undo_hpc.training.encoding import load_encoded

READERS: list[Callable[[Path], object]] = [
    read_bytes, read_fast, read_json, read_lease, sha256_file, open_append,
    lambda path: list(read_rows_tolerant(path)), lambda path: list(read_events(path)), lambda path: list(read_rows(path)),
    lambda path: append_line(path, {}), ShardWriter, lambda path: Lease(path, "it").__enter__(),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(READERS)))
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], number: int
) -> None:
    """A reader would wait at a pipe for ever, and never come to the end of some devices."""
    path = tmp_path / "file"
    make(path)
    with pytest.raises((OSError, StorageError)):
        READERS[number](path)


def test_a_file_far_above_its_kind_does_not_fill_the_memory(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    for read in (read_fast, read_json, read_lease, lambda path: list(read_events(path))):
        with pytest.raises(OSError, match="which no file of its kind has"):
            read(tmp_path / "huge")


def test_nothing_is_appended_through_a_link(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine", tmp_path / "events.jsonl"
    mine.write_bytes(b"mine")
    link.symlink_to(mine)
    for append in (lambda: append_line(link, {"a": 1}), lambda: ShardWriter(link), lambda: open_append(link)):
        with pytest.raises((OSError, StorageError)):
            append()
    assert mine.read_bytes() == b"mine" and list(read_rows_tolerant(link)) == []


def test_a_pipe_among_the_data_files_is_not_waited_for(tmp_path: Path) -> None:
    """A library opens them by their names."""
    os.mkfifo(tmp_path / "encoded.npz")
    with pytest.raises(StorageError, match="a pipe or a device"):
        load_encoded(tmp_path / "encoded.npz")
    os.mkfifo(tmp_path / "distilled-00000.parquet")
    with pytest.raises(OSError, match="a pipe or a device"):
        parquet_files(tmp_path)
