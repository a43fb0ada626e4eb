"""Where a run stands: "what is done" is derived here, once, from evidence. A look loads no more than this."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.control.results import damaged_results, finished_problem
from undo_hpc.method.decision import Decision
from undo_hpc.pipeline.evidence import DAMAGED, gather_evidence
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, decide_run
from undo_hpc.pipeline.results import changed
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.pipeline.state import (
    NOTHING,
    Evidence,
    Key,
    TaskState,
    TaskStatus,
    changed_inputs,
    derive,
    not_needed,
    unmet,
)
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.reading import read_fast

ADDED = "evaluations were added since"


@dataclass(frozen=True)
class RunState:
    """Where a run stands: what is done, derived from evidence. Views render it; the launcher and `advance` act on it.

    Attributes:
        iteration: the latest planned iteration.
        evidence: manifests of its tasks, and what is wrong with their outputs.
        statuses: state of every task of that iteration.
        complete: whether the iteration needs nothing more.
        lost: of finished iterations, what is wrong with the metrics or their manifest, in words: the decision rests on them.
        damaged: what is missing or damaged of what the run has made otherwise: the chosen student, distilled sets of earlier
            iterations. Nothing waits for it, but it would be published.
        counted: of stages with a policy, the tasks that the distilled set or the metrics count; empty where they are made again from
            other inputs.
        decision: what follows a complete iteration; None while it is not complete, or cannot be decided because of `lost`.
    """

    iteration: int
    plan: IterationPlan
    stages: tuple[Stage, ...]
    evidence: Mapping[Key, Evidence]
    statuses: list[TaskStatus]
    complete: bool = False
    lost: tuple[tuple[int, str], ...] = ()
    damaged: tuple[str, ...] = ()
    decision: Decision | None = None
    counted: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def ended(self) -> Decision | None:
        """The decision that ended the loop, or None while it continues."""
        return self.decision if self.decision is not None and self.decision.action != "continue" else None

    @property
    def released(self) -> bool:
        """Whether a canary has passed, and its iteration is to be planned."""
        return bool(self.plan.canary_problems) and not self.missing

    @property
    def missing(self) -> list[TaskStatus]:
        """Tasks that are not done, but for those that a policy has given up."""
        return [s for s in self.statuses if s.state != "done" and (s.stage, s.index) not in self.given_up]

    @cached_property
    def given_up(self) -> frozenset[Key]:
        """Tasks that are not done, and that nothing waits for any more."""
        return not_needed(self.stages, self.statuses, self.counted)


def last_plan(run: Run) -> int:
    """The latest iteration that has a plan: those before it stay what they are, for it was made from them."""
    return max((k for k in run.layout.iterations() if run.layout.iteration(k).plan.exists()), default=0)


def latest_planned(run: Run) -> int:
    """The iteration at work: the latest that has a plan. It is made after the one before was complete: earlier ones are not looked at
    again, unless evaluations were added to the run; then the first that lacks them."""
    latest = last_plan(run)
    for number in range(latest if run.config.evaluate.added else 0):
        plan = run.plan(number)
        if plan is not None and plan.added != _added_in(run, number):
            return number
    return latest


def _added_in(run: Run, iteration: int) -> dict[str, str]:
    """The added sets that an iteration's metrics hold."""
    data = read_fast(run.layout.iteration(iteration).stage_manifest("advance")) or {}
    return dict(data.get("details", {}).get("added", {}))


