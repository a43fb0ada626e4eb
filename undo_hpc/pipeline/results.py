"""Figures of finished iterations, and any output of a task, read only where they are what their manifest says.

metrics.json is read by decisions, views, campaigns, prune and push: a value in it that was changed would be believed by all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.manifest import Manifest, read_manifest, unseal, verify_outputs
from undo_hpc.storage.opening import read_bytes

_AGAIN = "put the file back; or run the launcher again, which makes it again, or says which later iterations rest on it"


def changed(run: Run, manifest: Manifest, path: Path) -> str:
    """Whether a file is what its manifest says, by its digest; in words, empty where it is."""
    name = run.layout.relative(path)
    out = manifest.outputs.get(name)
    return verify_outputs(run.layout.root, replace(manifest, outputs={name: out}), deep=True) if out else ""


def read_metrics(run: Run, iteration: int) -> dict[str, Any]:
    """metrics.json of an iteration, by its own checksum (advance's manifest is missing while verdicts are counted again) and the manifest's.

    Raises:
        StorageError: it is missing, no JSON object, or not what was written.
    """
    at = run.layout.iteration(iteration)
    data = read_bytes(at.metrics)
    if data is None:
        raise StorageError(f"{at.metrics} is missing", hint=_AGAIN)
    try:
        manifest = read_manifest(at.stage_manifest("advance"))
    except EvidenceError:
        manifest = None
    known = manifest.outputs.get(run.layout.relative(at.metrics)) if manifest else None
    if known is not None and hashlib.sha256(data).hexdigest() != known.sha256:
        raise StorageError(f"{at.metrics} has changed since its manifest was written", hint=_AGAIN)
    try:
        metrics = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StorageError(f"{at.metrics} is not valid JSON: {error}", hint=_AGAIN) from error
    if not isinstance(metrics, dict):
        raise StorageError(f"{at.metrics} holds no JSON object", hint=_AGAIN)
    try:
        unseal(metrics)
        _require_figures(metrics)
    except ValueError as error:
        raise StorageError(f"{at.metrics}: {error}", hint=_AGAIN) from error
    return metrics


def _require_figures(metrics: dict[str, Any]) -> None:
    """Raises ValueError where a figure of a set is none: who changes one may have changed the checksum, too."""
    for sets in (metrics.get("sets", {}), metrics.get("baseline") or {}):
        for name, item in sets.items() if isinstance(sets, dict) else [("all", sets)]:
            figures = (
                [v for key, v in item.items() if key not in ("error", "pass_at")]
                if isinstance(item, dict)
                else [item]
            )
            if not all(isinstance(v, int | float | None) for v in figures):
                raise ValueError(f"a figure of the set {name} has another type")


def find_metrics(run: Run, iteration: int) -> dict[str, Any]:
    """`read_metrics` for views: nothing where it is missing or damaged."""
    try:
        return read_metrics(run, iteration)
    except (StorageError, OSError):
        return {}


def require_outputs(run: Run, iteration: int, stage: str, folder: Path | None = None) -> None:
    """The outputs of a stage's complete tasks are what their manifests say; each is read. For whoever takes data or figures out of a run.

    Args:
        folder: only those below it.

    Raises:
        StorageError: one is missing or has changed.
    """
    plan = run.plan(iteration)
    below = f"{run.layout.relative(folder)}/" if folder else ""
    for each in build_graph(run.config, run.layout, plan) if plan else ():
        for task in each.tasks if each.name == stage else ():
            manifest = read_manifest(run.layout.root / task.manifest) if task.manifest else None
            if manifest is None:
                continue
            mine = {path: out for path, out in manifest.outputs.items() if path.startswith(below)}
            if problem := verify_outputs(run.layout.root, replace(manifest, outputs=mine), deep=True):
                raise StorageError(
                    f"{run.layout.root}: {problem}",
                    hint="put the file back from a copy, or run the launcher again: what was changed is neither counted nor exported",
                )
