"""Grading stored answers again with the present checker: no model is loaded, nothing is generated.

By default it only tells what would change. With `apply` the new verdicts go into the shards, and each manifest is written again: what was made
from another verdict (the distilled set and all behind it, or the metrics) is then stale by its digests, and the next launch makes it again.
Where no verdict has changed, manifests and metrics name the present checker from then on: they are its verdicts, too.
Later iterations began with errors and rationales that have changed: they are moved as they are to `superseded/`, and made again.

A crash between shard and manifest costs no row: the new rows lie in the shard's `.parts` folder first, where a task that is run again finds
all its answers. (One of `generate` then asks, within `max_attempts`, for problems whose attempts are all wrong now.)
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.control.live import query_live
from undo_hpc.errors import EvidenceError, LeaseError
from undo_hpc.grading import GradeItem
from undo_hpc.method.metrics import count_attempts, count_solved
from undo_hpc.method.quality import assess
from undo_hpc.pipeline.plan import Stage, Task, build_graph
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE, followers, is_graded
from undo_hpc.records import NOT_JUDGED, Attempt, Grade, Problem
from undo_hpc.stages.attempts import basis_of, checker_tag
from undo_hpc.stages.checker import AnswerChecker, checker_of
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.stages.verdicts import checker_version
from undo_hpc.storage.atomic import encode_json, translate_os_error, write_bytes
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import (
    Manifest,
    Output,
    describe_output,
    read_manifest,
    sealed,
    unseal,
    verify_outputs,
    write_manifest,
)
from undo_hpc.storage.opening import read_bytes
from undo_hpc.storage.shards import dump_rows, encode_sealed, first_row_from, read_rows
from undo_hpc.system.invocation import cli_hint, display_path
from undo_hpc.system.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """One verdict that differs."""

    iteration: int
    stage: str
    shard: str
    problem_id: str
    idx: int
    attempt: int
    before: str
    after: str
    answer_before: str
    answer_after: str
    method: str
    gt: str


@dataclass
class Regrade:
    """What was found.

    Attributes:
        graded: answers that were graded again.
        changes: verdicts that differ.
        late: answers that were not decided in time now, or of which the judge could not be asked, and that keep their verdict: neither
            the clock nor a server that is down is a checker.
        skipped: tasks without evidence, which have nothing to grade.
        unread: iterations of which answers are damaged, and were not graded.
        again: (iteration, stage) that the next launch makes again, after `apply`.
    """

    graded: int = 0
    changes: list[Change] = field(default_factory=list)
    late: int = 0
    skipped: int = 0
    unread: set[int] = field(default_factory=set)
    again: list[tuple[int, str]] = field(default_factory=list)
    applied: bool = False

    def kinds(self) -> Counter[tuple[int, str, str, str]]:
        """How many changes of each kind: (iteration, stage, before, after)."""
        return Counter((c.iteration, c.stage, c.before, c.after) for c in self.changes)


def regrade(run: Run, *, apply: bool = False, workers: int = 1) -> Regrade:
    """Grades every stored answer of a run again.

    Args:
        apply: write the new verdicts; needs the run for itself.
        workers: processes of the checker.

    Raises:
        LeaseError: with `apply`, where somebody works on the run.
        EvidenceError: an answer belongs to no problem of the run.
    """
    if not apply:
        return _regrade(run, False, workers)
    for number in run.layout.iterations():
        if busy := query_live(run, number).tasks:
            (stage, index), (_, words) = next(iter(busy.items()))
            raise LeaseError(
                f"{stage} {index} of iteration {number} is running or queued ({words}); its verdicts cannot be changed now",
                hint=f"wait, or stop the run first: {cli_hint(f'pause {display_path(run.layout.root)}')}",
            )
    with Lease(run.layout.lease, f"the run directory {run.layout.root}"):
        return _regrade(run, True, workers)


def _regrade(run: Run, apply: bool, workers: int) -> Regrade:
    done = Regrade(applied=apply)
    numbers = run.layout.iterations()
    prepared_digest(run)  # answers are graded against these problems: they are still those that were frozen
    with checker_of(run.config, workers=workers) as checker:
        for number in numbers:
            plan = run.plan(number)
            if plan is None:  # not begun, or moved away just now
                continue
            for stage in build_graph(run.config, run.layout, plan):
                if is_graded(run.config, stage.name):
                    log.info("iteration %d, %s: %s", number, stage.name, counted(len(stage.tasks), "task"))
                    for task in stage.tasks:
                        _task(run, stage, task, checker, done)
    if apply:
        for number in numbers:
            if number not in done.unread and not any(c.iteration <= number for c in done.changes):
                _rename_checker(run, number)
        run.events.append(
            "regraded",
            recorded=True,  # in the manifests; an earlier version recorded it here alone
            checker=checker_version(run.config),
            iterations=numbers,
            changes=len(done.changes),
            kinds={" ".join(map(str, k)): n for k, n in sorted(done.kinds().items())},
        )
    done.again = _again(run, numbers, done.changes)
    return done


def _problems(run: Run, sets: Iterable[str], rows: Sequence[Attempt]) -> dict[str, Problem]:
    """The problems of a shard's rows by id, from these splits or this benchmark: a file in the order of idx is read where they stand."""
    found: dict[str, Problem] = {}
    low, high = min((row.idx for row in rows), default=0), max((row.idx for row in rows), default=-1)
    for path in map(run.problems_file, sets):
        with path.open("rb") as file:
            file.seek(first_row_from(file, low))
            for problem in map(orjson.loads, file):
                if problem["idx"] > high:
                    break
                found[problem["problem_id"]] = Problem.from_dict(problem)
    return found


