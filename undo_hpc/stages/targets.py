"""The teacher's work as files: made once with the plan of an iteration, a file for each task of generate, which reads nothing else.

`Targets` reads the splits and the last iteration's feedback as streams, both in the order of (idx, problem_id); `write_targets`
cuts them into files. What is made is a function of its inputs alone, so a file that was lost is made again by `restore_targets`.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import orjson

from undo_hpc.config.schema import MethodConfig
from undo_hpc.errors import DataError, EvidenceError, StorageError
from undo_hpc.method.targets import (
    Fields,
    choose_examples,
    first_target,
    is_chosen,
    learned_splits,
    partners,
    refine_target,
    shown_example,
    shown_past,
    shuffle_group,
)
from undo_hpc.pipeline.plan import IterationPlan, TargetsFile
from undo_hpc.pipeline.run import Run
from undo_hpc.prompts import PromptSet, load_prompts
from undo_hpc.records import SPLITS, ShownExample, Target
from undo_hpc.stages.context import StageContext
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage.atomic import make_folder, publish_dir, sha256_file, translate_os_error, write_bytes
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.manifest import DamagedManifest, read_manifest
from undo_hpc.storage.opening import ANY_SIZE, read_bytes
from undo_hpc.storage.shards import encode_row, read_rows

ORDER = itemgetter("idx", "problem_id")


class Targets:
    """All that the teacher writes for in an iteration, in the order of (idx, problem_id). Iterating reads the files as streams.

    Held are the examples that are shown, and for the control `shuffled` a few numbers a problem (with `history: all`, a few for each
    iteration).
    """

    def __init__(self, run: Run, iteration: int) -> None:
        self._method, self._iteration = run.config.method, iteration
        self._splits = [run.layout.split(name) for name in learned_splits(self._method, iteration)]
        self._feedback = run.layout.iteration(iteration - 1).feedback if iteration else None
        self._given = run.layout.rationales if not iteration and run.layout.rationales.exists() else None
        past = range(iteration - 1) if self._method.history == "all" else ()
        self._past = [(number, run.layout.iteration(number).feedback) for number in past]
        self._examples: tuple[ShownExample, ...] = ()
        self._partners: array[int] | None = None  # offset in the feedback of the row whose attempt is shown
        if self._feedback is None:
            return
        if self._method.examples:
            self._examples = tuple(self._choose_examples(self._feedback, run.config.seed))
        if self._method.condition == "shuffled":
            self._partners = self._choose_partners(self._feedback, run.config.seed + iteration)

    def __iter__(self) -> Iterator[Target]:
        problems = heapq.merge(*map(read_rows, self._splits), key=ORDER)
        if self._feedback is None and self._given is not None:
            return self._with_given(self._given, problems)
        if self._feedback is None:
            return (first_target(problem, self._method) for problem in problems)
        return self._refined(self._feedback, problems)

    def _with_given(self, path: Path, problems: Iterator[Fields]) -> Iterator[Target]:
        """The problems that have rationales already, each with them."""
        for row in read_rows(path):
            problem = next((p for p in problems if ORDER(p) >= ORDER(row)), None)
            if problem is None or ORDER(problem) != ORDER(row):
                raise EvidenceError(
                    f"{path}: problem {row['problem_id']} is not in the splits, or its row is out of order",
                    hint="the file was changed; start a new run directory",
                    blocked=True,
                )
            yield first_target(problem, self._method, row["texts"])

    def _refined(self, path: Path, problems: Iterator[Fields]) -> Iterator[Target]:
        """The chosen rows of the feedback, each beside its problem. Raises EvidenceError for a row without one."""
        chosen = (row for row in read_rows(path) if is_chosen(row, self._method))
        with path.open("rb") as others, ExitStack() as open_files:
            past = [_Past(k, file, self._method, open_files) for k, file in self._past]
            for number, row in enumerate(chosen):
                problem = next((p for p in problems if ORDER(p) >= ORDER(row)), None)
                if problem is None or ORDER(problem) != ORDER(row):
                    raise EvidenceError(
                        f"{path}: problem {row['problem_id']} is not in the splits, or its row is out of order",
                        hint="the file belongs to another run or was changed; start a new run directory",
                        blocked=True,
                    )
                attempt = row if self._partners is None else _row_at(others, self._partners[number])
                history = tuple(shown for each in past if (shown := each.of(row, attempt)))
                yield refine_target(problem, row, attempt, self._method, self._examples, history)

    def _choose_examples(self, path: Path, seed: int) -> Iterator[ShownExample]:
        places, correct = array("q"), []
        for place, row in _rows_with_places(path):
            if row["split"] == self._method.examples_from:
                places.append(place)
                correct.append(row["verdict"] == "correct")
        with path.open("rb") as file:
            for number in choose_examples(correct, self._method.examples, seed):
                yield shown_example(_row_at(file, places[number]), self._method)

    def _choose_partners(self, path: Path, seed: int) -> array[int]:
        places, splits, groups = array("q"), array("b"), array("q")
        numbers: dict[tuple[str, int], int] = {}
        for place, row in _rows_with_places(path):
            if is_chosen(row, self._method):
                places.append(place)
                splits.append(SPLITS.index(row["split"]))
                groups.append(numbers.setdefault(shuffle_group(row), len(numbers)))
        order = sorted(range(len(places)), key=splits.__getitem__)  # split by split
        found = array("q", bytes(8 * len(places)))
        for position, other in enumerate(partners([groups[row] for row in order], seed)):
            found[order[position]] = places[order[other]]
        return found


class _Past:
    """The feedback of an earlier iteration, read beside the last one: both are in the order of (idx, problem_id)."""

    def __init__(self, iteration: int, path: Path, method: MethodConfig, files: ExitStack) -> None:
        self._iteration, self._method = iteration, method
        self._rows = read_rows(path)
        self._next: Fields | None = next(self._rows, None)
        self._places: dict[str, int] = {}
        if method.condition == "shuffled":  # a partner's row may stand anywhere
            self._places = {row["problem_id"]: place for place, row in _rows_with_places(path)}
            self._file = files.enter_context(path.open("rb"))

    def of(self, row: Fields, attempt: Fields) -> ShownExample | None:
        """What was shown and tried then of the row's problem, with its partner's attempt; None where it was not evaluated."""
        while self._next is not None and ORDER(self._next) < ORDER(row):
            self._next = next(self._rows, None)
        mine = self._next
        if mine is None or ORDER(mine) != ORDER(row):
            return None
        if attempt is row:
            return shown_past(mine, mine, self._method, self._iteration)
        place = self._places.get(attempt["problem_id"])
        return (
            None
            if place is None
            else shown_past(mine, _row_at(self._file, place), self._method, self._iteration)
        )


def _rows_with_places(path: Path) -> Iterator[tuple[int, Fields]]:
    """The rows of a JSONL file, each with its offset."""
    place = 0
    with path.open("rb") as file:
        for line, row in zip(file, read_rows(path), strict=True):
            yield place, row
            place += len(line)


def _row_at(file: BinaryIO, place: int) -> Fields:
    file.seek(place)
    row: Fields = orjson.loads(file.readline())
    return row


def check_inputs(run: Run, iteration: int) -> dict[str, str]:
    """Digests of what an iteration's targets are made from: the splits, the last iteration's feedback, and with `history: all` the
    feedback of those before.

    Raises:
        EvidenceError, StorageError: a file is missing or is not what its manifest says.
    """
    inputs = {"splits": prepared_digest(run)}
    if iteration:
        inputs["feedback"] = _feedback_digest(run, iteration, iteration - 1)
    if iteration > 1 and run.config.method.history == "all":
        joined = "".join(_feedback_digest(run, iteration, number) for number in range(iteration - 1))
        inputs["history"] = hashlib.sha256(joined.encode()).hexdigest()
    return inputs


def _feedback_digest(run: Run, iteration: int, number: int) -> str:
    """The digest of an earlier iteration's feedback, from which `iteration` is made; raises as `check_inputs`."""
    before = run.layout.iteration(number)
    try:
        manifest = read_manifest(before.stage_manifest("advance"))
    except DamagedManifest:
        manifest = None
    if manifest is None or not before.feedback.exists():
        gone = before.feedback if manifest else before.stage_manifest("advance")
        raise StorageError(
            f"{gone} is {'damaged' if gone.exists() else 'missing'}, and iteration {iteration} is made from it",
            hint=f"put it back; or move {before.root} and all later iterations away and run the same command again",
            blocked=True,
        )
    digest = sha256_file(before.feedback)
    if digest != manifest.outputs[run.layout.relative(before.feedback)].sha256:
        made_again = run.plan(number + 1) is None
        if made_again:
            _set_aside(run, before.feedback, run.events)
        raise EvidenceError(
            f"{before.feedback} has changed since its manifest was written",
            hint="run the same command again: the file is set aside and made again"
            if made_again
            else f"put it back; or move it away, with iteration {number + 1} and all later ones, and run the same command again",
            blocked=not made_again,
        )
    return digest


