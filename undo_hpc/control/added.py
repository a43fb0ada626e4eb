"""Evaluations that are added to a run: benchmarks, more samples, other limits. No test set touches a result, so nothing is done again.

An added set is frozen beside the benchmarks, and the plan of each iteration that is planned already gets tasks for it; those that are
complete stay. Then the iterations lack these answers, and `position` has them made, oldest iteration first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from undo_hpc.config.load import override
from undo_hpc.config.schema import AddedEvaluation, RunConfig
from undo_hpc.control.planning import with_added
from undo_hpc.control.position import outside_digests
from undo_hpc.pipeline.evidence import gather_evidence
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import IterationPlan, build_graph
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.pipeline.state import derive, unmet
from undo_hpc.stages.prepare import freeze_added
from undo_hpc.storage.atomic import write_json


def add_evaluations(run: Run) -> list[str]:
    """Freezes the added sets and gives them tasks in all planned iterations; returns what a person should know of them.

    Raises:
        ConfigError, DataError: a benchmark cannot be read.
    """
    notes = freeze_added(run)
    for number in run.layout.iterations():
        plan = run.plan(number)
        if plan is None or (extended := with_added(run, plan)) == plan:
            continue
        if not _is_whole(run, plan):
            notes.append(
                f"iteration {number}: files of it were deleted; its student does not answer what was added"
            )
            continue
        write_json(run.layout.iteration(number).plan, extended.to_dict())
        run.events.append(
            "extended", iteration=number, sets=sorted(extended.added.keys() - plan.added.keys())
        )
    return notes


def _is_whole(run: Run, plan: IterationPlan) -> bool:
    """Whether an iteration is at work (or to be made again, as after `regrade`), or closed with all that it has made: else what was deleted
    would be made again for a benchmark.

    Answers to sets that were added before are no part of that: they may be in the making, after a launch that was stopped.
    """
    if not run.layout.iteration(plan.iteration).stage_manifest("advance").exists():
        return True
    stages = build_graph(run.config, run.layout, plan)
    policies = {stage.name: plan.policy_of(stage.name) for stage in stages}
    evidence = gather_evidence(run.layout.root, stages)
    own = (tuple(task for task in stage.tasks if "added" not in task.inputs) for stage in stages)
    stages = tuple(replace(stage, tasks=tasks) for stage, tasks in zip(stages, own, strict=True))
    statuses = derive(stages, evidence, policies=policies, outside=outside_digests(run))
    made_again = any(s.state == "stale" and not evidence[s.stage, s.index].problem for s in statuses)
    return made_again or not unmet(stages, policies, statuses)


def with_new_benchmarks(config: RunConfig, run_dir: Path) -> RunConfig:
    """A configuration that names more benchmarks than its run was made with: the new ones become added evaluations.

    A run that has not begun, or that lacks none of them, is left as it is.
    """
    layout = Layout(run_dir.resolve())
    if not layout.prepared.exists() or not layout.config.exists():
        return config
    settings, before = config.evaluate, open_run(run_dir).config.evaluate
    new = [name for name in settings.benchmarks if name not in before.benchmarks]
    if [name for name in settings.benchmarks if name in before.benchmarks] != before.benchmarks:
        return config  # one is missing: the check of the run directory says so
    added = dict(before.added) | dict(settings.added)
    known = {Path(name).stem for name in before.benchmarks} | added.keys()
    for name in new:
        stem = Path(name).stem
        if stem not in known:
            given = {"limit": settings.limit} if settings.limit else {}
            added[stem] = AddedEvaluation(benchmark=name, source=settings.overrides.get(stem), **given)
    overrides = {k: v for k, v in settings.overrides.items() if k in before.overrides or k not in added}
    if not new and added == dict(settings.added):
        return config
    kept = {name: each.model_dump(mode="json", exclude_unset=True) for name, each in overrides.items()}
    sets = [f"evaluate.benchmarks={json.dumps(before.benchmarks)}", f"evaluate.overrides={json.dumps(kept)}"]
    return override(config, [*sets, _as_key(added)])


def name_added(run: Run, evaluation: AddedEvaluation) -> str:
    """The name of an evaluation's set: the benchmark's, or one with what is special about it where that is there already; of an
    evaluation that the run has, the name that it has; empty where it is one that the run was made with."""
    settings = run.config.evaluate
    stem = Path(evaluation.benchmark).stem
    for name, added in settings.added.items():
        if added == evaluation:
            return name
    plain = evaluation.limit == settings.limit and not evaluation.samples and evaluation.temperature is None
    own = {Path(name).stem for name in settings.benchmarks}
    if stem in own and plain:
        return ""
    there = own | settings.added.keys()
    words = [f"first{evaluation.limit}" if evaluation.limit else "all"]
    words += [f"x{evaluation.samples}"] * bool(evaluation.samples)
    words += [f"t{evaluation.temperature:g}"] if evaluation.temperature is not None else []
    return re.sub(r"[^\w.-]", "-", "-".join([stem, *words]) if stem in there else stem)


def added_sets(run: Run, evaluations: Sequence[AddedEvaluation]) -> list[str]:
    """Keys that add evaluations to a run; none of what it has already."""
    named = {name: each for each in evaluations if (name := name_added(run, each))}
    return [_as_key(dict(run.config.evaluate.added) | named)]


def _as_key(added: Mapping[str, AddedEvaluation]) -> str:
    """All added evaluations as one key: a name may hold a dot."""
    values = {
        name: each.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        for name, each in added.items()
    }
    return f"evaluate.added={json.dumps(values)}"
