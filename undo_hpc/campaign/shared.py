"""Work that is the same is done once: iteration 0 of a run is taken over from another whose iteration 0 asked for the same.

Arms differ in what the teacher sees when it refines, so the first rationales, the first student and the untrained one are the same under
the same seed. What is taken over is proven by digests: same configuration as far as iteration 0 reads it, same problems, same models,
outputs that are what their manifests say.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import orjson

from undo_hpc.config.load import is_neutral
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.position import RunState, current_state, read_state
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.pipeline.stages import LAST_STAGE, STAGES
from undo_hpc.storage.atomic import fsync_dir, make_folder, translate_os_error, write_bytes
from undo_hpc.storage.manifest import Manifest, read_manifest, verify_outputs, write_manifest

# What iteration 0 does not read. (`advance` does, and is never taken over.) `method.errors_from` is no such key: it cuts the problems
# into the files of the distilled set. Neither is `condition`, as far as it is `ground_truth`.
UNREAD = ("name", "stop.", "stages.", "method.preset", "method.condition", "method.regenerate", "method.history", "method.show_score",
          "method.hint", "method.examples", "method.show_truth", "method.start_from", "method.combine")  # fmt: skip


def first_work(config: RunConfig) -> str:
    """Digest of all that iteration 0 reads of a configuration, its last stage excepted."""
    explicit = config.model_dump(mode="json", exclude_defaults=True)
    values = [(k, v) for k, v in leaves(explicit) if not is_neutral(k) and not k.startswith(UNREAD)]
    teacher = "data" if config.method.condition == "ground_truth" else "model"
    return hashlib.sha256(orjson.dumps([teacher, *values])).hexdigest()


def take_over(run: Run, donor: Run) -> int:
    """Takes over the tasks of iteration 0 that the donor has done; returns how many. Nothing where `run` has begun or they differ.

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    if run.plan(0) is not None or first_work(run.config) != first_work(donor.config):
        return 0
    if run.model("teacher") != donor.model("teacher") or run.model("student") != donor.model("student"):
        return 0  # a chat template that prints the date, on another day
    mine, theirs = read_manifest(run.layout.prepared), read_manifest(donor.layout.prepared)
    if mine is None or theirs is None or mine.digest != theirs.digest:
        return 0
    if mine.details.get("models") != theirs.details.get("models"):
        return 0
    state = _first_iteration(donor)
    if state is None:
        return 0
    at, done = run.layout.iteration(0), 0
    for (stage, _), manifest in state:
        if verify_outputs(donor.layout.root, manifest, deep=True):
            continue
        for name in manifest.outputs:
            _link(donor.layout.root / name, run.layout.root / name)
        if stage == "train":
            _copy(donor.layout.iteration(0).train_metrics, at.train_metrics)
    for (_, path), manifest in state:
        if not verify_outputs(run.layout.root, manifest, deep=False):
            inputs = manifest.inputs | {"config": run.config_digest}
            details = manifest.details | {"taken_over_from": donor.id}
            write_manifest(run.layout.root / path, replace(manifest, inputs=inputs, details=details))
            done += 1
    run.events.append("taken_over", iteration=0, tasks=done, run_id=donor.id)
    current_state(
        run
    )  # plans the iteration: the targets are made from the same problems, and must have the same digests
    return done


def _first_iteration(donor: Run) -> list[tuple[tuple[str, str], Manifest]] | None:
    """(stage, path of the manifest) and manifest of the donor's complete tasks of iteration 0; None where it is not complete."""
    plan, state = donor.plan(0), read_state(donor)
    if plan is None or state is None or not _complete(state):
        return None
    found = []
    for stage in build_graph(donor.config, donor.layout, plan):
        for task in stage.tasks:
            if stage.name in STAGES and stage.name != LAST_STAGE and task.manifest:
                manifest = read_manifest(donor.layout.root / task.manifest)
                if manifest is not None:
                    found.append(((stage.name, task.manifest), manifest))
    return found


def _complete(state: RunState) -> bool:
    return state.iteration > 0 or state.complete


def _link(source: Path, target: Path) -> None:
    """A second name of the same file, or a copy on another file system. Published files are never written in place."""
    with translate_os_error(target):
        make_folder(target.parent)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
            fsync_dir(target.parent)
        except OSError:
            _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        with source.open("rb") as file:
            write_bytes(target, iter(lambda: file.read(1 << 20), b""))
