"""What every stage is given, and the gate that every stage passes: its inputs' evidence."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from undo_hpc.errors import EvidenceError, Requeue
from undo_hpc.pipeline.evidence import is_of
from undo_hpc.pipeline.layout import IterationLayout
from undo_hpc.pipeline.plan import IterationPlan, Stage, StageName, Task, build_graph
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import combined_digest, enough
from undo_hpc.stages.prepare import check_models
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import (
    Manifest,
    Output,
    describe_output,
    read_manifest,
    verify_outputs,
    write_manifest,
)
from undo_hpc.storage.progress import ProgressFile
from undo_hpc.system.invocation import task_hint

log = logging.getLogger(__name__)

# A file written on another node may show late over NFS (attribute caches): wait this long for evidence to appear.
VISIBILITY_WAIT_S = 60.0
DIGEST_THREADS = 4


@dataclass
class StageContext:
    """A task at work.

    Attributes:
        should_stop: True once the task was asked to save and stop (a signal, or its time limit is near).
        time_left_s: seconds until the time limit, or None where there is none.
    """

    run: Run
    plan: IterationPlan
    stage: Stage
    task: Task
    events: EventLog
    progress: ProgressFile
    lease: Lease
    should_stop: Callable[[], bool]
    time_left_s: Callable[[], float | None]
    visibility_wait_s: float = 0.0
    started: float = field(default_factory=time.time)
    used: dict[str, list[int]] = field(default_factory=dict)  # of stages that a policy let be incomplete

    @property
    def at(self) -> IterationLayout:
        """Paths of the iteration."""
        return self.run.layout.iteration(self.plan.iteration)

    @cached_property
    def graph(self) -> dict[str, Stage]:
        """The iteration's stages by name."""
        return {s.name: s for s in build_graph(self.run.config, self.run.layout, self.plan)}

    def say(self, text: str) -> None:
        """A line in the task's log."""
        log.info(text)

    def before_loading(self, *roles: str) -> None:
        """Says that a model is being loaded.

        Args:
            roles: teacher or student: whose model it is, which lies outside of the run.

        Raises:
            DataError: it is not the model that the run began with: a job may start days after a launcher looked.
            Requeue: the task was asked to stop: a large model may take longer to load than there is time.
        """
        if prepared := read_manifest(self.run.layout.prepared):
            check_models(self.run, prepared, roles)
        if self.should_stop():
            raise Requeue(f"{self.stage.name} {self.task.label}: asked to stop before the model was loaded")
        self.progress.update(force=True, doing="loading the model")

    def publish(
        self, outputs: dict[Path, int | None], known: dict[Path, Output] | None = None, **parts: Any
    ) -> Manifest:
        """Writes the task's manifest, last of all; asks the lease first, so that a zombie publishes nothing.

        Args:
            outputs: path -> number of rows.
            known: outputs whose digest is known already, from when they were written.
            parts: inputs, counts, details, policy of the manifest.
        """
        self.lease.check()
        layout = self.run.layout
        used = {f"{stage}_used": indices for stage, indices in self.used.items()}
        parts["details"] = used | parts.get("details", {})
        manifest = Manifest(
            stage=self.stage.name,
            iteration=self.plan.iteration,
            index=self.task.index,
            inputs={"config": self.run.config_digest} | parts.pop("inputs", {}),
            outputs={layout.relative(path): describe_output(path, rows) for path, rows in outputs.items()}
            | {layout.relative(path): output for path, output in (known or {}).items()},
            started=self.started,
            finished=time.time(),
            **parts,
        )
        write_manifest(layout.root / self.task.manifest, manifest)
        return manifest


class Pruned(EvidenceError):
    """An input was removed to save room, and is needed again. The message says how to make it again."""

    def __init__(self, run: Run, manifest: Manifest, problem: str) -> None:
        slurm, stage, last = run.config.cluster.kind == "slurm", manifest.stage, manifest.iteration
        first = last
        while stage == "train" and _pruned_parent(run, first):
            first -= 1  # the oldest first: each training begins with the student before
        commands = (task_hint(run.layout.root, stage, k, slurm=slurm) for k in range(first, last + 1))
        again = "; then ".join(commands)
        super().__init__(
            f"{manifest.stage} of iteration {manifest.iteration}: {problem}, and it is needed",
            hint=f"make it again: {again}; then the same command again",
            blocked=True,
        )


def _pruned_parent(run: Run, iteration: int) -> Manifest | None:
    """The manifest of the student that a training begins with, where that was pruned and is not there again."""
    if not iteration or run.config.method.start_from != "previous":
        return None
    with contextlib.suppress(EvidenceError):  # damaged: the training says so
        manifest = read_manifest(run.layout.iteration(iteration - 1).stage_manifest("train"))
        if manifest and manifest.pruned and verify_outputs(run.layout.root, manifest, deep=False):
            return manifest
    return None


def require_parent(ctx: StageContext) -> None:
    """Before a training's manifest is withdrawn, its record of what was pruned with it: raises Pruned where the training could not begin."""
    if ctx.stage.name == "train" and (manifest := _pruned_parent(ctx.run, ctx.plan.iteration)):
        raise Pruned(ctx.run, manifest, verify_outputs(ctx.run.layout.root, manifest, deep=False))


