"""Small files read quickly, and JSONL read tolerantly: what cannot be parsed is skipped, and nothing else is."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.storage.opening import read_bytes
from undo_hpc.storage.reading import read_fast, read_rows_tolerant

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
