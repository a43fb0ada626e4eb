"""The run directory: whether a run may be made or resumed there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.budget import check_budget
from undo_hpc.control.position import read_state
from undo_hpc.control.run_cluster import require_unqueued, require_usable_path
from undo_hpc.errors import ConfigError, Incomplete
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.run import Run, changed_keys, open_run, require_free, require_trusted_run
from undo_hpc.stages.prepare import check_models, prepared_digest
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.storage.manifest import DamagedManifest, Manifest, read_manifest
from undo_hpc.system.invocation import resume_hint
from undo_hpc.system.ownership import others_who_write


def check_run_dir(config: RunConfig, run_dir: Path) -> list[str]:
    """The directory is new, empty, or holds this run with the same results-relevant keys. Returns a sentence for each group, or everybody,
    that can change it beside us."""
    layout = Layout(run_dir.resolve())
    require_trusted_run(run_dir)
    if config.cluster.kind == "slurm":
        require_usable_path(layout)
    if layout.config.exists():
        changed_keys(open_run(run_dir), config)
    else:
        require_free(layout)
        _require_place(run_dir)
    places = (layout.root, *map(Path, config.plugins))
    return [sentence for place in places for sentence in others_who_write(place)]


def _require_place(run_dir: Path) -> None:
    """A new run can be made there: the nearest folder above it exists and may be written. Raises ConfigError."""
    if run_dir.is_symlink() and not run_dir.exists():
        raise ConfigError(
            f"{run_dir} is a link to nowhere", hint="remove the link, or choose another --run-dir"
        )
    above = run_dir.resolve()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = f"cannot write {above}" if above.is_dir() else f"{above} is a file"
        raise ConfigError(
            f"no run can be made in {run_dir}: {why}", hint="choose a writable place with --run-dir"
        )


def check_iterations(config: RunConfig, run_dir: Path) -> None:
    """What is done cannot be undone by a smaller number. Raises ConfigError."""
    layout = Layout(run_dir.resolve())
    done = sum(layout.iteration(number).metrics.exists() for number in layout.iterations())
    if effective_iterations(config) < done:
        raise ConfigError(
            f"iterations is {config.iterations}, and {done} iterations of this run are done",
            hint=f"leave it, or set iterations above {done} to continue",
        )


def check_recorded_models(config: RunConfig, run_dir: Path) -> None:
    """Local models are still those that the run began with."""
    run = open_run(run_dir)
    prepared = _prepared(run)
    if prepared is not None:
        check_models(Run(run.layout, config), prepared)


def check_frozen_problems(run_dir: Path) -> None:
    """The problems that the run froze are as they were: every later stage asks for them. Raises EvidenceError."""
    run = open_run(run_dir)
    if _prepared(run) is not None:
        prepared_digest(run)


def _prepared(run: Run) -> Manifest | None:
    """The manifest of the frozen problems; nothing where it is damaged: `prepare` freezes them again."""
    try:
        return read_manifest(run.layout.prepared)
    except DamagedManifest:
        return None


def check_source_files(run_dir: Path) -> list[str]:
    """Whether the files that the problems came from are as they were when the run began; returns a sentence for each that is not.

    That is no reason to refuse: the run works on its own copy. Files that are gone are no change; tasks never read them.
    """
    run = open_run(run_dir)
    prepared = _prepared(run)
    details = prepared.details if prepared else {}
    sources = {"data.train": details.get("train_source", {})}
    sources |= {name: each.get("source", {}) for name, each in details.get("benchmarks", {}).items()}
    found = []
    for name, source in sources.items():
        if changed := _changed_files(source):
            found.append(
                f"{name}: {', '.join(changed[:3])}{f' and {len(changed) - 3} more' if len(changed) > 3 else ''} changed since this run "
                f"began; it continues with the problems that it read then (in {run.layout.splits.parent}). To use the file as it "
                "is now, start a new run (another --run-dir)"
            )
    return found


def _changed_files(source: dict[str, Any]) -> list[str]:
    """The files of a source that are there with other contents than those recorded."""
    root = Path(str(source.get("path", "")))
    changed = []
    for file in source.get("files", []) if source.get("kind") == "file" else []:
        path = root / file["file"] if root.is_dir() else root.parent / file["file"]
        if path.is_file() and (path.stat().st_size != file["bytes"] or sha256_file(path) != file["sha256"]):
            changed.append(str(path))
    return changed


def check_queue(config: RunConfig, run_dir: Path) -> None:
    """No job of the run is in SLURM's queue while it is resumed on this machine."""
    run = open_run(run_dir)
    if config.cluster.kind == "local" and run.layout.submissions.exists():
        require_unqueued(run)


def check_next_iteration(config: RunConfig, run_dir: Path) -> None:
    """The next iteration fits into the budget; one that has begun is finished whatever it costs."""
    run = Run(open_run(run_dir).layout, config)
    state = read_state(run)
    begun = state is not None and not state.complete and len(state.missing) < len(state.statuses)
    if begun or (state is not None and state.ended):
        return
    if why := check_budget(run):
        raise Incomplete(why, hint=f"{resume_hint(run.layout.root)} --set budget.gpu_hours=N (0 is no limit)")
