"""What a run publishes, as a list of files: the distilled sets and predictions of every iteration, and the chosen student.

Only what a manifest lists is published, so a half-written iteration never leaves the machine; and only with the bytes that the manifest
says, so a damaged file does not, either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.control.finished import all_metrics, left_out, require_current
from undo_hpc.errors import DataError, EvidenceError
from undo_hpc.hub.cards import data_card, student_card
from undo_hpc.observe.exports import chat_bytes
from undo_hpc.pipeline.layout import distilled_files
from undo_hpc.pipeline.run import Run
from undo_hpc.stages.context import Pruned
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.storage.manifest import Manifest, read_manifest
from undo_hpc.system.invocation import resume_hint


@dataclass(frozen=True)
class Item:
    """One file of a repository: a local file, or bytes that exist nowhere on disk."""

    path: str
    local: Path | None = None
    data: bytes = b""
    known_sha256: str = ""

    @property
    def sha256(self) -> str:
        """Digest of its bytes; of a file in a manifest the digest that stands there (`packages` has compared it)."""
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
    """Everything that is to be published now, oldest iteration first; empty where nothing is complete or asked for.

    Every file is read, and its digest compared with its manifest's.

    Raises:
        DataError: a file lies among the distilled set that no manifest lists.
        EvidenceError: a file is missing or is not what its manifest says, or results are out of date (`control.finished.left_out`).
    """
    found: list[Package] = []
    hub = run.config.hub
    if hub.dataset_repo:
        found += _data(run, hub.dataset_repo)
    if hub.model_repo:
        found += _student(run, hub.model_repo)
    if ends := left_out(run):
        raise EvidenceError(
            f"the results from iteration {ends[0]} on do not hold ({ends[1]}); nothing was published",
            hint=f"run {resume_hint(run.layout.root)}, which makes them again, then push",
        )
    for number in merged_iterations(run) if hub.dataset_repo else ():  # the last may have no figures yet
        require_current(run, number)
    return found


def merged_iterations(run: Run) -> list[int]:
    """Iterations whose distilled set is complete."""
    return [k for k in run.layout.iterations() if run.layout.iteration(k).stage_manifest("merge").exists()]


def _item(run: Run, manifest: Manifest, name: str, file: Path) -> Item:
    """A file with the digest of its manifest, which is compared. Raises DataError, EvidenceError as `packages`."""
    output = manifest.outputs.get(run.layout.relative(file))
    if output is None:
        raise DataError(
            f"{file} is not in its manifest", hint="the file was put there from outside; move it away"
        )
    try:
        if not file.resolve().is_relative_to(run.layout.root.resolve()):
            raise EvidenceError(
                f"{file} is a link that leads out of the run; nothing was published",
                hint=f"put the file itself there; or {_remade(run)}",
            )
        same = file.stat().st_size == output.bytes and sha256_file(file) == output.sha256
        why = "" if same else "its digest is not the one in its manifest"
    except OSError as error:
        if run.layout.relative(file) in manifest.pruned:
            raise Pruned(run, manifest, f"{file} was pruned") from error
        why = error.strerror or "it cannot be read"
    if why:
        raise EvidenceError(
            f"{file} is not what was made ({why}); nothing was published",
            hint=f"put the file back from a copy; or {_remade(run)}",
        )
    return Item(name, file, known_sha256=output.sha256)


def _remade(run: Run) -> str:
    return f"run {resume_hint(run.layout.root)}, which makes it again or tells what to move away for that"


def _metrics(run: Run, number: int) -> list[Item]:
    at = run.layout.iteration(number)
    manifest = read_manifest(at.stage_manifest("advance"))
    return (
        [] if manifest is None else [_item(run, manifest, f"metrics/iteration_{number:03d}.json", at.metrics)]
    )


def _data(run: Run, repo: str) -> list[Package]:
    """A commit for each iteration, so that an interrupted push continues with the first that is missing."""
    found = []
    merged = merged_iterations(run)
    for count, number in enumerate(merged, start=1):
        at = run.layout.iteration(number)
        manifest = read_manifest(at.stage_manifest("merge"))
        assert manifest is not None, "it was there a moment ago"
        there = {run.layout.relative(file) for file in distilled_files(at.distilled)}
        listed = {name for name in manifest.outputs if name.endswith(".parquet")}
        files = [run.layout.root / name for name in sorted(there | listed)]
        items = [_item(run, manifest, f"data/iteration_{number:03d}/{file.name}", file) for file in files]
        advanced = read_manifest(at.stage_manifest("advance"))
        if advanced is not None:
            if run.layout.relative(at.predictions) in advanced.outputs:
                items.append(
                    _item(run, advanced, f"predictions/iteration_{number:03d}.parquet", at.predictions)
                )
            items += _metrics(run, number)
        if at.chat.exists():  # no manifest lists it, so it is made from the rows again
            items.append(Item(f"chat/iteration_{number:03d}.jsonl", data=chat_bytes(run, number)))
        if count == len(merged):
            items.append(Item("README.md", data=data_card(run, merged).encode()))
        found.append(Package(repo, "dataset", f"Distilled set of iteration {number}", items))
    return found


def _student(run: Run, repo: str) -> list[Package]:
    """The student that validation chose so far."""
    for number in run.layout.iterations():  # the card tells their figures
        _metrics(run, number)
    metrics = all_metrics(run)
    if not metrics:
        return []
    best = int(metrics[-1]["decision"]["best_iteration"])
    at = run.layout.iteration(best)
    manifest = read_manifest(at.stage_manifest("train"))
    if manifest is None:
        return []
    student = f"{run.layout.relative(at.student)}/"
    items = [
        _item(run, manifest, name.removeprefix(student), run.layout.root / name)
        for name in sorted(manifest.outputs)
        if name.startswith(student) and name != f"{student}README.md"
    ]
    items.append(Item("README.md", data=student_card(run, metrics, best).encode()))
    return [Package(repo, "model", f"Student of iteration {best}", items)]
