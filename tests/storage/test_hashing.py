"""The digest of a file is known when it is written, whatever the pieces."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.storage.hashing import HashingFile


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_digest_and_size_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("f") / "f"
    with HashingFile(path) as file:
        for number, piece in enumerate(pieces):
            assert file.write(memoryview(piece) if number % 2 else piece) == len(piece)
        digest = file.sync()
    assert path.read_bytes() == b"".join(pieces)
    assert (file.size, digest) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_arrays_count_in_bytes(tmp_path: Path) -> None:
    with HashingFile(tmp_path / "f") as file:
        assert file.write(np.arange(5, dtype=np.int64)) == 40
    assert file.size == (tmp_path / "f").stat().st_size == 40


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_said() -> None:
    with pytest.raises(OSError, match="No space left"), HashingFile(Path("/dev/full")) as file:
        file.write(b"x" * 10)
