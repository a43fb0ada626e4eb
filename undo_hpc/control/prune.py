"""Room on the disk: what students and checkpoints take, and removing those that nobody needs.

A pruned student stays in the evidence: its manifest names the files that are gone, so that nothing is trained again by itself, and
whoever needs them is told the command that makes them again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from undo_hpc.control.live import leased, query_live
from undo_hpc.control.position import read_state
from undo_hpc.errors import ConfigError, Incomplete, StorageError
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run, require_trusted_run
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.storage.manifest import DamagedManifest, Manifest, read_manifest, write_manifest

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class Usage:
    """Bytes of an iteration's student and of what its training keeps; `pruned`: the student's weights are gone."""

    iteration: int
    student: int = 0
    checkpoints: int = 0
    pruned: bool = False


@dataclass
class Pruning:
    """What is removed, or would be.

    Attributes:
        kept, removed: iterations whose student stays, and whose student goes.
        at_work: iterations of which nothing is removed, for they are not finished.
        files: to be removed, with their bytes.
    """

    kept: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    at_work: list[int] = field(default_factory=list)
    files: dict[Path, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What removing them frees (a file with a second name in another run frees nothing yet)."""
        return sum(self.files.values())


def usage(run: Run) -> list[Usage]:
    """What each iteration's student and checkpoints take. Looks at these two folders only: they are nearly all of a run."""
    found = []
    for number in run.layout.iterations():
        at = run.layout.iteration(number)
        manifest = _trained(run, number)
        checkpoints = sum(map(_size, [*_files(at.checkpoints), *at.train_caches()]))
        student = sum(map(_size, _files(at.student)))
        gone = manifest is not None and any(not (run.layout.root / name).exists() for name in manifest.pruned)
        if student or checkpoints or gone:
            found.append(Usage(number, student, checkpoints, gone))
    return found


def prune(run: Run, keep: Iterable[str], *, apply: bool) -> Pruning:
    """Removes the weights of all students of finished iterations but some, and the checkpoints and scores of all finished trainings.

    Args:
        keep: "best", "last" or numbers of iterations whose students stay; "all" removes checkpoints only.
        apply: False looks only.

    Raises:
        ConfigError: `keep` names an iteration that there is not, or none; or others could have written what is to be removed.
        StorageError: a folder of the run is a link that leads out of it: nothing is removed.
        Incomplete: a student is needed by what is at work, or comes next.
    """
    if apply:
        require_trusted_run(run.layout.root)
    finished, needed = _finished(run), _needed(run)
    kept = _numbers(run, keep, finished)
    at_work = [k for k in run.layout.iterations() if k not in finished]
    found = Pruning(kept=sorted(kept & set(finished)), at_work=at_work)
    manifests: list[tuple[Path, Manifest]] = []
    for number in finished:
        at = run.layout.iteration(number)
        for path in (*_files(at.checkpoints), *at.train_caches()):
            found.files[path] = _size(path)
        for path, scored in _scored(run, number):
            there = [
                p for name in scored.outputs if (p := run.layout.root / name).suffix == ".bin" and p.exists()
            ]
            found.files |= {binary: _size(binary) for binary in there}
            manifests += [(path, scored)] if there else []
        manifest = _trained(run, number)
        if number in kept or manifest is None:
            continue
        weights = [run.layout.root / name for name in manifest.outputs if name.endswith(WEIGHTS)]
        there = [path for path in weights if path.exists()]
        if there and number in needed:
            raise Incomplete(
                f"the student of iteration {number} is needed: {needed[number]}",
                hint=f"keep it too (--keep {','.join([*map(str, keep), str(number)])}), or wait until the run has ended",
            )
        if there:
            found.removed.append(number)
            found.files |= {path: _size(path) for path in there}
            manifests.append((at.stage_manifest("train"), manifest))
    for folder in dict.fromkeys(path.parent for path in found.files):
        if not folder.resolve().is_relative_to(run.layout.root):
            raise StorageError(
                f"{folder} leads out of the run, to {folder.resolve()}; nothing was removed",
                hint="put the folder itself there, or remove what lies behind the link by hand",
            )
    if apply:
        _remove(run, found, manifests, finished)
    return found


def _remove(
    run: Run, found: Pruning, manifests: Iterable[tuple[Path, Manifest]], finished: list[int]
) -> None:
    """Manifests first: where this is interrupted they speak of files that are still there, which is no damage."""
    for path, manifest in manifests:
        gone = sorted(manifest.pruned | {n for n in manifest.outputs if run.layout.root / n in found.files})
        details = manifest.details | {"pruned": gone}
        write_manifest(path, replace(manifest, details=details))
    for path in found.files:
        with translate_os_error(path):
            path.unlink(missing_ok=True)
    for number in finished:
        shutil.rmtree(run.layout.iteration(number).checkpoints, ignore_errors=True)
    if found.files:
        run.events.append("pruned", iterations=found.removed, files=len(found.files), bytes=found.bytes)


def _finished(run: Run) -> list[int]:
    """Iterations that need nothing more: those before the latest planned one, and that one where it is complete and nobody works on it."""
    state = read_state(run)
    if state is None:
        return []
    live = query_live(run, state.iteration)
    last = state.complete and not live.tasks and not live.launcher and not live.jobs
    return [k for k in run.layout.iterations() if k < state.iteration + last and not leased(run, k)]


def _needed(run: Run) -> dict[int, str]:
    """Students that a task at work, or the next one, reads, and why."""
    state = read_state(run)
    if state is None or run.config.method.start_from != "previous" or state.ended:
        return {}
    if state.complete:
        return {state.iteration: f"training of iteration {state.iteration + 1} starts from it"}
    if any(status.stage == "train" for status in state.missing) and state.iteration:
        return {state.iteration - 1: f"training of iteration {state.iteration} starts from it"}
    return {}


def _numbers(run: Run, keep: Iterable[str], finished: list[int]) -> set[int]:
    found: set[int] = set()
    for word in keep:
        if word == "all":
            found |= set(finished)
        elif word == "last":
            found |= {max(finished)} if finished else set()
        elif word == "best":
            if finished:
                found.add(int(read_metrics(run, finished[-1])["decision"]["best_iteration"]))
        elif word.isdigit() and int(word) in run.layout.iterations():
            found.add(int(word))
        else:
            there = ", ".join(map(str, run.layout.iterations())) or "none yet"
            raise ConfigError(
                f"--keep: there is no '{word}'",
                hint=f"best, last, all, or numbers of iterations ({there}), with commas between them",
            )
    return found


def _trained(run: Run, number: int) -> Manifest | None:
    try:
        return read_manifest(run.layout.iteration(number).stage_manifest("train"))
    except DamagedManifest:
        return None


def _scored(run: Run, number: int) -> Iterator[tuple[Path, Manifest]]:
    """The manifests of an iteration's scores, each with its path."""
    plan, at = run.plan(number), run.layout.iteration(number)
    for index in range(plan.score if plan else 0):
        path = at.manifest_of(at.shard("score", index))
        with contextlib.suppress(DamagedManifest):
            if (manifest := read_manifest(path)) is not None:
                yield path, manifest


def _files(folder: Path) -> list[Path]:
    return [Path(root) / name for root, _, names in os.walk(folder) for name in names]


def _size(path: Path) -> int:
    """Bytes on the disk; none where a part is gone meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
