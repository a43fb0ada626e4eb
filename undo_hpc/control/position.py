"""Plan + evidence + cluster: where a run stands, and what is to be done now. Used by the launcher and by `advance`."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.errors import StorageError
from undo_hpc.method.decision import Decision, decide_by_sets
from undo_hpc.method.targets import expected_length
from undo_hpc.pipeline.plan import (
    IterationPlan,
    Stage,
    build_graph,
    cut_evenly,
    effective_iterations,
    plan_iteration,
)
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, Key, TaskState, TaskStatus, derive, unmet
from undo_hpc.pipeline.workload import Measured, estimate
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Target
from undo_hpc.stages.targets import Targets, check_inputs, prompt_of, restore_targets, write_targets
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import read_manifest, verify_outputs

PROMPT_SAMPLE = 200  # prompts that are rendered to know how long one is


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        iteration: the iteration at work, or the last one where the run has ended.
        statuses: state of every task of that iteration.
        ended: the decision that ended the loop, or None while it goes on.
    """

    iteration: int
    plan: IterationPlan
    stages: tuple[Stage, ...]
    statuses: list[TaskStatus]
    ended: Decision | None = None

    @property
    def missing(self) -> list[TaskStatus]:
        """Tasks that are not done."""
        return [status for status in self.statuses if status.state != "done"]


def locate(run: Run, live: Mapping[Key, tuple[TaskState, str]] | None = None) -> Position:
    """Finds where the run stands, from evidence; makes the plan of an iteration whose turn has come, and targets files that were lost.

    Args:
        live: what a cluster says of the tasks of the current iteration.
    """
    # A plan is made only after the iteration before was complete; what lies further back is history.
    iteration = max((k for k in run.layout.iterations() if run.plan(k)), default=0)
    while True:
        plan = _current_plan(run, iteration)
        stages = build_graph(run.config, run.layout, plan)
        policies: dict[str, PolicyConfig] = {s.name: plan.policy_of(s.name) for s in stages}
        statuses = derive(
            stages, gather(run, stages), policies=policies, outside=outside_digests(run), live=live
        )
        if unmet(stages, policies, statuses):
            restore_targets(
                run, plan, (s.index for s in statuses if s.stage == "generate" and s.state != "done")
            )
            return Position(iteration, plan, stages, statuses)
        decision = current_decision(run, iteration)
        if decision.action != "continue":
            return Position(iteration, plan, stages, statuses, decision)
        iteration += 1


def current_decision(run: Run, iteration: int) -> Decision:
    """The decision after an iteration under the present configuration (`iterations` may have been raised since)."""
    history = []
    for k in range(iteration + 1):
        metrics = run.layout.iteration(k).metrics
        if k < iteration and not metrics.exists():
            raise _missing(run, metrics, k + 1)
        history.append(read_json(metrics)["sets"])
    return decide_by_sets(history, run.config.stop, effective_iterations(run.config))


def _current_plan(run: Run, iteration: int) -> IterationPlan:
    """The plan of an iteration, made where there is none, or where it was made from other problems than the run has now."""
    plan, prepared = run.plan(iteration), read_manifest(run.layout.prepared)
    if plan is None or (prepared is not None and plan.inputs["splits"] != prepared.digest):
        return make_plan(run, iteration)
    return plan