def _task(run: Run, stage: Stage, task: Task, grader: AnswerChecker, done: Regrade) -> None:
    root = run.layout.root
    manifest = read_manifest(root / task.manifest)
    if manifest is None or verify_outputs(root, manifest, deep=True):
        done.skipped += 1
        done.unread |= {stage.iteration} if manifest else set()
        return
    shards: dict[str, list[Attempt]] = {}
    found = len(done.changes)
    for name in task.outputs or manifest.outputs:  # a stage of the configuration says there what it wrote
        rows = [Attempt.from_dict(row) for row in read_rows(root / name)]
        sets = ("train", "diagnosis") if stage.name == "generate" else (Path(name).parent.name,)
        shards[name] = list(_grade(run, stage, name, rows, _problems(run, sets, rows), grader, done))
    if done.applied and len(done.changes) > found:
        _put_aside_later(
            run, stage.iteration
        )  # first: a crash in between leaves an iteration to make, never a stale one
        _write(run, task, manifest, shards, stage)
    elif done.applied and manifest.details.get("checker") != (checker := checker_version(run.config)):
        write_manifest(
            root / task.manifest, replace(manifest, details=manifest.details | {"checker": checker})
        )


def _rename_checker(run: Run, iteration: int) -> None:
    """The metrics of an iteration in which no verdict has changed are of the present checker.

    Their manifest names their digest, and is written first: a kill in between leaves metrics that are neither believed nor made again,
    for later iterations rest on them. This again finds that they become what the manifest says.
    """
    at, checker = run.layout.iteration(iteration), checker_version(run.config)
    manifest, data, name = (
        read_manifest(at.stage_manifest("advance")),
        read_bytes(at.metrics),
        run.layout.relative(at.metrics),
    )
    if manifest is None or data is None or (known := manifest.outputs.get(name)) is None:
        return
    try:
        unseal(metrics := orjson.loads(data))
        made = {key: value for key, value in metrics["generate"].items() if key != "checkers"}
    except (ValueError, TypeError, AttributeError, KeyError):  # damaged
        return
    renamed = encode_json(sealed(metrics | {"checker": checker, "generate": made}))
    new = Output(hashlib.sha256(renamed).hexdigest(), len(renamed))
    if renamed != data and known.sha256 in (hashlib.sha256(data).hexdigest(), new.sha256):
        write_manifest(
            at.stage_manifest("advance"), replace(manifest, outputs=manifest.outputs | {name: new})
        )
        write_bytes(at.metrics, renamed)


