"""merge: all shards checked against the plan, the right rationales kept, the distilled set written.

Three streams in the order of (idx, id) are joined: the problems, the attempts of all shards (each is sorted), and the last
iteration's distilled set. Memory does not grow with the data.
"""

from __future__ import annotations

import heapq
import itertools
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from undo_hpc.data.cards import distilled_card
from undo_hpc.data.distilled import COLUMNS, DistilledWriter, read_distilled
from undo_hpc.errors import DataError, EvidenceError, StorageError, UndoError
from undo_hpc.records import Example
from undo_hpc.selection import Row, accept, combine
from undo_hpc.stages.context import StageContext, gate, previous_evidence
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage.manifest import verify_outputs
from undo_hpc.storage.shards import read_rows

Order = tuple[int, str]  # (idx, id)
Values = tuple[Any, ...]  # an Example's fields, in their order
CHOSEN = itemgetter("text", "attempt", "style", "verdict", "completion_tokens")
AGAIN = "the shards belong to another run or were damaged; delete iter_*/generate of this iteration and run the same command again"
READ_AHEAD = 4 << 20  # bytes, of all shards together
_END: tuple[None, Iterator[Any]] = (None, iter(()))


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
        for examples in selector.stream(problem_stream(ctx), ShardHeads(shards), previous):
            writer.extend(examples)
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

    def stream(self, problems: Iterable[Row], shards: ShardHeads, previous: Path | None) -> Iterator[list[Values]]:
        """The kept rows of each problem, as tuples of Example's fields."""
        old = _grouped(read_distilled(previous)) if previous else iter(())
        old_key, before = next(old, _END)
        take = shards.take
        for problem in problems:
            key = problem["idx"], problem["id"]
            mine = take(key)
            if old_key == key:
                yield self._renew(problem, mine, list(before))
                old_key, before = next(old, _END)
            elif mine:
                yield self._select(problem, mine)
        shards.require_empty()
        if old_key is not None:
            raise EvidenceError(
                f"the last iteration's distilled set holds problem {old_key[1]}, which is not in the splits",
                hint="the set belongs to another run or was damaged; start a new run directory",
            )

    def _select(self, problem: Row, mine: list[Row]) -> list[Values]:
        self.problems += 1
        self.attempts += len(mine)
        kept, dropped = accept(mine, most=self.samples, keep_wrong=self.keep_wrong)
        if dropped:
            self.dropped.update(dropped)
        self.refreshed += bool(kept)
        who, text, gt, source = problem["id"], problem["problem"], problem["gt"], problem.get("source", "")
        rows = []
        for row in kept:
            rationale, attempt, style, verdict, tokens = CHOSEN(row)
            rows.append((who, row["idx"], text, rationale, gt, self.iteration, attempt, style, verdict, tokens, source))
        return rows

    def _renew(self, problem: Row, mine: list[Row], before: list[Example]) -> list[Values]:
        new = [Example(*row) for row in self._select(problem, mine)] if mine else []
        combined = combine(before, new, self.combine)
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
    return heapq.merge(*(read_rows(layout.split(name)) for name in names), key=itemgetter("idx", "id"))


class ShardHeads:
    """The next problem of every shard. Each shard is sorted, so whose turn it is stands at the head of one of them, or of none.

    Raises:
        EvidenceError: a line is no row, or the same problem or attempt stands twice.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if len(paths) + 64 > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, len(paths) + 256), hard))
        buffer = max(4096, min(1 << 16, READ_AHEAD // max(1, len(paths))))
        self._heads: dict[Order, tuple[list[Row], Iterator[tuple[Order, list[Row]]]]] = {}
        for path in paths:
            self._advance(_attempts_by_problem(path, buffer))

    def take(self, key: Order) -> list[Row]:
        """All attempts at a problem, in order; none where no shard has it at its head."""
        found = self._heads.pop(key, None)
        if found is None:
            return []
        rows, rest = found
        self._advance(rest)
        return rows

    def _advance(self, rest: Iterator[tuple[Order, list[Row]]]) -> None:
        for key, rows in rest:
            if key in self._heads:
                raise EvidenceError(f"problem {key[1]} stands twice in the shards", hint=AGAIN)
            self._heads[key] = rows, rest
            return

    def require_empty(self) -> None:
        """Raises EvidenceError where a shard holds what is not among the problems, or not at its place."""
        for _, who in sorted(self._heads):
            raise EvidenceError(f"a shard holds problem {who}, which is not in the splits, stands there twice, or is out of order", hint=AGAIN)


def _attempts_by_problem(path: Path, buffer: int) -> Iterator[tuple[Order, list[Row]]]:
    with path.open("rb", buffering=buffer) as file:
        try:
            for key, group in itertools.groupby(map(orjson.loads, file), key=itemgetter("idx", "problem_id")):
                rows = list(group)
                if len(rows) > 1 and any(a["attempt"] >= b["attempt"] for a, b in itertools.pairwise(rows)):
                    raise EvidenceError(f"an attempt at problem {key[1]} stands twice or is out of order in {path}", hint=AGAIN)
                yield key, rows
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise _blame(path, error) from error


def _blame(path: Path, error: Exception) -> UndoError:
    """The line of a shard that is no row of one, as an error."""
    try:
        for number, row in enumerate(read_rows(path), start=1):
            if not {"idx", "problem_id", "attempt"} <= row.keys():
                return EvidenceError(f"{path}, line {number}: not an attempt at a problem", hint=AGAIN)
    except StorageError as found:
        return found
    return EvidenceError(f"{path}: {error!r}", hint=AGAIN)


def _grouped(examples: Iterable[Example]) -> Iterator[tuple[Order, Iterator[Example]]]:
    return itertools.groupby(examples, key=lambda e: (e.idx, e.id))
