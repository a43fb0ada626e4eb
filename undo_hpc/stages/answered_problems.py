"""What advance reads, as streams: each evaluated problem beside all answers to it and the rationale that was learned.

Everything lies in the same order (answers in that of their problem set, splits and distilled set in that of idx and id), so nothing
needs to be held: memory does not grow with the data.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from undo_hpc.data.distilled import read_solutions
from undo_hpc.errors import EvidenceError
from undo_hpc.pipeline.plan import EvaluationSlice
from undo_hpc.pipeline.run import Run
from undo_hpc.records import Attempt
from undo_hpc.stages.context import StageContext
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import read_rows

Fields = dict[str, Any]  # a problem as it stands on disk
Slices = Mapping[str, Sequence[EvaluationSlice]]


@dataclass(frozen=True, slots=True)
class AnsweredProblem:
    """A problem of a split or benchmark, and all answers to it.

    Attributes:
        rationale: what the student learned of it; None where it stands not in the distilled set.
    """

    problem_set: str
    problem: Fields
    rows: list[Attempt]
    order: tuple[int, str]  # (idx, problem_id)
    rationale: str | None = None


def counted_slices(run: Run, iteration: int, stage: str) -> list[EvaluationSlice]:
    """The slices of `evaluate` or `baseline` that the metrics of an iteration count, in their order: with a policy for evaluate a task may
    end after `advance`. All where it has not ended."""
    plan, at = run.plan(iteration), run.layout.iteration(iteration)
    if plan is None:
        return []
    manifest = read_manifest(at.stage_manifest("advance"))
    used = manifest.details.get(f"{stage}_used") if manifest else None
    tasks = plan.baseline if stage == "baseline" else plan.evaluate
    if manifest is None and (kept := plan.counted.get(stage)) is not None:  # counted again, with added sets
        used = [k for k, parts in enumerate(tasks) if k in kept or parts[0].problem_set in plan.added]
    return [part for index, parts in enumerate(tasks) if used is None or index in used for part in parts]


def answered_slices(ctx: StageContext, stage: str, complete: Iterable[int]) -> Slices:
    """The slices of a stage's complete tasks by benchmark or split. A shard without a manifest that validates it is not read: it
    may be half of a task, or an earlier student's."""
    tasks = ctx.plan.baseline if stage == "baseline" else ctx.plan.evaluate
    found: dict[str, list[EvaluationSlice]] = {}
    for part in (part for index in sorted(complete) for part in tasks[index]):
        found.setdefault(part.problem_set, []).append(part)
    return found


def answered_problems(
    ctx: StageContext, stage: str, name: str, parts: Iterable[EvaluationSlice]
) -> Iterator[AnsweredProblem]:
    """The problems of a set that were answered, in its order.

    Raises:
        EvidenceError: a shard answers a problem that is not in the set, or is out of order.
    """
    problems = read_rows(ctx.run.problems_file(name))
    for part in parts:
        shard = ctx.at.shard(stage, part.shard, part.problem_set)
        answers = map(Attempt.from_dict, read_rows(shard))
        for key, group in itertools.groupby(answers, attrgetter("problem_id")):
            problem = next((p for p in problems if p["problem_id"] == key), None)
            if problem is None:
                raise EvidenceError(
                    f"{shard}: problem {key} is not in {ctx.run.problems_file(name)}, or is out of order",
                    hint="the shard belongs to another run or was changed; delete it with its manifest and run the same command again",
                    blocked=True,
                )
            yield AnsweredProblem(name, problem, list(group), (problem["idx"], key))


def with_rationales(
    ctx: StageContext, sets: Iterable[Iterator[AnsweredProblem]]
) -> Iterator[AnsweredProblem]:
    """The problems of all these splits in the order of (idx, problem_id), each with the first rationale of the distilled set."""
    learned = read_solutions(ctx.at.distilled)
    order, solution = next(learned, (None, ""))
    for answered in heapq.merge(*sets, key=attrgetter("order")):
        while order is not None and order < answered.order:
            order, solution = next(learned, (None, ""))
        rationale = solution if order == answered.order else None
        yield AnsweredProblem(
            answered.problem_set, answered.problem, answered.rows, answered.order, rationale
        )
