"""What is to be known of all problems of a source at once, in few bytes each and exact: whose id came first, and the digest of all texts.

A dictionary takes 170 bytes for an id, a list of digests 73 for each: 2.6 GB for ten million problems.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from pathlib import Path
from typing import BinaryIO

from undo_hpc.storage.atomic import translate_os_error

PARTS = 256
HELD = 32 << 20  # bytes of digests in memory; what is more goes to an unnamed temporary file (in TMPDIR)
SIZE = 32  # bytes of a SHA-256


class FirstNumbers:
    """Which problem had an id first; 15 to 19 bytes an id: hash tables with open addressing, which grow one by one, by a quarter."""

    def __init__(self) -> None:
        self._ids = [array("Q", bytes(64)) for _ in range(PARTS)]
        self._numbers = [array("I", bytes(32)) for _ in range(PARTS)]  # plus one: 0 is an empty place
        self._used = [0] * PARTS

    def setdefault(self, who: int, number: int) -> int:
        """The number that came with this id (64 bits) at first: this one, where the id is new."""
        part = who % PARTS
        ids, numbers = self._ids[part], self._numbers[part]
        place = who // PARTS % len(ids)
        while held := numbers[place]:
            if ids[place] == who:
                return held - 1
            place = (place + 1) % len(ids)
        ids[place], numbers[place] = who, number + 1
        self._used[part] += 1
        if 5 * self._used[part] > 4 * len(ids):
            self._grow(part)
        return number

    def _grow(self, part: int) -> None:
        old = zip(self._ids[part], self._numbers[part], strict=True)
        size = len(self._ids[part]) * 5 // 4
        self._ids[part], self._numbers[part] = array("Q", bytes(8 * size)), array("I", bytes(4 * size))
        self._used[part] = 0
        for who, held in old:
            if held:
                self.setdefault(who, held - 1)


class SortedDigests:
    """SHA-256 digests in any order, and the digest of all of them in a row, sorted."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(PARTS)]  # by the first byte
        self._spilled: list[list[tuple[int, int]]] = [[] for _ in range(PARTS)]  # places in the file
        self._file: BinaryIO | None = None
        self._held = 0

    def add(self, digest: bytes) -> None:
        """Adds one. Raises StorageError where the temporary file cannot be written."""
        self._parts[digest[0]] += digest
        self._held += SIZE
        if self._held >= HELD:
            self._spill()

    def _spill(self) -> None:
        with translate_os_error(Path(tempfile.gettempdir())):
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as this lives)
            for part, places in zip(self._parts, self._spilled, strict=True):
                places.append((self._file.seek(0, 2), len(part)))
                self._file.write(part)
        self._parts = [bytearray() for _ in range(PARTS)]
        self._held = 0

    def hexdigest(self) -> str:
        """The digest of all so far."""
        whole = hashlib.sha256()
        for part, places in zip(self._parts, self._spilled, strict=True):
            data = bytes(part) + b"".join(self._read(*place) for place in places)
            whole.update(b"".join(sorted(data[at : at + SIZE] for at in range(0, len(data), SIZE))))
        return whole.hexdigest()

    def _read(self, place: int, size: int) -> bytes:
        assert self._file is not None, "it was written there"
        self._file.seek(place)
        return self._file.read(size)