def spread(targets: Iterable[Target], total: int, few: int) -> Iterator[Target]:
    """A few of `total` targets, evenly from all of them: what a canary is asked."""
    wanted = {total * k // few for k in range(few)}
    return (target for number, target in enumerate(targets) if number in wanted)


def write_targets(
    run: Run, iteration: int, targets: Iterable[Target], bounds: Sequence[int]
) -> tuple[TargetsFile, ...]:
    """Writes the targets files of an iteration durably; they appear together.

    Args:
        bounds: where each file begins and the last one ends, in rows.
    """
    at = run.layout.iteration(iteration)
    rows = iter(targets)
    for left in at.root.glob(f".{at.targets.name}.*"):  # of a start that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = at.targets.with_name(f".{at.targets.name}.{os.getpid()}-{time.time_ns():x}.tmp")
    files = []
    try:
        with translate_os_error(at.targets):
            make_folder(at.root)
            temporary.mkdir()
            for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
                sha, size, first = hashlib.sha256(), 0, None
                with at.targets_file(index, temporary).open("wb") as file:
                    for target in itertools.islice(rows, stop - start):
                        line = encode_row(target.to_dict())
                        first = target.idx if first is None else first
                        size += len(line)
                        sha.update(line)
                        file.write(line)
                digest = sha.hexdigest()
                files.append(TargetsFile(sha256=digest, bytes=size, rows=stop - start, first=first))
        publish_dir(temporary, at.targets)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return tuple(files)


def restore_targets(run: Run, plan: IterationPlan, indices: Iterable[int]) -> list[int]:
    """Makes targets files again that are missing or have another size than the plan says; returns their indices.

    Raises:
        EvidenceError: what they were made from has changed.
    """
    at = run.layout.iteration(plan.iteration)
    lost = [k for k in indices if _size(at.targets_file(k)) != plan.targets[k]["bytes"]]
    if not lost:
        return []
    unchanged = check_inputs(run, plan.iteration) == plan.inputs
    rows: Iterator[Target] = iter(Targets(run, plan.iteration)) if unchanged else iter(())
    rows = spread(rows, plan.problems, plan.canary_problems) if plan.canary_problems else rows
    for index, file in enumerate(plan.targets[: max(lost) + 1]):
        mine = itertools.islice(rows, file["rows"])
        if index not in lost:
            next(itertools.islice(mine, file["rows"], None), None)  # passes them
            continue
        data = b"".join(encode_row(target.to_dict()) for target in mine)
        if hashlib.sha256(data).hexdigest() != file["sha256"]:
            raise EvidenceError(
                f"{at.targets_file(index)} is missing or damaged, and the splits or the feedback that it was made from have changed",
                hint=f"put it back; or move {at.root} away and run the same command again, which plans the iteration from scratch",
                blocked=True,
            )
        write_bytes(at.targets_file(index), data)
        run.events.append(
            "restored", iteration=plan.iteration, file=run.layout.relative(at.targets_file(index))
        )
    return lost


def _set_aside(run: Run, path: Path, events: EventLog) -> None:
    """Keeps a damaged file under another name, so that it counts as missing and is made again."""
    with translate_os_error(path):
        path.replace(run.layout.damaged(path))
    events.append("set_aside", file=run.layout.relative(path))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def read_targets(ctx: StageContext) -> list[Target]:
    """What a task of generate is asked to do.

    Raises:
        EvidenceError: the file is missing or damaged; a damaged one is set aside, and the launcher makes it again.
    """
    path, planned = ctx.at.targets_file(ctx.task.index), ctx.plan.targets[ctx.task.index]
    deadline = time.monotonic() + ctx.visibility_wait_s
    while _size(path) != planned["bytes"] and time.monotonic() < deadline:
        if path.parent.is_dir():
            list(path.parent.iterdir())  # refreshes an NFS directory cache
        time.sleep(0.5)
    if (targets := planned_targets(path, planned)) is not None:
        return targets
    name, problem = ctx.run.layout.relative(path), "is missing"
    if path.exists():
        problem = "is damaged (its digest is not the one in plan.json)"
        _set_aside(ctx.run, path, ctx.events)
    raise EvidenceError(
        f"{name}, what the teacher is to be asked, {problem}",
        hint="run the launcher again; it makes the file again",
    )


def planned_targets(path: Path, planned: TargetsFile) -> list[Target] | None:
    """The rows of a targets file; None where it is not the file that the plan names."""
    data = read_bytes(path, ANY_SIZE) or b""
    if hashlib.sha256(data).hexdigest() != planned["sha256"]:
        return None
    return [Target.from_dict(orjson.loads(line)) for line in data.splitlines()]


def planned_prompts(plan: IterationPlan, stage: str, name: str) -> PromptSet:
    """The templates that `generate` or `evaluate` asks with.

    Raises:
        DataError: they are not those that the iteration was planned with. Some of its rows may rest on those, and nobody
            could tell an effect of the new words from one of the method.
    """
    prompts = load_prompts(name)
    planned = plan.prompts.get(stage, prompts.digest)
    if prompts.digest != planned:
        raise DataError(
            f"the prompt templates of {stage} ({name}) were changed after iteration {plan.iteration} was planned "
            f"({planned[:8]} then, {prompts.digest[:8]} now)",
            hint=f"put them back as they were; or delete iter_{plan.iteration:03d} of the run directory and run the launcher "
            "again, which has the whole iteration written with the new ones",
        )
    return prompts


def prompt_of(target: Target, prompts: PromptSet, instruction: str) -> str:
    """What the teacher is asked, in words: the plain problem, or the refinement of its last rationale."""
    if target.style == "plain":
        return prompts.problem(target.problem, instruction)
    return prompts.refine(
        target.problem,
        target.rationale,
        target.student_answer,
        target.verdict,
        truth=target.shown_ground_truth,
        examples=target.examples,
        history=target.history,
        score=target.score,
        error_kind=target.error_kind,
        failed_step=target.failed_step,
        instruction=instruction,
    )
