"""Where a run stands: "what is done" is derived here, once, from evidence. A look loads no more than this."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import PolicyConfig
from undo_hpc.control.results import changed, damaged_results, finished_problem
from undo_hpc.method.decision import Decision
from undo_hpc.pipeline.evidence import DAMAGED, gather_evidence
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, decide_run
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, Key, TaskState, TaskStatus, derive, unmet
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
        lost: metrics of finished iterations, on which the decision rests, and which are missing or damaged.
        damaged: what is missing or damaged of what the run has made otherwise: the chosen student, distilled sets of earlier
            iterations. Nothing waits for it, but it would be published.
        decision: what follows a complete iteration; None while it is not complete, or cannot be decided because of `lost`.
    """

    iteration: int
    plan: IterationPlan
    stages: tuple[Stage, ...]
    evidence: Mapping[Key, Evidence]
    statuses: list[TaskStatus]
    complete: bool = False
    lost: tuple[Path, ...] = ()
    damaged: tuple[str, ...] = ()
    decision: Decision | None = None

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
        """Tasks that are not done."""
        return [status for status in self.statuses if status.state != "done"]


def latest_planned(run: Run) -> int:
    """The iteration at work: the latest that has a plan. It is made after the one before was complete: earlier ones are not looked at
    again, unless evaluations were added to the run; then the first that lacks them."""
    latest = max((k for k in run.layout.iterations() if run.layout.iteration(k).plan.exists()), default=0)
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
    lost: list[Path] = []
    history: list[dict[str, Any]] = []
    for number in range(iteration + complete):
        at = run.layout.iteration(number)
        sets = (read_fast(at.metrics) or {}).get("sets")
        if sets is None or (number < iteration and finished_problem(run, number, "advance", at.metrics)):
            lost.append(at.metrics)
        else:
            history.append(sets)
    # The decision under the present configuration: `iterations` may have been raised since.
    decision = decide_run(run.config, history) if complete and not lost else None
    best = decision.best_iteration if decision else None
    damaged = tuple(problem for _, problem in damaged_results(run, iteration, best))
    return RunState(iteration, plan, stages, evidence, statuses, complete, tuple(lost), damaged, decision)


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
