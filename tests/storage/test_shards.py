"""A shard loses one group at most, a torn tail is cut, a damaged row is named by file and line."""

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.errors import StorageError
from undo_hpc.storage.events import EventLog, read_events
from undo_hpc.storage.shards import ShardWriter, dump_rows, first_row_from, last_row, read_rows, repair_tail


@given(
    rows=st.lists(st.integers(-(2**63), 2**63), min_size=1, max_size=30),
    cut=st.integers(min_value=0, max_value=400),
)
def test_whatever_the_tear_whole_rows_survive(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], cut: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / "s.jsonl"
    with ShardWriter(path, flush_rows=3) as writer:
        for row in rows:
            writer.append({"n": row})
    data = path.read_bytes()
    torn = data[: max(0, len(data) - cut)]
    path.write_bytes(torn)
    removed = repair_tail(path)
    kept = [row["n"] for row in read_rows(path)]
    assert kept == rows[: torn.count(b"\n")]
    assert path.stat().st_size == len(torn) - removed


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=40), st.integers(-1, 42))
def test_bisection_finds_the_first_row_of_a_range(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int]], low: int
) -> None:
    path = tmp_path_factory.mktemp("sorted") / "s.jsonl"
    rows = [{"idx": idx, "text": "x" * size} for idx, size in sorted(made)]
    path.write_bytes(dump_rows(rows))
    with path.open("rb") as file:
        start = first_row_from(file, low)
    assert list(read_rows(path, start)) == [row for row in rows if row["idx"] >= low]
    if rows:
        assert last_row(path) + b"\n" == dump_rows(rows[-1:])


def test_groups_are_durable_when_full(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "s.jsonl", flush_rows=4, flush_seconds=1000)
    for n in range(10):
        writer.append({"n": n})
    assert [row["n"] for row in read_rows(tmp_path / "s.jsonl")] == list(range(8))
    writer.close()
    assert [row["n"] for row in read_rows(tmp_path / "s.jsonl")] == list(range(10))


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(StorageError, match=r"s\.jsonl, line 2"):
        list(read_rows(path))


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s.jsonl") as writer:
        writer.append({"text": "a\ud800b \U0001f600", "more": ["\udfff"]})
    assert list(read_rows(tmp_path / "s.jsonl")) == [{"text": "a\ufffdb \U0001f600", "more": ["\ufffd"]}]


def test_a_write_that_the_disk_cuts_short_is_taken_back_and_comes_whole(tmp_path: Path) -> None:
    """Closing tries once more; it used to glue the rows to the half of a row that had found room."""
    rows = [{"n": n, "text": "x" * 100} for n in range(4)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = ShardWriter(tmp_path / "s.jsonl", flush_rows=4)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
        with pytest.raises(StorageError):
            for row in rows:
                writer.append(row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "s.jsonl").read_bytes() == b""
    writer.close()
    assert list(read_rows(tmp_path / "s.jsonl")) == rows


def test_an_event_after_a_torn_line_is_not_lost_with_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("first")
    with log.path.open("ab") as file:
        file.write(b'{"time": 1, "ki')
    log.append("second")
    assert [event["kind"] for event in read_events(log.path)] == ["first", "second"]
