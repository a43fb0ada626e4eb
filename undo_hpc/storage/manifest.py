"""Manifests: a small JSON file, written last, that validates a task's outputs and names the inputs they came from."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.records import SCHEMA_VERSION, other_schema
from undo_hpc.storage.atomic import fsync_dir, read_json, sha256_file, translate_os_error, write_json


@dataclass(frozen=True)
class Output:
    """What a manifest says of a file: its digest, size in bytes and number of rows (None where it has none)."""

    sha256: str
    bytes: int
    rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The evidence that a task is complete.

    `details["pruned"]` names outputs that `undo-hpc prune` removed: they may be missing where nobody reads them.
    `outputs` are paths relative to the run directory. `inputs` maps a name (a task, a split, the configuration) to the
    digest that was read: where an upstream task was done again with another result, this one is stale.
    """

    stage: str
    iteration: int
    index: int
    inputs: dict[str, str]
    outputs: dict[str, Output]
    counts: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    finished: float = 0.0
    schema_version: int = SCHEMA_VERSION

    @property
    def digest(self) -> str:
        """Digest of what the task produced: the same outputs give the same digest, whenever and wherever made."""
        joined = "\n".join(f"{path} {out.sha256}" for path, out in sorted(self.outputs.items()))
        return hashlib.sha256(joined.encode()).hexdigest()

    @property
    def pruned(self) -> frozenset[str]:
        """Outputs that were removed to save room."""
        return frozenset(self.details.get("pruned", ()))


def describe_output(path: Path, rows: int | None = None) -> Output:
    """The entry for a file that stands on the disk."""
    return Output(sha256_file(path), path.stat().st_size, rows)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest durably; do it after all outputs are durable."""
    data = orjson.loads(
        orjson.dumps(asdict(manifest) | {"digest": manifest.digest}, option=orjson.OPT_NON_STR_KEYS)
    )
    data["details"]["seal"] = seal_of(
        data
    )  # among the details, where a version that knows of no seal lets it be
    write_json(path, data)


def seal_of(data: dict[str, Any]) -> str:
    """A checksum of JSON values in their order, two microseconds for a manifest: a flipped bit in a count would be believed otherwise."""
    return f"{zlib.crc32(orjson.dumps(data)):08x}"


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """JSON values with their checksum, for a file that nothing else validates."""
    return data | {"seal": seal_of(data)}


def unseal(data: dict[str, Any]) -> None:
    """Takes the checksum out of what `sealed` made; what has none is of an earlier version. Raises ValueError where a value has changed."""
    seal = data.pop("seal", None)
    if seal is not None and seal != seal_of(data):
        raise ValueError("its values have changed since it was written")


def withdraw_manifest(path: Path) -> None:
    """Removes a manifest durably, before its outputs are made again: it must never stand for files that are not its own."""
    with translate_os_error(path), contextlib.suppress(FileNotFoundError):
        path.unlink()
        fsync_dir(path.parent)


class DamagedManifest(EvidenceError):
    """A manifest that cannot be read: it is worth as much as none."""


def read_manifest(path: Path) -> Manifest | None:
    """The manifest, or None where there is none. Raises EvidenceError for one of another schema, DamagedManifest for a torn one."""
    if not path.exists():
        return None
    try:
        data = read_json(path)
        version = data.get("schema_version")
        if version != SCHEMA_VERSION and isinstance(version, int):
            message, hint = other_schema(version)
            raise EvidenceError(f"{path}: {message}", hint=hint)
        return manifest_from(data)
    except (StorageError, TypeError, KeyError, AttributeError) as error:
        why = (
            error.message
            if isinstance(error, StorageError)
            else f"{path} does not hold what a manifest holds ({error})"
        )
        raise DamagedManifest(
            why, hint="run the launcher again: a damaged manifest counts as none, and its task is done again"
        ) from error


def manifest_from(data: dict[str, Any]) -> Manifest:
    """A manifest from its JSON, which is used up. Raises KeyError, TypeError or AttributeError where it is none.

    A look at a run makes ten thousand of them: the fields are set at once, not one by one as a frozen class does.
    """
    details = data.get("details")
    seal = details.pop("seal", None) if isinstance(details, dict) else None
    intact = seal is None or seal == seal_of(data)
    data.pop("digest", None)
    outputs: dict[str, Output] = {}
    for name, out in data["outputs"].items():
        if name.startswith("/") or ".." in name or "\0" in name:
            _require_inside(name)
        outputs[name] = output = Output(**out)
        if not isinstance(output.bytes, int):
            raise TypeError("a number has another type")
    data["outputs"] = outputs
    for key in _REQUIRED:
        if key not in data:
            raise KeyError(key)
    if not _FIELDS.issuperset(data):
        raise TypeError(f"it has unknown fields: {', '.join(sorted(data.keys() - _FIELDS))}")
    times = data.get("started", 0.0), data.get("finished", 0.0)
    if not (
        isinstance(data["iteration"], int)
        and isinstance(data["index"], int)
        and all(isinstance(t, int | float) for t in times)
    ):
        raise TypeError("a number has another type")
    for key in _SECTIONS:
        if not isinstance(data.setdefault(key, {}), dict):
            raise TypeError("a section has another type")
    if seal is None and not all(map(_is_count, data["counts"].values())):
        raise TypeError("a count has another type")
    if not intact:
        raise TypeError("its values have changed since it was written")
    manifest = object.__new__(Manifest)
    manifest.__dict__.update(data)
    return manifest


def _is_count(value: Any) -> bool:
    """A number, or numbers by name."""
    if isinstance(value, dict):
        return all(map(_is_count, value.values()))
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


_FIELDS = frozenset(field.name for field in fields(Manifest))
_REQUIRED = ("stage", "iteration", "index", "inputs", "outputs")
_SECTIONS = ("inputs", "counts", "details", "policy")


def _require_inside(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise TypeError(f"it names {name!r}, which is outside of the run")


def verify_outputs(run_dir: Path, manifest: Manifest, *, deep: bool, pruned: bool = False) -> str:
    """What is wrong with the outputs, or an empty text.

    Args:
        deep: True compares digests (what a stage does with its inputs), False only presence and size (what a look does).
        pruned: outputs that were pruned may be missing: nobody is about to read them.
    """
    for name, out in manifest.outputs.items():
        path = run_dir / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if name not in manifest.pruned:
                return f"{name} is missing"
            if pruned:
                continue
            return f"{name} was pruned"
        if size != out.bytes:
            return f"{name} has {size} bytes, its manifest says {out.bytes}"
        if deep and not path.resolve().is_relative_to(run_dir.resolve()):
            return f"{name} is a link that leads out of the run"
        if deep and sha256_file(path) != out.sha256:
            return f"{name} has changed since its manifest was written"
    return ""