def _grade(
    run: Run,
    stage: Stage,
    name: str,
    rows: list[Attempt],
    problems: dict[str, Problem],
    checker: AnswerChecker,
    done: Regrade,
) -> Iterator[Attempt]:
    items = []
    for row in rows:
        problem = problems.get(row.problem_id)
        if problem is None:
            raise EvidenceError(
                f"{name}: problem {row.problem_id} is not in this run's splits",
                hint="the shard belongs to another run",
                blocked=True,
            )
        items.append(GradeItem(row.text, problem.ground_truth, problem.kind, problem.options))
    for row, grade in zip(rows, checker.grade_many(items), strict=True):
        done.graded += 1
        if grade.verdict != row.verdict and (grade.verdict == "timeout" or grade.method == NOT_JUDGED):
            done.late += 1
            yield row
            continue
        if grade.verdict != row.verdict:
            done.changes.append(_change(stage, name, row, grade, problems[row.problem_id].ground_truth))
        yield _renewed(run, stage.name, row, grade, problems[row.problem_id])


def _change(stage: Stage, name: str, row: Attempt, grade: Grade, gt: str) -> Change:
    return Change(stage.iteration, stage.name, name, row.problem_id, row.idx, row.attempt, row.verdict, grade.verdict,
                  row.answer, grade.answer, grade.method, gt)  # fmt: skip


def _renewed(run: Run, stage: str, row: Attempt, grade: Grade, problem: Problem) -> Attempt:
    """The row with the new verdict; one whose verdict stands keeps every byte."""
    if grade.verdict == row.verdict:
        return row
    flags: tuple[str, ...] = ()
    # Only the teacher's attempts are judged as something to learn from, and the data's own solutions are learned whatever they look like.
    if stage == "generate" and row.style != "ground_truth":
        flags = assess(
            row.text,
            verdict=grade.verdict,
            finish_reason=row.finish_reason,
            config=run.config.generate.quality,
            problem=problem.problem,
        )
    return replace(
        row, verdict=grade.verdict, answer=grade.answer, method=grade.method, flags=flags, error_kind=""
    )


def _write(run: Run, task: Task, manifest: Manifest, shards: dict[str, list[Attempt]], stage: Stage) -> None:
    root, at = run.layout.root, run.layout.iteration(stage.iteration)
    folders: list[Path] = []
    for name, rows in shards.items():
        folder = at.parts(root / name)
        write_bytes(
            at.part(root / name, 0, basis_of(manifest.inputs), f"{checker_tag(run.config)}-regraded"),
            [encode_sealed(row.to_dict()) for row in rows],
        )
        folders.append(folder)
    for name, rows in shards.items():
        write_bytes(root / name, dump_rows([row.to_dict() for row in rows]))
    everything = [row for rows in shards.values() for row in rows]
    fresh: dict[str, Any] = manifest.counts | count_attempts(everything)
    if "solved" in fresh:
        fresh["solved"] = count_solved(everything)
    outputs = {name: describe_output(root / name, len(rows)) for name, rows in shards.items()}
    details = manifest.details | {"regraded": round(time.time(), 3), "checker": checker_version(run.config)}
    write_manifest(root / task.manifest, replace(manifest, outputs=outputs, counts=fresh, details=details))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _put_aside_later(run: Run, iteration: int) -> None:
    """Moves the iterations behind one away, the last first, so that what stands is at any moment a run without gaps."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for number in sorted((k for k in run.layout.iterations() if k > iteration), reverse=True):
        place = run.layout.superseded(number, stamp)
        with translate_os_error(place):
            place.parent.mkdir(exist_ok=True)
            run.layout.iteration(number).root.rename(place)
        run.events.append(
            "superseded", iteration=number, by=f"regrade of iteration {iteration}", moved_to=place.name
        )
        log.info("iteration %d depends on verdicts that have changed: moved to %s", number, place)


def _again(run: Run, numbers: Sequence[int], changes: list[Change]) -> list[tuple[int, str]]:
    """What rests on the changed verdicts, in order: the rest of that iteration, and every later one."""
    if not changes:
        return []
    first = min(c.iteration for c in changes)
    plan = run.plan(first)
    there = [stage.name for stage in build_graph(run.config, run.layout, plan)] if plan else []
    touched = {c.stage for c in changes if c.iteration == first}
    found = [
        (first, name)
        for name in there
        if any(name in (followers(stage) or (LAST_STAGE,)) for stage in touched)
    ]
    later = [k for k in numbers if k > first]
    return found + [(k, "all stages") for k in later]
