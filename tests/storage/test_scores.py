"""Scores on disk: what was written is what is mapped, and files of other settings are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from undo_hpc.errors import DataError
from undo_hpc.storage.scores import (
    Block,
    ScoredText,
    Scores,
    binary_of,
    block_size,
    ids_digest,
    text_key,
    unpack_ids,
)
from undo_hpc.storage.shards import dump_rows, pack_ids


def make_block(n: int, k: int, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)

    def halves(*shape: int) -> np.ndarray:
        return -rng.exponential(2, shape).astype(np.float16)

    return Block(rng.integers(0, 99, (n, k), np.int32), halves(n, k), halves(n), halves(n), halves(n))


def write(path: Path, blocks: dict[str, Block]) -> Path:
    rows, at = [], 0
    for key, block in blocks.items():
        rows.append(ScoredText(key, len(block.own), "sha", at))
        at += len(block.to_bytes())
    path.write_bytes(dump_rows([row.to_dict() for row in rows]))
    binary_of(path).write_bytes(b"".join(block.to_bytes() for block in blocks.values()))
    return path


def test_what_was_written_is_mapped(tmp_path: Path) -> None:
    first = {text_key("a", 0, 0): make_block(5, 16), text_key("b", 0, 1): make_block(1, 16, 1)}
    second = {text_key("c", 1, 0): make_block(300, 16, 2)}
    files = [
        write(tmp_path / "shard-0.jsonl", first),
        write(tmp_path / "shard-1.jsonl", second),
        write(tmp_path / "none.jsonl", {}),
    ]
    scores = Scores(files, 16)
    for key, block in (first | second).items():
        found = scores.block(key)
        for name in ("ids", "log_p", "own", "tail", "old"):
            np.testing.assert_array_equal(getattr(found, name), getattr(block, name))
    assert len(second[text_key("c", 1, 0)].to_bytes()) == block_size(300, 16) == 300 * 102


def test_another_k_or_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "shard-0.jsonl", {"a": make_block(5, 16)})
    with pytest.raises(DataError, match="k = 8"):
        Scores([path], 8)
    data = binary_of(path).read_bytes()
    binary_of(path).write_bytes(data[:-1])
    with pytest.raises(DataError, match="has 509 bytes"):
        Scores([path], 16)
    binary_of(path).unlink()
    with pytest.raises(DataError, match="is missing"):
        Scores([path], 16)


def test_ids_pass_through_a_row() -> None:
    ids = [0, 1, 151_935, 7]
    assert unpack_ids(pack_ids(ids)).tolist() == ids
    assert ids_digest(ids) == ids_digest(np.asarray(ids, np.int64)) != ids_digest(ids[:-1])
