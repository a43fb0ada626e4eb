"""A teacher's scores on disk: an index of texts (JSONL) beside one binary file, which training maps into memory.

Of each scored token of a text stand, one array behind the other: ids int32 (n, k), log-probabilities float16 (n, k), the realised token's
float16 (n,), the log of the rest's mass float16 (n,), and of a student's own text its log-probability when it was sampled, float16 (n,).
At k = 16 that is 100 bytes a token; rounding to float16 moves a token's divergence by less than 0.001 nats.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from undo_hpc.errors import DataError
from undo_hpc.records import Row
from undo_hpc.storage.shards import read_rows

Array = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class ScoredText(Row):
    """A row of the index.

    Attributes:
        key: which text: `text_key` of a rationale, `sample_key` of a student's answer.
        n: scored tokens; the first ones of the answer. One that the teacher cannot end with is not scored.
        sha: `ids_digest` of all tokens of the answer.
        at: where its scores begin in the binary file.
        id, problem, answer: of a student's own text: the problem's id and words, and its tokens (base64 of int32).
    """

    key: str
    n: int
    sha: str
    at: int = 0
    id: str = ""
    problem: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Block:
    """The scores of one text: ids int32 (n, k); log_p float16 (n, k); own, tail, old float16 (n,)."""

    ids: npt.NDArray[np.int32]
    log_p: Array
    own: Array
    tail: Array
    old: Array

    def to_bytes(self) -> bytes:
        """As they lie on disk."""
        return b"".join(array.tobytes() for array in (self.ids, self.log_p, self.own, self.tail, self.old))


def block_size(n: int, k: int) -> int:
    """Bytes of the scores of n tokens."""
    return n * (6 * k + 6)


def block_from(data: bytes | memoryview | npt.NDArray[np.uint8], n: int, k: int) -> Block:
    """The scores from their bytes, without a copy."""
    parts, at = [], 0
    for kind, shape in ((np.int32, (n, k)), (np.float16, (n, k)), *[(np.float16, (n,))] * 3):
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        parts.append(np.frombuffer(data, dtype=kind, count=int(np.prod(shape)), offset=at).reshape(shape))
        at += size
    return Block(*parts)


def text_key(row_id: str, iteration: int, attempt: int) -> str:
    """The key of a rationale of the distilled set."""
    return f"{row_id}/{iteration}/{attempt}"


def sample_key(row_id: str, attempt: int) -> str:
    """The key of a student's own answer."""
    return f"{row_id}/sample/{attempt}"


def unpack_ids(text: str) -> npt.NDArray[np.int32]:
    """What `shards.pack_ids` made."""
    return np.frombuffer(base64.b64decode(text), dtype="<i4").astype(np.int32)


def ids_digest(ids: Sequence[int] | npt.NDArray[np.int32]) -> str:
    """16 hexadecimal digits that tell one answer's tokens from another's."""
    return hashlib.sha256(np.asarray(ids, dtype="<i4").tobytes()).hexdigest()[:16]


def binary_of(index: Path) -> Path:
    """The binary file beside an index."""
    return index.with_suffix(".bin")


class Scores:
    """All scores of a training: indices read, binary files mapped.

    Args:
        indices: in the order of their tasks.
        k: what the run scores with.

    Raises:
        DataError: a file is missing, was cut, or was scored with another k.
    """

    def __init__(self, indices: Iterable[str | Path], k: int) -> None:
        self.k = k
        self.rows: dict[str, tuple[int, ScoredText]] = {}
        self._maps: list[npt.NDArray[np.uint8]] = []
        for number, path in enumerate(map(Path, indices)):
            rows = [ScoredText.from_dict(row) for row in read_rows(path)] if path.exists() else []
            binary = binary_of(path)
            wanted = sum(block_size(row.n, k) for row in rows)
            size = binary.stat().st_size if binary.exists() else -1
            if size != wanted:
                what = (
                    "is missing"
                    if size < 0
                    else f"has {size:,} bytes; its index and k = {k} ask for {wanted:,}"
                )
                raise DataError(
                    f"{binary} {what}",
                    hint="it belongs to other settings or was cut; run the launcher again, which scores again",
                )
            self._maps.append(np.memmap(binary, np.uint8, "r") if size else np.zeros(0, np.uint8))
            self.rows |= {row.key: (number, row) for row in rows}

    def block(self, key: str) -> Block:
        """The scores of a text."""
        number, row = self.rows[key]
        return block_from(self._maps[number][row.at : row.at + block_size(row.n, self.k)], row.n, self.k)
