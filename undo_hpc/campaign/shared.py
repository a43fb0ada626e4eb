"""Work that is the same is done once: iteration 0 of a run is taken over from another whose iteration 0 asked for the same.

Arms differ in what the teacher sees when it refines, so the first rationales, the first student and the untrained one are the same under
the same seed. What is taken over is proven by digests: same configuration as far as iteration 0 reads it, same problems, same models,
outputs that are what their manifests say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import orjson

from undo_hpc.config.load import is_neutral
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.position import RunState, current_state, read_state
from undo_hpc.pipeline.own_prompts import by_content
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, leaves
from undo_hpc.pipeline.stages import LAST_STAGE, STAGES
from undo_hpc.storage.atomic import copy_file, link_file
from undo_hpc.storage.manifest import Manifest, read_manifest, verify_outputs, write_manifest

# What iteration 0 does not read. (`advance` does, and is never taken over.) `method.errors_from` is no such key: it cuts the problems
# into the files of the distilled set. Neither is `condition`, as far as it is `ground_truth`.
UNREAD = ("name", "stop.", "stages.", "method.preset", "method.condition", "method.regenerate", "method.history", "method.show_score",
          "method.hint", "method.examples", "method.show_truth", "method.start_from", "method.combine")  # fmt: skip


# What a stage does not read beyond that: rationales are written and merged before anything is trained, and the untrained student has
# learned nothing.
_ALSO_UNREAD = {
    "generate": ("train.",),
    "merge": ("train.",),
    "baseline": ("train.", "generate.", "teacher."),
}


def first_work(config: RunConfig, stage: str = "train") -> str:
    """Digest of all that a stage of iteration 0, and those before it, read of a configuration; of `advance` there is none."""
    unread = UNREAD + _ALSO_UNREAD.get(stage, ())
    if (
        config.method.signal != "soft" or stage in _ALSO_UNREAD
    ):  # of the signals only soft scores in iteration 0, behind merge
        unread += ("method.signal", "distill.")
    explicit = config.model_dump(mode="json", exclude_defaults=True)
    values = [
        (k, v) for k, v in by_content(leaves(explicit)) if not is_neutral(k) and not k.startswith(unread)
    ]
    teacher = "data" if config.method.condition == "ground_truth" and stage != "baseline" else "model"
    return hashlib.sha256(orjson.dumps([teacher, *values])).hexdigest()


def take_over(run: Run, donors: Sequence[Run]) -> dict[str, int]:
    """Takes over the tasks of iteration 0 that other runs have done; nothing where `run` has begun.

    A stage is taken over whole, from the first donor that has all of it.

    Returns:
        run id of a donor -> number of its tasks.

    Raises:
        StorageError: a file cannot be written; what was taken over until then is complete and stays.
    """
    found: dict[str, int] = {}
    if run.plan(0) is not None:
        return found
    taken: set[str] = set()
    for donor in sorted(donors, key=lambda other: first_work(other.config) != first_work(run.config)):
        stages = [name for name in STAGES if name not in taken and _same_work(run, donor, name)]
        if stages and (state := _first_iteration(donor, stages)):
            found[donor.id] = _take(run, donor, state)
            taken |= {stage for (stage, _), _ in state}
            run.events.append("taken_over", iteration=0, tasks=found[donor.id], run_id=donor.id)
    if found:
        # plans the iteration: the targets are made from the same problems, and must have the same digests
        current_state(run)
    return found


def awaited(config: RunConfig, others: Sequence[Run]) -> Run | None:
    """The first run under way whose rationales of iteration 0 will be the same: to be taken over, not made twice; None where there is none."""
    mine = first_work(config, "generate")
    for other in others:
        state = read_state(other)
        if first_work(other.config, "generate") == mine and (state is None or not _complete(state)):
            return other
    return None


def _same_work(run: Run, donor: Run, stage: str) -> bool:
    """Whether a stage of iteration 0 would read the same: configuration, problems, models."""
    if stage == LAST_STAGE or first_work(run.config, stage) != first_work(donor.config, stage):
        return False
    roles: tuple[Literal["student", "teacher"], ...] = ("student",)
    if stage != "baseline":
        roles += ("teacher",)
    if not all(run.asks_as(donor, role) for role in roles):
        return False  # a chat template that prints the date, on another day
    mine, theirs = read_manifest(run.layout.prepared), read_manifest(donor.layout.prepared)
    if mine is None or theirs is None or mine.digest != theirs.digest:
        return False
    models = [manifest.details.get("models") or {} for manifest in (mine, theirs)]
    return all(models[0].get(role) == models[1].get(role) for role in roles)


def _take(run: Run, donor: Run, state: list[tuple[tuple[str, str], Manifest]]) -> int:
    at, done = run.layout.iteration(0), 0
    for (stage, _), manifest in state:
        if verify_outputs(donor.layout.root, manifest, deep=True):
            continue
        for name in manifest.outputs:
            link_file(donor.layout.root / name, run.layout.root / name)
        if stage == "train":
            copy_file(donor.layout.iteration(0).train_metrics, at.train_metrics)
    for (_, path), manifest in state:
        if not verify_outputs(run.layout.root, manifest, deep=False):
            inputs = manifest.inputs | {"config": run.config_digest}
            details = manifest.details | {"taken_over_from": donor.id}
            write_manifest(run.layout.root / path, replace(manifest, inputs=inputs, details=details))
            done += 1
    return done


def _first_iteration(donor: Run, stages: Sequence[str]) -> list[tuple[tuple[str, str], Manifest]] | None:
    """(stage, path of the manifest) and manifest of the donor's tasks of these stages; None where its iteration 0 is not complete."""
    plan, state = donor.plan(0), read_state(donor)
    if plan is None or state is None or not _complete(state):
        return None
    found = []
    for stage in build_graph(donor.config, donor.layout, plan):
        for task in stage.tasks:
            if stage.name in stages and task.manifest:
                manifest = read_manifest(donor.layout.root / task.manifest)
                if manifest is not None:
                    found.append(((stage.name, task.manifest), manifest))
    return found


def _complete(state: RunState) -> bool:
    return state.iteration > 0 or state.complete
