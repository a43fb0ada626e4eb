"""Plan + evidence + cluster: where a run stands, and what is to be done now. Used by the launcher and by `advance`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.errors import StorageError
from undo_hpc.method.decision import Decision, decide_by_sets
from undo_hpc.method.targets import Target
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, effective_iterations, plan_iteration
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, Key, TaskState, TaskStatus, derive, unmet
from undo_hpc.pipeline.workload import Measured, Workload, estimate
from undo_hpc.prompts import load_prompts
from undo_hpc.stages.targets import prompts_of, targets_of
from undo_hpc.storage.atomic import read_json, sha256_file, write_json
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
    """Finds where the run stands, from evidence; makes the plan of an iteration whose turn has come.

    Args:
        live: what a cluster says of the tasks of the current iteration.
    """
    # A plan is made only after the iteration before was complete; what lies further back is history.
    iteration = max((k for k in run.layout.iterations() if run.plan(k)), default=0)
    while True:
        plan = run.plan(iteration) or make_plan(run, iteration)
        stages = build_graph(run.config, run.layout, plan)
        policies: dict[str, PolicyConfig] = {s.name: plan.policy_of(s.name) for s in stages}
        statuses = derive(
            stages, gather(run, stages), policies=policies, outside=outside_digests(run, iteration), live=live
        )
        if unmet(stages, policies, statuses):
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


def make_plan(run: Run, iteration: int) -> IterationPlan:
    """Makes and freezes the plan of an iteration. The one before must be complete."""
    prepared = read_manifest(run.layout.prepared)
    if prepared is None:
        raise StorageError(
            f"{run.layout.prepared} is missing", hint="run the launcher again; it prepares the data"
        )
    sets = {name: int(info["n"]) for name, info in prepared.details["benchmarks"].items()}
    sets |= {"validation": int(prepared.counts["validation"]), "diagnosis": int(prepared.counts["diagnosis"])}
    if run.config.evaluate.train_predictions:
        sets["train"] = int(prepared.counts["train"])
    targets = targets_of(run, iteration)
    plan = plan_iteration(
        run.config,
        iteration,
        problems=len(targets),
        sets={name: size for name, size in sets.items() if size},
        workload=workload_of(run, iteration, targets),
        prompts={
            "generate": load_prompts(run.config.teacher.prompt).digest,
            "evaluate": load_prompts(run.config.student.prompt).digest,
        },
    )
    write_json(run.layout.iteration(iteration).plan, plan.to_dict())
    run.events.append(
        "planned",
        iteration=iteration,
        problems=plan.problems,
        shards=plan.shards,
        evaluations=len(plan.evaluate),
    )
    return plan


def workload_of(run: Run, iteration: int, targets: Sequence[Target]) -> Workload:
    """What the teacher will read and write: from the last iteration's figures and the length of a sample of the prompts."""
    measured = None
    if iteration:
        measured = Measured.from_metrics(read_json(run.layout.iteration(iteration - 1).metrics))
    characters = 0.0
    if targets and run.config.method.condition != "ground_truth":
        sample = targets[:: max(1, len(targets) // PROMPT_SAMPLE)]
        characters = sum(map(len, prompts_of(run, iteration, sample))) / len(sample)
    return estimate(run.config, iteration, len(targets), prompt_characters=characters, measured=measured)


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


def outside_digests(run: Run, iteration: int) -> dict[str, str]:
    """Digests of what an iteration reads from outside itself."""
    prepared = read_manifest(run.layout.prepared)
    digests = {"config": run.config_digest, "splits": prepared.digest if prepared else ""}
    if iteration:
        feedback = run.layout.iteration(iteration - 1).feedback
        if not feedback.exists():
            raise _missing(run, feedback, iteration)
        digests["feedback"] = sha256_file(feedback)
    return digests


def _missing(run: Run, path: Path, follower: int) -> StorageError:
    later = ", ".join(str(run.layout.iteration(k).root) for k in run.layout.iterations() if k >= follower)
    return StorageError(
        f"{path} is missing, and iteration {follower} rests on it",
        hint=f"put it back; or move {later} away and run the same command again, which makes all of them anew",
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
                    shutil.rmtree(
                        run.layout.iteration(position.iteration).train / "checkpoints", ignore_errors=True
                    )
                run.events.append(
                    "discarded", iteration=position.iteration, stage=stage.name, index=task.index
                )
    return len(stale)
