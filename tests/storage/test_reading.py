"""Small files read quickly, and JSONL read tolerantly: what cannot be parsed is skipped, and nothing else is."""

import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.errors import StorageError
from undo_hpc.storage.atomic import read_json, sha256_file
from undo_hpc.storage.events import append_line, read_events
from undo_hpc.storage.lease import Lease, read_lease
from undo_hpc.storage.reading import open_append, read_bytes, read_fast, read_rows_tolerant
from undo_hpc.storage.shards import ShardWriter, read_rows

ROWS = [{"a": 1}, {"b": "x\u2028y\rz"}, {"c": [None, 0.5]}]


@pytest.mark.parametrize(
    ("content", "value"),
    [(b'{"a": 1}', {"a": 1}), (b'{"a"', {}), (b"", {}), (b"[1]", {}), (b"\0" * 9, {}), (None, None)],
)
def test_a_small_object_is_read_or_is_empty_or_is_none(
    tmp_path: Path, content: bytes | None, value: dict[str, int] | None
) -> None:
    path = tmp_path / "f.json"
    if content is not None:
        path.write_bytes(content)
    assert read_fast(path) == value == read_fast(str(path))


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_all_bytes_are_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    assert read_bytes(tmp_path / "f") == b"x" * size
    assert read_bytes(tmp_path / "f" / "inside a file") is None


@given(
    st.lists(st.sampled_from([b"", b"{torn", b"[1]", b"7", b"\xff\xfe", b"\0\0"]), max_size=4),
    st.integers(0, 3),
)
def test_damaged_lines_cost_only_themselves(
    tmp_path_factory: pytest.TempPathFactory, bad: list[bytes], at: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "f.jsonl"
    lines = [orjson.dumps(row) for row in ROWS]
    path.write_bytes(b"\n".join(lines[:at] + bad + lines[at:]))
    assert list(read_rows_tolerant(path)) == ROWS


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows_tolerant(tmp_path / "none")) == []


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
