"""What was asked and answered in a run, row by row: an attempt beside its problem and its prompt. Reads only.

`undo-hpc show`, the exports and the report read a run through this module.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.config.stages import TEXT_STAGES
from undo_hpc.data.distilled import read_distilled
from undo_hpc.engines.base import digest
from undo_hpc.errors import ConfigError, StorageError
from undo_hpc.method.metrics import is_right, share
from undo_hpc.models.resolve import loaded_models
from undo_hpc.observe.preview import ModelReader, learned_tokens
from undo_hpc.pipeline.layout import IterationLayout, distilled_files
from undo_hpc.pipeline.plan import IterationPlan
from undo_hpc.pipeline.results import changed
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import PromptSet, load_prompts
from undo_hpc.records import Attempt, Problem, Target
from undo_hpc.stages.answered_problems import counted_slices
from undo_hpc.stages.targets import planned_targets, prompt_of
from undo_hpc.storage.atomic import expect_fields
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.opening import ANY_SIZE, open_binary
from undo_hpc.storage.reading import read_rows_tolerant
from undo_hpc.storage.shards import first_row_from


@dataclass(frozen=True)
class Answered:
    """An attempt and what it answers.

    Attributes:
        stage, iteration: where it was made; `merge` stands for a row of the distilled set.
        problem_set: benchmark or split of an answer of the student; empty for the teacher.
        target: what the teacher was asked, for its attempts; None for the student.
    """

    stage: str
    iteration: int
    problem_set: str
    problem: Problem
    attempt: Attempt
    target: Target | None = None


def answered(
    run: Run, stage: str, iteration: int, problem_set: str = "", *, counted: bool = False
) -> Iterator[Answered]:
    """All attempts of a stage so far, in the order of its shards; those of a shard at work as far as they are durable.

    Args:
        problem_set: only the answers to this benchmark or split.
        counted: of a student's answers those that the metrics count: with a policy a task may end behind them.

    Raises:
        DataError, StorageError: the distilled set is damaged, or what the teacher was asked.
    """
    at = run.layout.iteration(iteration)
    plan = run.plan(iteration)
    if plan is None:
        return
    if stage == "merge":
        yield from _distilled(run, at, iteration)
    elif stage in ("generate", "canary"):
        for index in range(len(plan.targets)):
            targets = {target.problem_id: target for target in _targets(at, plan, index)}
            # what a canary was asked lies in all of the files, once they are planned
            for attempt in _attempts(at, at.shard(stage, index if stage == "generate" else 0)):
                if target := targets.get(attempt.problem_id):
                    yield Answered(stage, iteration, "", target.to_problem(), attempt, target)
    else:
        for part in counted_slices(run, iteration, stage) if counted else plan.slices(stage):
            if problem_set in ("", part.problem_set):
                problems = {p.problem_id: p for p in run.problems(part.problem_set, part.start, part.stop)}
                for attempt in _attempts(at, at.shard(stage, part.shard, part.problem_set)):
                    if problem := problems.get(attempt.problem_id):
                        yield Answered(stage, iteration, part.problem_set, problem, attempt)


def answered_by_teacher(run: Run, iteration: int, places: Iterable[tuple[int, str]]) -> Iterator[Answered]:
    """The teacher's attempts at a few problems, found by bisection: of a million rows a few are read. Those of shards that are not
    complete are left out.

    Args:
        places: (idx, problem_id) of each.

    Raises:
        StorageError: a file is damaged.
    """
    at, plan = run.layout.iteration(iteration), run.plan(iteration)
    if plan is None:
        return
    begins = [(file["first"], k) for k, file in enumerate(plan.targets) if file["first"] is not None]
    asked: dict[int, dict[str, Target]] = {}  # of the shard at hand: the places are in its order
    for idx, who in places:
        at_or_before = bisect_right(begins, (idx, len(begins) + 1)) - 1
        if at_or_before < 0:
            continue
        index = begins[at_or_before][1]
        shard = at.shard("generate", index)
        manifest = read_manifest(at.manifest_of(shard))
        if manifest is None:
            continue
        if index not in asked:
            asked = {index: {target.problem_id: target for target in _targets(at, plan, index)}}
            if why := changed(run, manifest, shard):
                raise StorageError(
                    f"{run.layout.root}: {why}", hint="put the file back from a copy", blocked=True
                )
        for row in _rows_of(shard, idx):
            if row["problem_id"] == who and (target := asked[index].get(who)):
                with expect_fields(shard):
                    attempt = Attempt.from_dict(row)
                yield Answered("generate", iteration, "", target.to_problem(), attempt, target)


def _targets(at: IterationLayout, plan: IterationPlan, index: int) -> list[Target]:
    path = at.targets_file(index)
    if (found := planned_targets(path, plan.targets[index])) is None:
        raise StorageError(
            f"{path}, what the teacher was asked, is missing, or has changed since the iteration was planned",
            hint="put the file back from a copy; without it nothing of these rows is shown or exported",
            blocked=True,
        )
    return found


def _rows_of(path: Path, idx: int) -> Iterator[dict[str, Any]]:
    """The rows with this idx in a JSONL file that is sorted by it; none where there is no file."""
    if not path.exists():
        return
    with expect_fields(path), open_binary(path) as file:
        file.seek(first_row_from(file, idx))
        for row in map(orjson.loads, file):
            if row["idx"] != idx:
                return
            yield row


def _attempts(at: IterationLayout, shard: Path) -> Iterator[Attempt]:
    """The rows of a shard; of one that is not complete, those of its parts (the last one, where a row was made twice)."""
    files = [shard] if shard.exists() else at.part_files(shard, "*")
    found: dict[tuple[str, int], Attempt] = {}
    for path in files:
        with expect_fields(path):
            rows = read_rows_tolerant(path, ANY_SIZE)
            found |= {(row.problem_id, row.attempt): row for row in map(Attempt.from_dict, rows)}
    yield from found.values()


def _distilled(run: Run, at: IterationLayout, iteration: int) -> Iterator[Answered]:
    for e in read_distilled(at.distilled) if distilled_files(at.distilled) else ():
        problem = Problem(e.id, e.problem, e.gt, e.idx, e.source)
        row = Attempt(e.id, e.idx, e.attempt, e.style, e.teacher_solution, e.verdict, "", "", "stop", 0, e.completion_tokens, 0, 0.0)  # fmt: skip
        yield Answered("merge", iteration, "", problem, row)


def latest_with(run: Run, stage: str) -> int | None:
    """The latest iteration with any row of a stage; None where there is none."""
    numbers = reversed(run.layout.iterations())
    return next((k for k in numbers if next(answered(run, stage, k), None) is not None), None)


def choose_stage(run: Run, stage: str | None, iteration: int | None) -> tuple[str, int]:
    """The stage and iteration to look at: those named, else the student's latest answers, else the teacher's.

    Raises:
        ConfigError: there is nothing of it yet.
    """
    for name in [stage] if stage else ["evaluate", "generate"]:
        number = latest_with(run, name) if iteration is None else iteration
        if number is not None and next(answered(run, name, number), None) is not None:
            return name, number
    there = [
        f"{name} {k}"
        for k in run.layout.iterations()
        for name in TEXT_STAGES
        if next(answered(run, name, k), None)
    ]
    what = f"{stage or 'this run'}{'' if iteration is None else f' of iteration {iteration}'}"
    raise ConfigError(
        f"there are no rows of {what} yet",
        hint=f"what there is (stage, iteration): {', '.join(there) or 'nothing so far'}",
    )


def student_before(iteration: int) -> tuple[str, int]:
    """Stage and iteration of the answers of the student before: of the last iteration, or the untrained one before iteration 0."""
    return ("evaluate", iteration - 1) if iteration else ("baseline", 0)


def fixed_since(run: Run, iteration: int, problem_set: str = "") -> dict[tuple[str, str], Answered]:
    """The problems that the student before had wrong and that are right now, as the report counts them (`is_right`), by set and id: the
    first wrong answer to each."""
    stage, number = student_before(iteration)
    now, before = (
        _shares(run, *student, problem_set) for student in (("evaluate", iteration), (stage, number))
    )
    found: dict[tuple[str, str], Answered] = {}
    for row in answered(run, stage, number, problem_set, counted=True):
        key = (row.problem_set, row.problem.problem_id)
        if row.attempt.verdict != "correct" and not is_right(before[key]) and is_right(now.get(key, 0.0)):
            found.setdefault(key, row)
    return found


def _shares(run: Run, stage: str, number: int, problem_set: str) -> dict[tuple[str, str], float]:
    """The share of right answers to each problem."""
    right: Counter[tuple[str, str]] = Counter()
    answers: Counter[tuple[str, str]] = Counter()
    for row in answered(run, stage, number, problem_set, counted=True):
        key = (row.problem_set, row.problem.problem_id)
        answers[key] += 1
        right[key] += row.attempt.verdict == "correct"
    return {key: share(right[key], answers[key]) for key in answers}


class PromptReader:
    """The prompts of a run as its models read them; templates are loaded once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sets: dict[str, PromptSet] = {}
        self._readers: dict[str, ModelReader] = {}

    def user_turn(self, row: Answered) -> str:
        """What was asked, without the chat template."""
        config = self._run.config
        if row.target is not None:
            return prompt_of(row.target, self._prompts(config.teacher.prompt), config.teacher.instruction)
        return self._prompts(config.student.prompt).student(row.problem.problem, config.student.instruction)

    def as_read(self, row: Answered) -> tuple[str, str]:
        """The prompt with its chat template, and what is to be said of it: empty where it is what the model read."""
        if row.attempt.style == "ground_truth":
            return "", "none: the data's own solution (method.condition: ground_truth)"
        turn = self.user_turn(row)
        remarks = []
        if row.attempt.prompt_sha and row.attempt.prompt_sha != digest(turn):
            remarks.append("the prompt templates were changed since: this is the prompt of today's")
        role = "student" if row.target is None else "teacher"
        text, remark = self._reader(role).read(turn)
        return text, "; ".join([*remarks, *[remark] * bool(remark)])

    def learned(self, row: Answered) -> tuple[str, str]:
        """What the student learns of a row of the distilled set: its tokens in a line, and how many there are."""
        config = self._run.config
        if not config.student.model:
            return "", "no student is named"
        date = self._run.model("student").date
        return learned_tokens(config, row.problem.problem, row.attempt.text, date)

    def _prompts(self, name: str) -> PromptSet:
        if name not in self._sets:
            self._sets[name] = load_prompts(name)
        return self._sets[name]

    def _reader(self, role: str) -> ModelReader:
        if role not in self._readers:
            run = self._run
            model = run.model("teacher" if role == "teacher" else "student")
            engine = (run.config.generate if role == "teacher" else run.config.evaluate).engine
            served = engine.name == "openai" and role not in loaded_models(run.config)
            self._readers[role] = ModelReader(model, served=served)
        return self._readers[role]
