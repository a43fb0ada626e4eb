"""Where a run stands: "what is done" is derived here, once, from evidence. And the plan of the iteration whose turn has come."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undo_hpc.config.parts import canary_problems, has_rationales
from undo_hpc.config.schema import PolicyConfig
from undo_hpc.control.results import changed, damaged_results, finished_problem
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.method.decision import Decision
from undo_hpc.method.targets import expected_length
from undo_hpc.pipeline.cutting import cut_evenly
from undo_hpc.pipeline.evidence import DAMAGED, gather_evidence
from undo_hpc.pipeline.plan import (
    IterationPlan,
    Stage,
    build_graph,
    decide_run,
    extend,
    plan_iteration,
    rows_to_score,
)
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Evidence, Key, TaskState, TaskStatus, derive, unmet
from undo_hpc.pipeline.workload import Measured, estimate, scoring_speed
from undo_hpc.prompts import load_prompts
from undo_hpc.records import SCHEMA_VERSION, Target
from undo_hpc.stages.context import Pruned
from undo_hpc.stages.release import released_canary
from undo_hpc.stages.targets import Targets, check_inputs, prompt_of, restore_targets, spread, write_targets
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.storage.reading import read_fast

ADDED = "evaluations were added since"
PROMPT_SAMPLE = 200  # prompts that are rendered to know how long one is


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


def with_added(run: Run, plan: IterationPlan) -> IterationPlan:
    """A plan with tasks for each set that was added to the run and is frozen, as far as it has none."""
    for name, asked in run.config.evaluate.added.items():
        manifest = read_manifest(run.layout.added_manifest(name))
        if name in plan.added or manifest is None:
            continue
        settings = json.dumps(asked.model_dump(mode="json", exclude={"benchmark", "source", "limit"}))
        digest = hashlib.sha256(f"{manifest.digest} {settings}".encode()).hexdigest()
        gone = _is_closed(run, plan.iteration) and not _has_student(run, plan.iteration)
        per_task = run.config.evaluate.problems_per_task
        plan = extend(plan, name, int(manifest.details["n"]), digest, per_task=per_task, student=not gone)
    return plan


def _has_student(run: Run, iteration: int) -> bool:
    """Whether the student's weights are there: nobody deleted or pruned them."""
    manifest = read_manifest(run.layout.iteration(iteration).stage_manifest("train"))
    return manifest is not None and not verify_outputs(run.layout.root, manifest, deep=False)


def _is_closed(run: Run, iteration: int) -> bool:
    """Whether an iteration is closed: its student is made, or was deleted since."""
    return run.layout.iteration(iteration).stage_manifest("advance").exists()


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


def current_state(run: Run, live: Mapping[Key, tuple[TaskState, str]] | None = None) -> RunState:
    """`read_state` for those who act on it: makes the plan of an iteration whose turn has come, and targets files
    that were lost.

    Raises:
        StorageError: a file is missing on which the iteration rests.
        EvidenceError: a manifest was written by another version of this program.
    """
    state = read_state(run, live)
    if state is None or _planned_for_other_problems(run, state.plan) or state.released:
        state = _planned(run, state.iteration if state else 0)
    while state.complete and not state.lost and not state.ended:
        state = _planned(run, state.iteration + 1)
    _require_readable(run, state)
    if not state.complete:
        unfinished = (
            s.index for s in state.statuses if s.stage in ("generate", "canary") and s.state != "done"
        )
        restore_targets(run, state.plan, unfinished)
    return state


def _planned(run: Run, iteration: int) -> RunState:
    make_plan(run, iteration)
    state = read_state(run)
    assert state is not None, "its plan was written just now"
    return state


def _planned_for_other_problems(run: Run, plan: IterationPlan) -> bool:
    prepared = read_manifest(run.layout.prepared)
    return prepared is not None and plan.inputs["splits"] != prepared.digest


def _require_readable(run: Run, state: RunState) -> None:
    """Raises where the state cannot be acted on: nothing is discarded that another version may still read."""
    if state.complete and state.lost:
        path = state.lost[0]
        follower = 1 + next(k for k in run.layout.iterations() if path.parent == run.layout.iteration(k).root)
        rest = [k for k in run.layout.iterations() if k >= follower]
        if not rest:
            raise StorageError(
                f"{path} is missing or damaged", hint="put it back, then run the same command again"
            )
        later = ", ".join(str(run.layout.iteration(k).root) for k in rest)
        raise StorageError(
            f"{path} is missing, and iteration {follower} rests on it",
            hint=f"put it back; or move {later} away and run the same command again: these iterations are then made again",
        )
    _require_unpruned(run, state)
    for (stage, index), found in state.evidence.items():
        if found.manifest is not None and found.manifest.schema_version != SCHEMA_VERSION:
            raise EvidenceError(
                f"{stage} {index} of iteration {state.iteration}: {found.problem}",
                hint="continue this run with the version of undo-hpc that made it, or start a new run directory",
            )