def read_evidence(run: Run, iteration: int, task: Task, *, deep: bool, wait_s: float = 0.0) -> Manifest:
    """The manifest of a task of an iteration, its outputs verified.

    Raises:
        EvidenceError: it is missing (after the wait), or its outputs do not match it.
    """
    path = run.layout.root / task.manifest
    deadline = time.monotonic() + wait_s
    announced = False
    while True:
        manifest = read_manifest(path)
        problem = (
            f"{task.manifest} is missing"
            if manifest is None
            else f"{task.manifest} is the manifest of another task"
            if not is_of(manifest, task, iteration)
            else verify_outputs(run.layout.root, manifest, deep=deep)
        )
        if manifest is not None and not problem:
            return manifest
        if time.monotonic() >= deadline:
            if manifest is not None and manifest.pruned:
                raise Pruned(run, manifest, problem)
            raise EvidenceError(
                f"{task.stage} {task.label}: {problem}",
                hint="run the launcher again; it submits what is missing",
            )
        if not announced:
            log.info("waiting up to %.0f s for another node's file to show: %s", wait_s, problem)
            announced = True
        if path.parent.is_dir():
            list(path.parent.iterdir())  # refreshes an NFS directory cache
        time.sleep(0.5)


def set_aside_damaged(ctx: StageContext, task: Task, problem: str) -> None:
    """Takes the word of a manifest away whose outputs have the right sizes but other digests, so that its task is done again.

    The launcher compares sizes only: it would take the task for complete, and this stage would refuse its outputs, for ever.
    """
    path = ctx.run.layout.root / task.manifest
    with contextlib.suppress(FileNotFoundError):  # another task of this stage was first
        path.replace(ctx.run.layout.damaged(path))
        ctx.events.append("set_aside", file=task.manifest, why=problem)
        log.warning(
            "%s: %s; its manifest is set aside, and the task will be done again", task.manifest, problem
        )


def how_to_make_again(run: Run, first: int) -> str:
    """What a person does to have an iteration and those behind it made again, in words."""
    later = ", ".join(str(run.layout.iteration(k).root) for k in run.layout.iterations() if k >= first)
    return f"move {later} away and run the same command again: these iterations are then made again"


def previous_evidence(ctx: StageContext, stage_name: StageName) -> Manifest:
    """The manifest of a single-task stage of the iteration before, its outputs verified. Raises EvidenceError."""
    last = ctx.run.plan(ctx.plan.iteration - 1)
    assert last is not None, "an iteration is planned only after the one before"
    stages = {s.name: s for s in build_graph(ctx.run.config, ctx.run.layout, last)}
    try:
        return read_evidence(
            ctx.run, last.iteration, stages[stage_name].tasks[0], deep=True, wait_s=ctx.visibility_wait_s
        )
    except Pruned:
        raise
    except EvidenceError as error:
        raise EvidenceError(
            f"iteration {last.iteration}, {error.message}",
            hint=f"put the file back; or move {ctx.at.root} away and run the launcher again: it completes that iteration first",
            blocked=True,
        ) from error


def gate(
    ctx: StageContext, stage_name: str, *, deep: bool = True
) -> tuple[list[Manifest], list[Task], dict[str, str]]:
    """The evidence of an upstream stage: manifests, missing tasks, and the entry for our manifest's `inputs`.

    Raises:
        EvidenceError: fewer tasks are complete than the stage's policy asks for; the message names the missing ones.
    """
    tasks = ctx.graph[stage_name].tasks
    manifests, missing, reasons = collect(ctx, [t for t in tasks if ctx.plan.counts(t)], deep=deep)
    # What was counted once is counted again, all of it: other decisions would rest on less, or on more.
    lacking = [task for task in missing if stage_name in ctx.plan.counted and "added" not in task.inputs]
    if lacking or not enough(ctx.plan.policy_of(stage_name), len(manifests), len(tasks)):
        raise EvidenceError(
            f"{ctx.stage.name}: {len(missing)} of {len(tasks)} tasks of stage {stage_name} are not complete; the first: {reasons[0]}",
            hint="run the launcher again; it submits what is missing",
        )
    if len(manifests) < len(tasks):
        ctx.used[stage_name] = [m.index for m in manifests]
        missing = [task for task in tasks if task.index not in ctx.used[stage_name]]
    return manifests, missing, {stage_name: combined_digest(manifests)}


def collect(
    ctx: StageContext, tasks: Sequence[Task], *, deep: bool
) -> tuple[list[Manifest], list[Task], list[str]]:
    """Those of a stage's tasks that are complete, the others, and what is wrong with each of those. Digests are read by a few threads."""
    late_until = time.monotonic() + ctx.visibility_wait_s  # what is late is late together: one wait for all

    def look(task: Task) -> Manifest | EvidenceError:
        try:
            wait_s = max(0.0, late_until - time.monotonic())
            return read_evidence(ctx.run, ctx.plan.iteration, task, deep=deep, wait_s=wait_s)
        except EvidenceError as error:
            manifest = read_manifest(ctx.run.layout.root / task.manifest) if deep else None
            if manifest is not None and not verify_outputs(ctx.run.layout.root, manifest, deep=False):
                set_aside_damaged(ctx, task, error.message)
            return error

    with ThreadPoolExecutor(DIGEST_THREADS) as threads:
        found = list(zip(tasks, threads.map(look, tasks), strict=True))
    manifests = [item for _, item in found if isinstance(item, Manifest)]
    missing = [(task, item) for task, item in found if isinstance(item, EvidenceError)]
    return manifests, [task for task, _ in missing], [error.message for _, error in missing]