def make_plan(run: Run, iteration: int) -> IterationPlan:
    """Makes and freezes the plan of an iteration: first the targets files, durably, then plan.json, which holds their digests.

    The iteration before must be complete. Its feedback and the splits are read twice, as streams.

    Raises:
        EvidenceError, StorageError: what the plan is made from is missing or damaged.
    """
    prepared = read_manifest(run.layout.prepared)
    if prepared is None:
        raise StorageError(
            f"{run.layout.prepared} is missing", hint="run the launcher again; it prepares the data"
        )
    sets = {name: int(info["n"]) for name, info in prepared.details["benchmarks"].items()}
    sets |= {"validation": int(prepared.counts["validation"]), "diagnosis": int(prepared.counts["diagnosis"])}
    if run.config.evaluate.train_predictions:
        sets["train"] = int(prepared.counts["train"])
    inputs = check_inputs(run, iteration)
    targets = Targets(run, iteration)
    lengths = array("q", map(expected_length, targets))
    measured = None
    if iteration:
        measured = Measured.from_metrics(read_json(run.layout.iteration(iteration - 1).metrics))
    prompts = load_prompts(run.config.teacher.prompt)
    plan = plan_iteration(
        run.config,
        iteration,
        problems=len(lengths),
        sets={name: size for name, size in sets.items() if size},
        workload=estimate(run.config, iteration, len(lengths), measured=measured),
        prompts={"generate": prompts.digest, "evaluate": load_prompts(run.config.student.prompt).digest},
    )
    rendered: list[int] = []  # characters of a sample of the prompts

    def sampled() -> Iterator[Target]:
        step = max(1, len(lengths) // PROMPT_SAMPLE)
        for number, target in enumerate(targets):
            if number % step == 0 and run.config.method.condition != "ground_truth":
                rendered.append(len(prompt_of(target, prompts, run.config.teacher.instruction)))
            yield target

    files = write_targets(run, iteration, sampled(), cut_evenly(lengths, plan.shards))
    workload = estimate(
        run.config,
        iteration,
        len(lengths),
        prompt_characters=sum(rendered) / max(1, len(rendered)),
        measured=measured,
    )
    plan = replace(plan, targets=files, inputs=inputs, workload=workload.to_dict())
    write_json(run.layout.iteration(iteration).plan, plan.to_dict())
    run.events.append(
        "planned",
        iteration=iteration,
        problems=plan.problems,
        shards=plan.shards,
        evaluations=len(plan.evaluate),
    )
    return plan


def gather(run: Run, stages: Sequence[Stage]) -> dict[Key, Evidence]:
    """The evidence of all tasks: manifests, and whether their outputs stand with the right size."""
    found: dict[Key, Evidence] = {}
    for stage in stages:
        for task in stage.tasks:
            manifest = read_manifest(run.layout.root / task.manifest) if task.manifest else None
            if manifest is not None:
                problem = verify_outputs(run.layout.root, manifest, deep=False)
                found[stage.name, task.index] = Evidence(manifest, problem)
    return found


def outside_digests(run: Run) -> dict[str, str]:
    """Digests of what all tasks read from outside the iteration. (The last iteration's feedback is in the targets files.)"""
    prepared = read_manifest(run.layout.prepared)
    return {"config": run.config_digest, "splits": prepared.digest if prepared else ""}


def _missing(run: Run, path: Path, follower: int) -> StorageError:
    later = ", ".join(str(run.layout.iteration(k).root) for k in run.layout.iterations() if k >= follower)
    return StorageError(
        f"{path} is missing, and iteration {follower} rests on it",
        hint=f"put it back; or move {later} away and run the same command again, which makes all of them again",
    )


def discard_stale(run: Run, position: Position) -> int:
    """Takes the manifests of stale tasks away, so that their work is done again; returns how many there were.

    That of advance too, where something before it is to be made again: it rests on everything, and submits what is stale after it.
    """
    stale = {(status.stage, status.index) for status in position.statuses if status.state == "stale"}
    redone = stale | {
        (s.stage, s.index) for s in position.statuses if s.stage == "advance" and (stale or s.state == "done")
    }
    for stage in position.stages:
        for task in stage.tasks:
            if (stage.name, task.index) in redone:
                (run.layout.root / task.manifest).unlink(missing_ok=True)
                if stage.name == "train":
                    shutil.rmtree(run.layout.iteration(position.iteration).checkpoints, ignore_errors=True)
                run.events.append(
                    "discarded", iteration=position.iteration, stage=stage.name, index=task.index
                )
    return len(stale)
