"""A file that knows the digest of what went through it: nobody has to read it again for its manifest."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any


class HashingFile(io.FileIO):
    """A file for writing from beginning to end.

    Attributes:
        sha: running SHA-256 of the bytes so far.
        size: their number.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self.path, self.sha, self.size = path, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Writes all of the data. Raises OSError where the disk refuses."""
        left = memoryview(data).cast("B")
        self.sha.update(left)
        written = len(left)
        self.size += written
        while left:
            left = left[super().write(left) or 0 :]
        return written

    def sync(self) -> str:
        """Makes the bytes so far durable; returns their SHA-256."""
        os.fsync(self.fileno())
        return self.sha.hexdigest()
