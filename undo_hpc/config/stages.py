"""PURE: THE table of stages. What a stage is stands here and nowhere else; configuration, profile, plan, cluster, cost and worker derive from it.

A user's own stage is registered in the configuration (`stages: {count: {module: my_pkg.count, after: [merge]}}`); `spec_of` gives it the
plain values of a `StageSpec`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One kind of stage.

    Attributes:
        name: as it stands in configuration, profile, job names and paths.
        module: where its `run_stage(ctx)` is.
        after: the stages whose evidence its tasks need.
        array: an array of tasks; else one task.
        gpu: it runs a model; the other stages do not get the GPU that stands among a profile's defaults.
        keeps_rows: its rows are durable one group after another, so that a failed start loses little.
        graded: its rows are answers whose verdicts `regrade` renews.
        resubmits: it runs whatever became of the tasks before it, and submits what is missing.
        generation: its device hours count as the teacher's generation.
        cooperates: its processes work together on one task; of any other stage each would do the whole task.
        spans: a task may be spread over several nodes, one process a node: the teacher may be too large for one (vLLM).
        max_arrays: into how many arrays it may be cut where a cluster limits the size of one.
        resources_of: the stage whose resources it takes where nothing is said of its own; empty for none.
        policy: whether less than all of its tasks may be enough for the next stage.
    """

    name: str
    module: str
    after: tuple[str, ...] = ()
    array: bool = False
    gpu: bool = False
    keeps_rows: bool = False
    graded: bool = False
    resubmits: bool = False
    generation: bool = False
    cooperates: bool = False
    spans: bool = False
    max_arrays: int = 1
    resources_of: str = ""
    policy: bool = False


# Merge and advance must run whatever became of the tasks before them: they see what is missing and submit it again.
# The others are of no use without their input. `afterok` spares them a start, and --kill-on-invalid-dep lets a chain
# whose link has failed collapse at once down to advance, instead of waiting for ever (DependencyNeverSatisfied).
# Measured on 22.05: the last job of such a chain starts a second after the failure. Either way every stage checks its
# inputs itself: SLURM lets an `afterok` on a job that it has forgotten run at once.
STAGES: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        StageSpec("canary", "undo_hpc.stages.canary", gpu=True, keeps_rows=True, generation=True, spans=True,
                  resources_of="generate"),
        StageSpec("release", "undo_hpc.stages.release", after=("canary",), resubmits=True, resources_of="merge"),
        StageSpec("serve", "undo_hpc.stages.serve", array=True, gpu=True, generation=True, spans=True),
        StageSpec("generate", "undo_hpc.stages.generate", array=True, gpu=True, keeps_rows=True, graded=True, generation=True,
                  spans=True, max_arrays=2, policy=True),
        StageSpec("baseline", "undo_hpc.stages.evaluate", array=True, gpu=True, keeps_rows=True, graded=True,
                  resources_of="evaluate"),
        StageSpec("likelihood", "undo_hpc.stages.likelihood", after=("generate",), array=True, gpu=True, keeps_rows=True,
                  resources_of="evaluate"),
        StageSpec("merge", "undo_hpc.stages.merge", after=("generate", "likelihood"), resubmits=True),
        StageSpec("sample", "undo_hpc.stages.sample", array=True, gpu=True, keeps_rows=True, resources_of="evaluate"),
        StageSpec("score", "undo_hpc.stages.score", after=("merge", "sample"), array=True, gpu=True, keeps_rows=True,
                  spans=True, resources_of="generate"),
        StageSpec("train", "undo_hpc.stages.train", after=("merge", "score"), gpu=True, cooperates=True),
        StageSpec("evaluate", "undo_hpc.stages.evaluate", after=("train",), array=True, gpu=True, keeps_rows=True, graded=True,
                  policy=True),
        StageSpec("advance", "undo_hpc.stages.advance", after=("evaluate", "baseline"), resubmits=True),
    )
}  # fmt: skip
ROW_STAGES = tuple(spec.name for spec in STAGES.values() if spec.keeps_rows)
RESUBMITTING_STAGES = tuple(spec.name for spec in STAGES.values() if spec.resubmits)
TEXT_STAGES = tuple(
    spec.name for spec in STAGES.values() if spec.graded or spec.name in ("canary", "merge")
)  # those to look at
LAST_STAGE = "advance"  # closes an iteration and begins the next one
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")  # part of job names and paths
# Names in an iteration's folder that no stage of a user may take.
RESERVED = frozenset({*STAGES, "targets", "distilled", "student", "logs", "events", "progress", "leases", "plan", "metrics",
                      "feedback", "predictions", "chat", "lm_eval", "inputs", "key", "README", "checkpoints", "defaults"})  # fmt: skip


def spec_of(name: str) -> StageSpec:
    """The spec of a stage; one that is not in the table is a user's: it has no GPU unless its resources say so."""
    return STAGES.get(name) or StageSpec(name, "")


def followers(name: str) -> tuple[str, ...]:
    """The stages of the table that rest on a stage, directly or not, in the order of the table."""
    found = [name]
    for spec in STAGES.values():
        if any(before in found for before in spec.after):
            found.append(spec.name)
    return tuple(found[1:])
