"""A large frozen file is read in parts, and what is read is compared with its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from undo_hpc.errors import EvidenceError
from undo_hpc.storage import chunks
from undo_hpc.storage.chunks import read_chunked, write_chunked
from undo_hpc.storage.manifest import describe_output
from undo_hpc.storage.shards import encode_row


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 9, 11])
def test_a_slice_of_a_chunked_file_is_the_slice_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(chunks, "ROWS", 4)
    rows, path = [{"n": k, "text": "é\n" * k} for k in range(count)], tmp_path / "rows.jsonl"
    output, made = write_chunked(path, map(encode_row, rows))
    assert output == describe_output(path, count)
    assert (made is None) == (count <= 4)
    for start in range(count) if made else ():
        for stop in range(start, count + 3):
            assert list(read_chunked(path, made, start, stop)) == rows[start:stop]


def test_only_the_chunks_that_are_read_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", 4)
    path = tmp_path / "rows.jsonl"
    _, made = write_chunked(path, (encode_row({"n": k}) for k in range(12)))
    assert made is not None
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"n":9', b'"n":1'))
    assert [row["n"] for row in read_chunked(path, made, 2, 8)] == [2, 3, 4, 5, 6, 7]
    with pytest.raises(EvidenceError, match="rows 8 to 11, has changed"):
        list(read_chunked(path, made, 7, 9))
    path.unlink()
    with pytest.raises(EvidenceError, match="missing"):
        list(read_chunked(path, made, 0, 1))
