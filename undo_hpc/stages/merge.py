"""merge: all shards checked against the plan, the right rationales kept, the distilled set written.

The problems are processed in parts by their idx, a parquet file each, whatever the number of shards; parts and the checks of
digests are spread over the cores that the task was given. How a part is joined stands in `merge_join`.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from signal import SIGKILL
from typing import Any

import orjson

from undo_hpc.data.cards import distilled_card
from undo_hpc.data.distilled import DistilledFolder, file_ranges
from undo_hpc.errors import DataError, EvidenceError, Incomplete
from undo_hpc.method.selection import choice_of
from undo_hpc.stages.context import StageContext, gate, previous_evidence, set_aside_damaged
from undo_hpc.stages.merge_join import Joined, Part, Shard, join
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage.manifest import Manifest, verify_outputs
from undo_hpc.storage.shards import last_row, read_rows
from undo_hpc.system.parent_death import die_with_parent
from undo_hpc.system.wording import counted

PROBLEMS_PER_PART = 16_384
MOST_PROCESSES = 16  # each adds some twenty MiB of its own, and the disk is shared


def run_stage(ctx: StageContext) -> None:
    """Writes the distilled set of the iteration.

    Raises:
        EvidenceError: shards are missing, damaged, or do not hold just the problems of the plan.
        DataError: not one rationale was good enough.
        Incomplete: a merge process was killed.
    """
    # Where every shard is needed, digests are checked while the rows are read; else a damaged one is left out first.
    strict = ctx.plan.policy_of("generate").kind == "all"
    manifests, missing, inputs = gate(ctx, "generate", deep=not strict)
    used = [m.index for m in manifests]
    if "likelihood" in ctx.graph:
        inputs |= gate(ctx, "likelihood")[2]
    inputs["splits"] = prepared_digest(ctx.run)
    previous = ctx.run.layout.iteration(ctx.plan.iteration - 1).distilled if ctx.plan.iteration else None
    if previous is not None:
        inputs["previous"] = previous_evidence(ctx, "merge").digest
    root = ctx.run.layout.root
    total = Joined()
    with DistilledFolder(ctx.at.distilled) as folder:
        parts = list(parts_of(ctx, used, previous, folder.temporary))
        number = process_count(len(parts))
        ctx.say(
            f"{counted(len(parts), 'part')}; processes: {number}, for this task was given {counted(cores_given(), 'core')}"
        )
        with processes(number) as submit:
            joins = [submit(join, part) for part in parts]
            checks = (
                {m.index: submit(verify_outputs, root, m, deep=True) for m in manifests} if strict else {}
            )  # last: small, they even out
            try:
                for done in as_completed(joins):
                    total.add(done.result())
                    folder.make_durable(done.result().outputs)  # while the others are at work
                    ctx.progress.update(done=total.problems, total=ctx.plan.problems, unit="problems")
            except Exception:  # whatever a damaged row does to who reads it, the damage is the reason
                _require_undamaged(ctx, checks)
                raise
            _require_undamaged(ctx, checks)
        _require(total, sum(ctx.plan.targets[index]["rows"] for index in used), manifests)
        folder.card = distilled_card(ctx.run, ctx.plan.iteration, manifests, counts := _counts(total))
        ctx.lease.check()  # leaving the block publishes
    ctx.publish(
        {ctx.at.distilled_card: None},
        {ctx.at.distilled / name: output for name, output in sorted(total.outputs.items())},
        inputs=inputs,
        counts=counts,
        details={"generate_used": used},
        policy=ctx.plan.policy_of("generate").model_dump() | {"missing": [task.index for task in missing]},
    )
    ctx.say(f"{total.rows} rows from {total.attempts} attempts at {total.problems} problems")


def _require_undamaged(ctx: StageContext, checks: dict[int, Future[str]]) -> None:
    """Sets the manifests of shards aside whose digest is another one now. Raises EvidenceError where there are any."""
    damaged = {index: problem for index, check in checks.items() if (problem := check.result())}
    for index, problem in damaged.items():
        set_aside_damaged(ctx, ctx.graph["generate"].tasks[index], problem)
    for problem in damaged.values():
        raise EvidenceError(
            f"merge: {problem}", hint="run the same command again: the shard is generated again"
        )


def parts_of(ctx: StageContext, used: Sequence[int], previous: Path | None, folder: Path) -> Iterator[Part]:
    """The parts, a function of the problems alone: about equal ranges of their idx."""
    layout, config = ctx.run.layout, ctx.run.config
    names = ["train"] if config.method.errors_from == "train" else ["train", "diagnosis"]
    files = tuple(path for path in map(layout.split, names) if path.stat().st_size)
    count = sum(_lines(path) for path in files)
    first = min((next(read_rows(path))["idx"] for path in files), default=0)
    last = max((orjson.loads(last_row(path))["idx"] for path in files), default=0)
    number = max(1, -(-count // PROBLEMS_PER_PART))
    bounds = [None, *(first + (last + 1 - first) * k // number for k in range(1, number)), None]
    shards = list(_shards(ctx, used))
    before = file_ranges(previous) if previous else []
    choice = choice_of(config.method, config.generate.samples)
    for k, (low, high) in enumerate(itertools.pairwise(bounds)):
        yield Part(
            low=low,
            high=high,
            problems=files,
            shards=tuple(
                shard
                for begins, shard in shards
                if (high is None or begins < high)
                and (low is None or shard.last is None or shard.last >= low)
            ),
            previous=tuple(
                path
                for path, least, greatest in before
                if (high is None or least < high) and (low is None or greatest >= low)
            ),
            target=ctx.at.distilled_file(k, folder),
            iteration=ctx.plan.iteration,
            choice=choice,
            combine=config.method.combine,
        )


def _shards(ctx: StageContext, used: Sequence[int]) -> Iterator[tuple[int, Shard]]:
    """The shards that hold anything, in order, each with the idx it begins with."""
    begins = {
        index: first for index, file in enumerate(ctx.plan.targets) if (first := file["first"]) is not None
    }
    after: dict[int, int | None] = dict(zip(begins, [*list(begins.values())[1:], None], strict=False))
    for index in used:
        if index in begins:
            liked = ctx.at.shard("likelihood", index) if "likelihood" in ctx.graph else None
            yield begins[index], Shard(ctx.at.shard("generate", index), after[index], liked)


def cores_given() -> int:
    """Cores that this task may use: its affinity, or less where SLURM gave it less."""
    here = len(os.sched_getaffinity(0))
    return min(here, int(os.environ.get("SLURM_CPUS_PER_TASK") or here))


def process_count(parts: int) -> int:
    """Processes that a merge of so many parts works with."""
    return max(1, min(parts, cores_given(), MOST_PROCESSES))


@contextmanager
def processes(number: int) -> Iterator[Callable[..., Future[Any]]]:
    """A function that submits work: to so many processes of their own, or done at once with one.

    The processes are forked, for what they need is loaded here already; they touch nothing that a thread of this one may
    hold. They end with it, whatever ends it.
    """
    if number < 2:
        yield _at_once
        return
    gc.freeze()  # else a collection in a child would copy all that it shares with us
    pool = ProcessPoolExecutor(number, mp_context=get_context("fork"), initializer=_begin)
    try:
        yield pool.submit
    except BrokenProcessPool as error:
        raise Incomplete(
            "a merge process was killed (out of memory?)",
            hint="give merge more memory (cluster.resources.merge), and run the same command again",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()


def _begin() -> None:
    die_with_parent(SIGKILL)
    gc.disable()  # joining makes rows and no cycles


def _at_once(work: Callable[..., Any], *args: Any, **named: Any) -> Future[Any]:
    done: Future[Any] = Future()
    try:
        done.set_result(work(*args, **named))
    except Exception as error:  # noqa: BLE001 -- told where the result is asked for, as by a process
        done.set_exception(error)
    return done


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _require(total: Joined, problems: int, shards: Sequence[Manifest]) -> None:
    """Raises EvidenceError unless the shards held every problem of their targets, DataError where nothing is kept: with the
    engine's own words where it is the requests that failed."""
    if total.problems != problems:
        raise EvidenceError(
            f"the shards hold {total.problems} problems, their targets {problems}",
            hint="delete iter_*/generate of this iteration and run the same command again",
            blocked=True,
        )
    if not total.rows:
        failed = sum(int(m.counts.get("errors", 0)) for m in shards)
        error = next((words for m in shards if (words := m.details.get("error"))), "")
        if error and failed == total.attempts:
            raise DataError(
                f"the teacher answered none of {total.attempts} requests; the engine's error: {error}",
                hint="correct what it names (generate.engine, teacher.model, the server); these failures are recorded and not asked again: "
                "then delete iter_*/generate of this iteration and run the same command again, or take a new --run-dir for changed keys",
            )
        failures = f"; {failed} of them failed, for example: {error}" if error and failed else ""
        raise DataError(
            f"not one of {total.attempts} attempts is right and good enough to learn from: {dict(total.dropped)}{failures}",
            hint="compare `answer` in iter_*/generate/*.jsonl with `ground_truth` in splits/train.jsonl: are the ground truths "
            "what you meant (data.train.fields, answer_from)? If so: a better teacher or prompt, more attempts, more tokens; a new --run-dir for each",
        )


def _counts(total: Joined) -> dict[str, Any]:
    """What the manifest says."""
    return {
        "problems": total.problems,
        "attempts": total.attempts,
        "refreshed": total.refreshed,
        "carried": total.carried,
        "dropped": dict(sorted(total.dropped.items())),
        "rows": total.rows,
    }