def read_state(run: Run, live: Mapping[Key, tuple[TaskState, str]] | None = None) -> RunState | None:
    """The state of the latest planned iteration; None where nothing is planned yet. Reads only.

    Args:
        live: what a cluster says of the tasks of that iteration.

    Raises:
        StorageError: its plan is damaged.
    """
    iteration = latest_planned(run)
    plan = run.plan(iteration)
    if plan is None:
        return None
    stages = build_graph(run.config, run.layout, plan)
    evidence = gather_evidence(run.layout.root, stages)
    _check_metrics(run, iteration, evidence, plan.added)
    policies: dict[str, PolicyConfig] = {s.name: plan.policy_of(s.name) for s in stages}
    statuses = derive(stages, evidence, policies=policies, outside=outside_digests(run), live=live)
    complete = not unmet(stages, policies, statuses) and not plan.canary_problems
    lost: list[tuple[int, str]] = []
    history: list[dict[str, Any]] = []
    for number in range(iteration + complete):
        at = run.layout.iteration(number)
        sets = (read_fast(at.metrics) or {}).get("sets")
        problem = finished_problem(run, number, LAST_STAGE, at.metrics) if number < iteration else ""
        if sets is None and not problem:
            problem = (
                f"{run.layout.relative(at.metrics)} is {'damaged' if at.metrics.exists() else 'missing'}"
            )
        if sets is None or problem:
            lost.append((number, problem))
        else:
            history.append(sets)
    # The decision under the present configuration: `iterations` may have been raised since.
    decision = decide_run(run.config, history) if complete and not lost else None
    best = decision.best_iteration if decision else None
    damaged = tuple(problem for _, problem in damaged_results(run, iteration, best))
    counted = _counted(plan, stages, evidence, statuses)
    return RunState(
        iteration, plan, stages, evidence, statuses, complete, tuple(lost), damaged, decision, counted
    )


def _counted(
    plan: IterationPlan,
    stages: Sequence[Stage],
    evidence: Mapping[Key, Evidence],
    statuses: Sequence[TaskStatus],
) -> dict[str, list[int]]:
    """Of stages with a policy, the tasks that were counted, by those who counted them or, while they do so again, by the plan.

    None where an input has changed, as after `regrade`: all is counted from scratch, and so is what comes behind.
    """
    if changed_inputs(stages, statuses, evidence):
        return {}
    found = dict(plan.counted)
    for name in ("merge", LAST_STAGE):
        manifest = evidence.get((name, 0), NOTHING).manifest
        for stage in stages if manifest is not None else ():
            used = manifest.details.get(f"{stage.name}_used") if manifest else None
            if used is not None and plan.policy_of(stage.name).kind != "all":
                kept = set(used)
                found[stage.name] = [
                    t.index for t in stage.tasks if t.index in kept and "added" not in t.inputs
                ]
    return found


def _check_metrics(run: Run, iteration: int, evidence: dict[Key, Evidence], added: dict[str, str]) -> None:
    """Small enough to be read whole at every look, and the decision rests on it: damaged metrics are damaged evidence of advance."""
    found = evidence.get(("advance", 0))
    if found is not None and found.manifest is not None and not found.problem:
        metrics = run.layout.iteration(iteration).metrics
        problem = changed(run, found.manifest, metrics)
        if not problem and found.manifest.details.get("added", {}) != added:
            problem = ADDED
        if problem:
            evidence["advance", 0] = Evidence(found.manifest, problem)


def outside_digests(run: Run) -> dict[str, str]:
    """Digests of what all tasks read from outside the iteration; what is missing or damaged has no entry.

    (The last iteration's feedback is in the targets files.)
    """
    prepared = read_fast(run.layout.prepared) or {}
    digests = {"config": run.config_digest}
    if "digest" in prepared:
        digests["splits"] = str(prepared["digest"])
    return digests


def discard_stale(run: Run, state: RunState) -> int:
    """Removes the manifests of stale tasks, and damaged ones, so that their work is done again; returns how many there were.

    That of advance too, where something before it is to be made again: it rests on everything, and submits what is stale after it.
    Which tasks they counted is kept in the plan first: those that a policy gave up may end later, and change nothing.
    """
    stale = {
        (status.stage, status.index)
        for status in state.statuses
        if status.state == "stale" or (status.state == "blocked" and status.why in (DAMAGED, ADDED))
    }
    redone = stale | {
        (s.stage, s.index) for s in state.statuses if s.stage == "advance" and (stale or s.state == "done")
    }
    why = (
        ADDED
        if {status.why for status in state.statuses if (status.stage, status.index) in stale} == {ADDED}
        else ""
    )
    if redone and state.counted != state.plan.counted:
        plan = replace(state.plan, counted=dict(state.counted))
        write_json(run.layout.iteration(state.iteration).plan, plan.to_dict())
    for stage in state.stages:
        for task in stage.tasks:
            if (stage.name, task.index) in redone:
                (run.layout.root / task.manifest).unlink(missing_ok=True)
                if stage.name == "train":
                    shutil.rmtree(run.layout.iteration(state.iteration).checkpoints, ignore_errors=True)
                run.events.append(
                    "discarded", iteration=state.iteration, stage=stage.name, index=task.index, why=why
                )
    return len(stale)
