"""merge: all shards checked against the plan, the right rationales kept, the distilled set written.

Three streams in the order of (idx, id) are joined: the problems, the attempts of all shards (a k-way merge, for each shard
is sorted), and the last iteration's distilled set. Memory does not grow with the data.
"""

from __future__ import annotations

import heapq
import itertools
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.data.cards import distilled_card
from undo_hpc.data.distilled import COLUMNS, DistilledWriter, read_distilled
from undo_hpc.errors import DataError, EvidenceError
from undo_hpc.records import Example
from undo_hpc.selection import Row, accept, combine
from undo_hpc.stages.context import StageContext, gate, previous_evidence
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage.manifest import verify_outputs
from undo_hpc.storage.shards import read_rows

Order = tuple[int, str]  # (idx, id)


def run_stage(ctx: StageContext) -> None:
    """Writes the distilled set of the iteration.

    Raises:
        EvidenceError: shards are missing, damaged, or do not hold just the problems of the plan.
        DataError: not one rationale was good enough.
    """
    # Where every shard is needed, digests are checked in a thread while the rows are read; else a damaged one is left out first.
    strict = ctx.plan.policy_of("generate").kind == "all"
    manifests, missing, inputs = gate(ctx, "generate", deep=not strict)
    used = [m.index for m in manifests]
    shards = [ctx.at.shard("generate", index) for index in used]
    inputs["splits"] = prepared_digest(ctx.run)
    previous = ctx.run.layout.iteration(ctx.plan.iteration - 1).distilled if ctx.plan.iteration else None
    if previous is not None:
        inputs["previous"] = previous_evidence(ctx, "merge").digest
    selector = Selector(ctx)
    card = distilled_card(ctx.run, ctx.plan.iteration, manifests)
    root = ctx.run.layout.root
    with DistilledWriter(ctx.at.distilled, card) as writer, ThreadPoolExecutor(1) as thread:
        checks = [thread.submit(verify_outputs, root, m, deep=True) for m in manifests] if strict else []
        for examples in selector.stream(problem_stream(ctx), attempt_stream(shards), previous):
            for example in examples:
                writer.add(example)
            if not writer.rows % 2000:
                ctx.progress.update(done=selector.problems, total=ctx.plan.problems, unit="problems")
        if missing:
            selector.require_subset()
        else:
            selector.require_all(ctx.plan.problems)
        if not writer.rows:
            raise DataError(
                f"not one of {selector.attempts} attempts is right and good enough to learn from: {dict(selector.dropped)}",
                hint="look at the shards in iter_*/generate; give the teacher more attempts, tokens or a better prompt",
            )
        for problem in filter(None, (check.result() for check in checks)):
            raise EvidenceError(
                f"merge: {problem}", hint="delete this shard and its manifest, and run the same command again"
            )
        ctx.lease.check()  # leaving the block publishes
    ctx.publish(
        {ctx.at.distilled / "README.md": None},
        writer.outputs,
        inputs=inputs,
        counts=selector.counts() | {"rows": writer.rows},
        details={"generate_used": used},
        policy=ctx.plan.policy_of("generate").model_dump() | {"missing": [task.index for task in missing]},
    )
    ctx.say(f"{writer.rows} rows from {selector.attempts} attempts at {selector.problems} problems")


