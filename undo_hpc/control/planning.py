"""The plan of the iteration whose turn has come, and the state of a run for those who act on it.

Apart from `position`, which a look at a run needs: a plan is made from problems, feedback and prompts, whose code takes longer to load
than a look at ten thousand tasks.
"""

from __future__ import annotations

import hashlib
import json
import logging
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace

from undo_hpc.config.parts import canary_problems, has_rationales
from undo_hpc.control.position import RunState, last_plan, latest_planned, read_state
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.method.targets import expected_length
from undo_hpc.pipeline.cutting import cut_evenly
from undo_hpc.pipeline.plan import IterationPlan, extend, plan_iteration, rows_to_score
from undo_hpc.pipeline.results import read_metrics
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.pipeline.state import Key, TaskState, changed_inputs
from undo_hpc.pipeline.workload import Measured, estimate, scoring_speed
from undo_hpc.prompts import load_prompts
from undo_hpc.records import SCHEMA_VERSION, Target
from undo_hpc.stages.context import Pruned, how_to_make_again
from undo_hpc.stages.release import released_canary
from undo_hpc.stages.targets import Targets, check_inputs, prompt_of, restore_targets, spread, write_targets
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.manifest import read_manifest, verify_outputs
from undo_hpc.system.invocation import cli_hint, task_hint

log = logging.getLogger(__name__)
PROMPT_SAMPLE = 200  # prompts that are rendered to know how long one is


def current_state(run: Run, live: Mapping[Key, tuple[TaskState, str]] | None = None) -> RunState:
    """`read_state` for those who act on it: makes the plan of an iteration whose turn has come, and targets files
    that were lost.

    Raises:
        StorageError: a file is missing on which the iteration rests.
        EvidenceError: a manifest was written by another version of this program.
    """
    _set_aside_damaged_plan(run)
    state = read_state(run, live)
    if state is None or _planned_for_other_problems(run, state.plan) or state.released:
        state = _planned(run, state.iteration if state else 0)
    while state.complete and not state.lost and not state.ended:
        state = _planned(run, state.iteration + 1)
    _require_readable(run, state)
    if not state.complete:
        unfinished = (s.index for s in state.missing if s.stage in ("generate", "canary"))
        restore_targets(run, state.plan, unfinished)
    return state


def _set_aside_damaged_plan(run: Run) -> None:
    """The plan of the iteration at work is made again where it is damaged: it follows from evidence and configuration, and what fits it
    stays."""
    iteration = latest_planned(run)
    path = run.layout.iteration(iteration).plan
    try:
        run.plan(iteration)
    except StorageError as error:
        path.replace(run.layout.damaged(path))
        run.events.append("set_aside", file=run.layout.relative(path), why=error.message)
        log.warning("%s; it is set aside, and the iteration is planned again", error.message)


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
        number, problem = state.lost[0]
        again = task_hint(run.layout.root, LAST_STAGE, number, slurm=run.config.cluster.kind == "slurm")
        again = f"put it back, or count again: {again}"
        if number not in run.layout.iterations()[:-1]:
            raise StorageError(problem, hint=f"{again}; then run the same command again", blocked=True)
        raise StorageError(
            f"{problem}, and iteration {number + 1} rests on it",
            hint=f"{again}; then run the same command again. Where neither helps, {how_to_make_again(run, number + 1)}",
            blocked=True,
        )
    changed = changed_inputs(state.stages, state.statuses, state.evidence)
    if changed and state.iteration < last_plan(run):
        raise StorageError(
            f"{changed.stage} {changed.index} of iteration {state.iteration}: {changed.why}; it would be made again, and iteration "
            f"{state.iteration + 1} rests on what it made",
            hint=f"put back what was changed; or {how_to_make_again(run, state.iteration + 1)}",
            blocked=True,
        )
    _require_unpruned(run, state)
    for (stage, index), found in state.evidence.items():
        if found.manifest is not None and found.manifest.schema_version != SCHEMA_VERSION:
            raise EvidenceError(
                f"{stage} {index} of iteration {state.iteration}: {found.problem}",
                hint="continue this run with the version of undo-hpc that made it, or start a new run directory",
                blocked=True,
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
    last = read_metrics(run, iteration - 1) if iteration else {}
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


def with_added(run: Run, plan: IterationPlan) -> IterationPlan:
    """A plan with tasks for each set that was added to the run and is frozen, as far as it has none.

    Raises:
        EvidenceError: a set was frozen again, and has other problems than were answered.
    """
    for name, asked in run.config.evaluate.added.items():
        manifest = read_manifest(run.layout.added_manifest(name))
        if manifest is None:
            continue
        settings = json.dumps(asked.model_dump(mode="json", exclude={"benchmark", "source", "limit"}))
        listed = run.layout.relative(run.layout.rejected_of(name))
        frozen = replace(manifest, outputs={k: out for k, out in manifest.outputs.items() if k != listed})
        digest = hashlib.sha256(f"{frozen.digest} {settings}".encode()).hexdigest()
        if plan.added.get(name, digest) != digest:
            raise EvidenceError(
                f"the added set {name} is not the one that the students have answered: its source was changed before it was frozen again",
                hint=f"put {asked.benchmark} back as it was, delete {run.layout.added_manifest(name)}, and run the same command again; "
                f"what it holds now is added under another name: {cli_hint('evaluate RUN --benchmarks NAME')}",
                blocked=True,
            )
        if name in plan.added:
            continue
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
