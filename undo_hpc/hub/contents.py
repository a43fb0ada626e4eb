"""What a run publishes, as a list of files: the distilled sets and predictions of every iteration, and the chosen student.

Only what a manifest vouches for is published, so a half-written iteration never leaves the machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.data.distilled import parquet_files
from undo_hpc.errors import DataError
from undo_hpc.hub.cards import data_card, student_card
from undo_hpc.observe.summary import all_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.storage.manifest import Manifest, read_manifest, verify_outputs


@dataclass(frozen=True)
class Item:
    """One file of a repository: a local file, or bytes that exist nowhere on disk."""

    path: str
    local: Path | None = None
    data: bytes = b""
    known_sha256: str = ""

    @property
    def sha256(self) -> str:
        """Digest of its bytes; of a file that a manifest vouches for without reading it again."""
        if self.local is None:
            return hashlib.sha256(self.data).hexdigest()
        return self.known_sha256 or sha256_file(self.local)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data) if self.local is None else self.local.stat().st_size

    def git_sha1(self) -> str:
        """The name that git gives to its bytes (as regular files are listed on the Hub)."""
        data = self.data if self.local is None else self.local.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Package:
    """What goes into one repository in one commit."""

    repo: str
    kind: str  # dataset or model
    message: str
    items: list[Item]


def packages(run: Run) -> list[Package]:
    """Everything that is to be published now, oldest iteration first; empty where nothing is complete or asked for."""
    found: list[Package] = []
    hub = run.config.hub
    if hub.dataset_repo:
        found += _data(run, hub.dataset_repo)
    if hub.model_repo:
        found += _student(run, hub.model_repo)
    return found


def merged_iterations(run: Run) -> list[int]:
    """Iterations whose distilled set is complete."""
    return [
        k
        for k in run.layout.iterations()
        if _vouched(run, run.layout.iteration(k).stage_manifest("merge")) is not None
    ]


def _vouched(run: Run, path: Path) -> Manifest | None:
    manifest = read_manifest(path)
    return (
        manifest
        if manifest is not None and not verify_outputs(run.layout.root, manifest, deep=False)
        else None
    )


def _data(run: Run, repo: str) -> list[Package]:
    """A commit for each iteration, so that an interrupted push goes on with the first that is missing."""
    found = []
    merged = merged_iterations(run)
    for count, number in enumerate(merged, start=1):
        at = run.layout.iteration(number)
        manifest = read_manifest(at.stage_manifest("merge"))
        assert manifest is not None, "it was complete a moment ago"
        items = []
        for file in parquet_files(at.distilled):
            output = manifest.outputs.get(run.layout.relative(file))
            if output is None:
                raise DataError(
                    f"{file} is not in its manifest", hint="the file was put there from outside; take it away"
                )
            items.append(Item(f"data/iteration_{number:03d}/{file.name}", file, known_sha256=output.sha256))
        advanced = _vouched(run, at.stage_manifest("advance"))
        if advanced is not None and run.layout.relative(at.predictions) in advanced.outputs:
            out = advanced.outputs[run.layout.relative(at.predictions)]
            items.append(
                Item(f"predictions/iteration_{number:03d}.parquet", at.predictions, known_sha256=out.sha256)
            )
        if advanced is not None:
            items.append(Item(f"metrics/iteration_{number:03d}.json", at.metrics))
        if at.chat.exists():
            items.append(Item(f"chat/iteration_{number:03d}.jsonl", at.chat))
        if count == len(merged):
            items.append(Item("README.md", data=data_card(run, merged).encode()))
        found.append(Package(repo, "dataset", f"Distilled set of iteration {number}", items))
    return found


def _student(run: Run, repo: str) -> list[Package]:
    """The student that validation chose so far."""
    metrics = all_metrics(run)
    if not metrics:
        return []
    best = int(metrics[-1]["decision"]["best_iteration"])
    at = run.layout.iteration(best)
    manifest = _vouched(run, at.stage_manifest("train"))
    if manifest is None:
        return []
    student = f"{run.layout.relative(at.student)}/"
    items = [
        Item(name.removeprefix(student), run.layout.root / name, known_sha256=output.sha256)
        for name, output in sorted(manifest.outputs.items())
        if name.startswith(student) and name != f"{student}README.md"
    ]
    items.append(Item("README.md", data=student_card(run, metrics, best).encode()))
    return [Package(repo, "model", f"Student of iteration {best}", items)]