class Selector:
    """Joins the streams and counts what is kept, what is dropped and why."""

    def __init__(self, ctx: StageContext) -> None:
        config = ctx.run.config
        self.iteration = ctx.plan.iteration
        self.samples = config.generate.samples
        self.keep_wrong = config.method.wrong_rationales == "keep"
        self.combine = config.method.combine
        self.problems = self.attempts = self.refreshed = self.carried = 0
        self.dropped: Counter[str] = Counter()

    def stream(
        self, problems: Iterable[Row], attempts: Iterable[list[Row]], previous: Path | None
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The kept rows of each problem, as tuples of Example's fields."""
        old = _grouped(read_distilled(previous)) if previous else iter(())
        waiting_old = next(old, None)
        groups = iter(attempts)
        group = next(groups, None)
        for problem in problems:
            key = (problem["idx"], problem["id"])
            if group is not None and _order(group[0]) < key:
                raise EvidenceError(
                    f"a shard holds problem {group[0]['problem_id']}, which is not in the splits or stands there twice",
                    hint="the shards belong to another run or were damaged; delete iter_*/generate and run again",
                )
            mine: list[Row] = []
            if group is not None and _order(group[0]) == key:
                mine, group = group, next(groups, None)
            before: list[Example] = []
            if waiting_old is not None and (waiting_old[0].idx, waiting_old[0].id) == key:
                before, waiting_old = waiting_old, next(old, None)
            if mine or before:
                yield self._select(problem, mine, before)
        if group is not None:
            raise EvidenceError(
                f"a shard holds problem {group[0]['problem_id']}, which is not in the splits",
                hint="the shards belong to another run; delete iter_*/generate and run again",
            )
        if waiting_old is not None:
            raise EvidenceError(
                f"the last iteration's distilled set holds problem {waiting_old[0].id}, which is not in the splits",
                hint="the set belongs to another run or was damaged; start a new run directory",
            )

    def _select(self, problem: Row, mine: list[Row], before: list[Example]) -> list[tuple[Any, ...]]:
        if mine:
            self.problems += 1
            self.attempts += len(mine)
        kept, dropped = accept(mine, most=self.samples, keep_wrong=self.keep_wrong)
        if dropped:
            self.dropped.update(dropped)
        self.refreshed += bool(kept)
        rows = [
            (
                problem["id"],
                problem["idx"],
                problem["problem"],
                row["text"],
                problem["gt"],
                self.iteration,
                row["attempt"],
                row["style"],
                row["verdict"],
                row["completion_tokens"],
                problem.get("source", ""),
            )
            for row in kept
        ]
        if not before:
            return rows
        combined = combine(before, [Example(*row) for row in rows], self.combine)
        self.carried += sum(example.iteration != self.iteration for example in combined)
        return [tuple(getattr(example, name) for name in COLUMNS) for example in combined]

    def require_all(self, problems: int) -> None:
        """Raises EvidenceError unless the shards held every planned problem."""
        if self.problems != problems:
            raise EvidenceError(
                f"the shards hold {self.problems} problems, the plan has {problems}",
                hint="delete iter_*/generate of this iteration and run the same command again",
            )

    def require_subset(self) -> None:
        """With shards left out by the policy there is nothing to compare with but that something is there."""
        if not self.problems:
            raise EvidenceError("the complete shards hold no problem at all", hint="look at the logs of generate")

    def counts(self) -> dict[str, Any]:
        """What the manifest says."""
        return {
            "problems": self.problems,
            "attempts": self.attempts,
            "refreshed": self.refreshed,
            "carried": self.carried,
            "dropped": dict(sorted(self.dropped.items())),
        }


def problem_stream(ctx: StageContext) -> Iterator[Row]:
    """The problems that may have rationales, in the order of (idx, id), as a stream."""
    layout = ctx.run.layout
    names = ["train"] if ctx.run.config.method.errors_from == "train" else ["train", "diagnosis"]
    return heapq.merge(*(read_rows(layout.split(name)) for name in names), key=lambda row: (row["idx"], row["id"]))


def attempt_stream(shards: Sequence[Path]) -> Iterator[list[Row]]:
    """The attempts of each problem over all shards, in the order of (idx, id).

    Raises:
        EvidenceError: a shard is out of order, or the same attempt stands twice.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if len(shards) + 64 > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, len(shards) + 256), hard))
    rows = heapq.merge(*map(_shard_rows, shards), key=_attempt_order) if len(shards) > 1 else _shard_rows(shards[0])
    last = None
    for _, group in itertools.groupby(rows, key=_order):
        attempts = list(group)
        for row in attempts:
            key = _attempt_order(row)
            if last is not None and key <= last:
                word = "stands twice" if key == last else "is out of order"
                raise EvidenceError(
                    f"attempt {row['attempt']} of problem {row['problem_id']} {word} in the shards",
                    hint="delete iter_*/generate of this iteration and run the same command again",
                )
            last = key
        yield attempts


def _shard_rows(path: Path) -> Iterator[Row]:
    with path.open("rb", buffering=1 << 16) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise EvidenceError(
                    f"{path}, line {number}: not valid JSON", hint="delete this shard and its manifest, and run again"
                ) from error


def _order(row: Row) -> Order:
    return row["idx"], row["problem_id"]


def _attempt_order(row: Row) -> tuple[int, str, int]:
    return row["idx"], row["problem_id"], row["attempt"]


def _grouped(examples: Iterable[Example]) -> Iterator[list[Example]]:
    for _, group in itertools.groupby(examples, key=lambda e: (e.idx, e.id)):
        yield list(group)
