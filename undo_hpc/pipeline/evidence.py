"""The evidence of many tasks at once, for looking at. Same answer as campaign.gather, a few microseconds a task.

A damaged or foreign manifest is no reason to stop looking: the task shows as stale, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.pipeline.plan import Stage
from undo_hpc.pipeline.state import Evidence, Key
from undo_hpc.records import SCHEMA_VERSION
from undo_hpc.storage.manifest import Manifest, Output

_CHUNK = 1 << 16


def gather(run_dir: Path, stages: Sequence[Stage]) -> dict[Key, Evidence]:
    """Manifests of all tasks, and what is wrong with their outputs as far as names and sizes tell."""
    root = f"{run_dir}/"
    found: dict[Key, Evidence] = {}
    listings: dict[str, frozenset[str]] = {}
    for stage in stages:
        for task in stage.tasks:
            if not task.manifest:
                continue
            folder, _, name = task.manifest.rpartition("/")
            if folder not in listings:
                listings[folder] = _names(root + folder)
            if name in listings[folder]:
                evidence = _one(root, task.manifest)
                if evidence is not None:
                    found[stage.name, task.index] = evidence
    return found


def _names(folder: str) -> frozenset[str]:
    """Names in a folder, so that a missing manifest costs no system call of its own."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 (names alone)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _one(root: str, name: str) -> Evidence | None:
    data = read_fast(root + name)
    if data is None:
        return None
    manifest = as_manifest(data)
    if manifest is None:
        empty = Manifest("", 0, 0, {}, {})
        version = data.get("schema_version")
        word = (
            "is damaged"
            if version == SCHEMA_VERSION or not data
            else f"has schema version {version}, not {SCHEMA_VERSION}"
        )
        return Evidence(empty, f"its manifest {word}")
    return Evidence(manifest, _outputs(root, manifest))


def _outputs(root: str, manifest: Manifest) -> str:
    """As verify_outputs(deep=False)."""
    for name, out in manifest.outputs.items():
        try:
            size = os.stat(root + name).st_size  # noqa: PTH116 (a Path for each of ten thousand files costs more)
        except FileNotFoundError:
            return f"{name} is missing"
        if size != out.bytes:
            return f"{name} has {size} bytes, its manifest says {out.bytes}"
    return ""


def as_manifest(data: dict[str, Any]) -> Manifest | None:
    """A manifest from its JSON (which is used up), or None where it is none of this version."""
    if data.get("schema_version") != SCHEMA_VERSION:
        return None
    try:
        data.pop("digest", None)
        data["outputs"] = {name: Output(**out) for name, out in data["outputs"].items()}
        return Manifest(**data)
    except (TypeError, KeyError, AttributeError):
        return None


def read_fast(path: str) -> dict[str, Any] | None:
    """A small JSON object by bare system calls; None where there is no file, an empty one where it is damaged."""
    data = read_bytes(path)
    if data is None:
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def read_bytes(path: str) -> bytes | None:
    """A file's bytes by bare system calls (pathlib costs ten times as much, which counts for ten thousand files)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(fd, _CHUNK)
        if len(data) == _CHUNK:
            pieces = [data]
            while piece := os.read(fd, _CHUNK):
                pieces.append(piece)
            data = b"".join(pieces)
    finally:
        os.close(fd)
    return data
