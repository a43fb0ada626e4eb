"""Reading small files quickly, and log-like files tolerantly: for views and accounting, which read ten thousand of them.

What is evidence or data of a stage is read strictly instead: `atomic.read_json`, `shards.read_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.storage.opening import LARGEST, read_bytes
from undo_hpc.storage.shards import decode_sealed


def read_fast(path: Path | str) -> dict[str, Any] | None:
    """A small JSON object; None where there is no file, an empty one where it is damaged."""
    data = read_bytes(path)
    if data is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def finite(row: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    """A finite number of such a row; `default` where there is none, whatever stands there instead."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    try:
        return float(value) if math.isfinite(value) else default
    except OverflowError:  # more digits than a float has
        return default


def read_rows_tolerant(path: Path | str, largest: int = LARGEST) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSONL file, in order; none where there is no file.

    A line that is no JSON object, or not what its checksum says, is skipped: a crash in the middle of a write, or a full disk, leaves half a line.
    """
    for line in (read_bytes(path, largest) or b"").split(b"\n"):
        try:
            row = decode_sealed(line)
        except ValueError:
            continue
        yield row