def _require_unpruned(run: Run, state: RunState) -> None:
    """Raises where a task that is missing reads what was pruned: its job would wait in the queue only to be told so."""
    open_stages = {status.stage for status in state.missing}
    for (name, _), found in state.evidence.items():
        if found.manifest is None or not found.manifest.pruned or found.problem:
            continue
        read_by = (stage.name for stage in state.stages if name in stage.after)
        problem = verify_outputs(run.layout.root, found.manifest, deep=False)
        if problem and not open_stages.isdisjoint(read_by):
            raise Pruned(run, found.manifest, problem)


def make_plan(run: Run, iteration: int, *, like: IterationPlan | None = None) -> IterationPlan:
    """Makes and freezes the plan of an iteration: first the targets files, durably, then plan.json, which holds their digests.

    The iteration before must be complete. Its feedback and the splits are read twice, as streams.

    Args:
        like: another run's plan, whose numbers of tasks are taken: the work that is the same is then cut alike.

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
    last = read_json(run.layout.iteration(iteration - 1).metrics) if iteration else {}
    measured, scoring = Measured.from_metrics(last), scoring_speed(last)
    prompts = load_prompts(run.config.teacher.prompt)
    if canary := released_canary(run, iteration, prompts.digest):
        problems = int(canary.counts["problems"])
        measured = Measured.from_counts(canary.counts, iteration, problems) or measured
    train_problems = int(prepared.counts["train"])
    score_rows = rows_to_score(run.config, iteration, train_problems)
    plan = plan_iteration(
        run.config,
        iteration,
        problems=len(lengths),
        sets={name: size for name, size in sets.items() if size},
        workload=estimate(
            run.config, iteration, len(lengths), measured=measured, score_rows=score_rows, scoring=scoring
        ),
        train_problems=train_problems,
        prompts={"generate": prompts.digest, "evaluate": load_prompts(run.config.student.prompt).digest},
    )
    if like is not None:
        plan = replace(plan, shards=like.shards, score=like.score if plan.score else 0)
    elif canary is None and (few := canary_problems(run.config, iteration, plan.problems, plan.shards)):
        plan = replace(plan, canary_problems=few, shards=1, servers=0)
    rendered: list[int] = []  # characters of a sample of the prompts

    def sampled() -> Iterator[Target]:
        step = max(1, (plan.canary_problems or len(lengths)) // PROMPT_SAMPLE)
        few = spread(targets, len(lengths), plan.canary_problems) if plan.canary_problems else targets
        for number, target in enumerate(few):
            if number % step == 0 and (iteration or not has_rationales(run.config)):
                rendered.append(len(prompt_of(target, prompts, run.config.teacher.instruction)))
            yield target

    bounds = [0, plan.canary_problems] if plan.canary_problems else cut_evenly(lengths, plan.shards)
    files = write_targets(run, iteration, sampled(), bounds)
    workload = estimate(
        run.config,
        iteration,
        len(lengths),
        prompt_characters=sum(rendered) / max(1, len(rendered)),
        measured=measured,
        score_rows=score_rows,
        scoring=scoring,
    )
    plan = with_added(run, replace(plan, targets=files, inputs=inputs, workload=workload.to_dict()))
    write_json(run.layout.iteration(iteration).plan, plan.to_dict())
    run.events.append(
        "planned",
        iteration=iteration,
        problems=plan.problems,
        shards=plan.shards,
        evaluations=len(plan.evaluate),
    )
    return plan


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
    for stage in state.stages:
        for task in stage.tasks:
            if (stage.name, task.index) in redone:
                (run.layout.root / task.manifest).unlink(missing_ok=True)
                if stage.name == "train":
                    shutil.rmtree(run.layout.iteration(state.iteration).checkpoints, ignore_errors=True)
                run.events.append("discarded", iteration=state.iteration, stage=stage.name, index=task.index)
    return len(stale)
