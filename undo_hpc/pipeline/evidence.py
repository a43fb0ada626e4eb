"""The evidence of many tasks at once: manifests, and whether their outputs have the right size. A few microseconds a task.

The only answer to "what is done": `control.position` decides by it, and views show what was derived from it. A damaged manifest is
no error here: its task counts as stale, with the reason, and is done again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undo_hpc.pipeline.plan import Stage, Task
from undo_hpc.pipeline.state import Evidence, Key
from undo_hpc.records import SCHEMA_VERSION
from undo_hpc.storage.manifest import Manifest, manifest_from
from undo_hpc.storage.reading import read_fast

DAMAGED = "its manifest is damaged"


def gather_evidence(run_dir: Path, stages: Sequence[Stage]) -> dict[Key, Evidence]:
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
                evidence = _evidence(root, task, stage.iteration)
                if evidence is not None:
                    found[stage.name, task.index] = evidence
    return found


def task_evidence(run_dir: Path, task: Task, iteration: int) -> Evidence | None:
    """The evidence of one task; None where it has no manifest."""
    return _evidence(f"{run_dir}/", task, iteration)


def _evidence(root: str, task: Task, iteration: int) -> Evidence | None:
    data = read_fast(root + task.manifest)
    if data is None:
        return None
    version = data.get("schema_version")
    if version != SCHEMA_VERSION and isinstance(version, int):
        other = Manifest(task.stage, iteration, task.index, {}, {}, schema_version=version)
        return Evidence(other, f"its manifest has schema version {version}, not {SCHEMA_VERSION}")
    manifest = as_manifest(data)
    if manifest is None or not is_of(manifest, task, iteration):
        return Evidence(Manifest(task.stage, iteration, task.index, {}, {}), DAMAGED)
    return Evidence(manifest, _outputs(root, manifest))


def is_of(manifest: Manifest, task: Task, iteration: int) -> bool:
    """Whether a manifest is the task's own, and not one that was copied to its place: that would stand for another's outputs."""
    return (manifest.stage, manifest.iteration, manifest.index) == (task.stage, iteration, task.index)


def _names(folder: str) -> frozenset[str]:
    """Names in a folder, so that a missing manifest costs no system call of its own."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 (names alone)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _outputs(root: str, manifest: Manifest) -> str:
    """As verify_outputs(deep=False, pruned=True): what was pruned is done all the same."""
    for name, out in manifest.outputs.items():
        try:
            size = os.stat(root + name).st_size  # noqa: PTH116 (a Path for each of ten thousand files costs more)
        except FileNotFoundError:
            if name in manifest.pruned:
                continue
            return f"{name} is missing"
        if size != out.bytes:
            return f"{name} has {size} bytes, its manifest says {out.bytes}"
    return ""


def as_manifest(data: dict[str, Any]) -> Manifest | None:
    """A manifest from its JSON (which is used up), or None where it is none of this version."""
    if data.get("schema_version") != SCHEMA_VERSION:
        return None
    try:
        return manifest_from(data)
    except (TypeError, KeyError, AttributeError):
        return None
