"""One part of a merge: the problems of a range of idx, joined with their attempts and their earlier rationales.

Three streams in the order of (idx, problem_id) are joined: the problems, the attempts (the shards one after another, for they are
contiguous ranges), and the last iteration's distilled set. Memory does not grow with the data.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from undo_hpc.data.distilled import COLUMNS, DistilledFile, read_files
from undo_hpc.errors import EvidenceError, StorageError, UndoError
from undo_hpc.method.selection import Choice, Combine, Row, accept, combine
from undo_hpc.records import Example
from undo_hpc.storage.manifest import Output
from undo_hpc.storage.shards import first_row_from, read_rows

Order = tuple[int, str]  # (idx, problem_id)
Values = tuple[Any, ...]  # an Example's fields, in their order
CHOSEN = itemgetter("text", "attempt", "style", "verdict", "completion_tokens")
ORDER = itemgetter("idx", "problem_id")
AGAIN = "the shards belong to another run or were damaged; delete iter_*/generate of this iteration and run the same command again"
ANOTHER_RUN = "the set belongs to another run or was damaged; start a new run directory"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """A file of attempts, and the greatest idx that it may hold (None has no bound): the first one of the next shard; beside it how likely
    the student finds some of them, where that is asked for."""

    path: Path
    last: int | None
    likelihood: Path | None = None


@dataclass(frozen=True)
class Part:
    """What is joined, and how.

    Attributes:
        low, high: the range of idx, `low` in it and `high` not; None has no bound.
        problems: files of problems that may have rationales.
        shards: files of attempts that may hold some of the range, in order.
        previous: files of the last iteration's distilled set that may hold some of the range.
        target: the parquet file to be written.
        choice, combine: see `method.selection`.
    """

    low: int | None
    high: int | None
    problems: tuple[Path, ...]
    shards: tuple[Shard, ...]
    previous: tuple[Path, ...]
    target: Path
    iteration: int
    choice: Choice
    combine: Combine


@dataclass
class Joined:
    """What came of a part, or of several together."""

    rows: int = 0
    problems: int = 0
    attempts: int = 0
    refreshed: int = 0
    carried: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    outputs: dict[str, Output] = field(default_factory=dict)  # by the name of the file

    def add(self, other: Joined) -> None:
        """Adds another part's counts and files."""
        for name in ("rows", "problems", "attempts", "refreshed", "carried"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dropped += other.dropped
        self.outputs |= other.outputs


def join(part: Part) -> Joined:
    """Writes the part's file, or none where nothing is kept.

    Raises:
        EvidenceError, StorageError: a shard is damaged, or holds what the problems do not.
    """
    joined = Joined()
    with DistilledFile(part.target) as file:
        for rows in _Join(part, joined).kept():
            file.extend(rows)
    joined.rows = file.rows
    if file.output is not None:
        joined.outputs[part.target.name] = file.output
    return joined


class _Join:
    """The three streams, and the counts of what is kept."""

    def __init__(self, part: Part, joined: Joined) -> None:
        self.part, self.joined = part, joined

    def kept(self) -> Iterator[list[Values]]:
        """The kept rows of each problem, as tuples of Example's fields."""
        part = self.part
        attempts = _Head(
            itertools.chain.from_iterable(_attempts(s, part.low, part.high) for s in part.shards)
        )
        earlier = read_files(part.previous, part.low, part.high)
        before = _Head((key, list(rows)) for key, rows in itertools.groupby(earlier, lambda e: (e.idx, e.id)))
        problems = (_problems(path, part.low, part.high) for path in part.problems)
        for problem in heapq.merge(*problems, key=ORDER):
            key = ORDER(problem)
            mine, old = attempts.take(key), before.take(key)
            if old:
                yield self._renew(problem, mine or [], old)
            elif mine:
                yield self._select(problem, mine)
        if attempts.key is not None:
            raise EvidenceError(
                f"a shard holds problem {attempts.key[1]}, which is not in the splits, stands there twice, or is out of order",
                hint=AGAIN,
            )
        if before.key is not None:
            raise EvidenceError(
                f"the last iteration's distilled set holds problem {before.key[1]}, which is not in the splits",
                hint=ANOTHER_RUN,
                blocked=True,
            )

    def _select(self, problem: Row, mine: list[Row]) -> list[Values]:
        joined, iteration = self.joined, self.part.iteration
        joined.problems += 1
        joined.attempts += len(mine)
        choice = self.part.choice
        if (
            len(mine) == 1 and not mine[0]["flags"] and not choice.by_rate
        ):  # nearly all problems of a good teacher
            kept = mine
        else:
            kept, dropped = accept(mine, choice)
            joined.dropped.update(dropped)
        joined.refreshed += bool(kept)
        who, idx, text, gt, source = (
            problem["problem_id"],
            problem["idx"],
            problem["problem"],
            problem["ground_truth"],
            problem.get("source", ""),
        )
        rows = []
        for row in kept:
            rationale, attempt, style, verdict, tokens = CHOSEN(row)
            rows.append((who, idx, text, rationale, gt, iteration, attempt, style, verdict, tokens, source))
        return rows

    def _renew(self, problem: Row, mine: list[Row], before: list[Example]) -> list[Values]:
        new = [Example(*row) for row in self._select(problem, mine)] if mine else []
        combined = combine(before, new, self.part.combine)
        texts = {example.teacher_solution for example in combined}
        for example in new:
            if example not in combined:  # the earlier one of this text stays, or better ones do
                reason = "duplicate" if example.teacher_solution in texts else "surplus"
                self.joined.dropped[reason] += 1
        self.joined.carried += sum(example.iteration != self.part.iteration for example in combined)
        return [tuple(getattr(example, name) for name in COLUMNS) for example in combined]


class _Head(Generic[Item]):
    """The head of a stream in order: `key` is that of its next item, None at its end. An item that is not asked for at its
    turn stays at the head to the end.
    """

    def __init__(self, items: Iterable[tuple[Order, Item]]) -> None:
        self._items = iter(items)
        self.key: Order | None = None
        self._item: Item | None = None
        self._advance()

    def _advance(self) -> None:
        self.key, self._item = next(self._items, (None, None))

    def take(self, key: Order) -> Item | None:
        """The item of a problem; None where another one is at the head."""
        if self.key != key:
            return None
        item = self._item
        self._advance()
        return item


def _attempts(shard: Shard, low: int | None, high: int | None) -> Iterator[tuple[Order, list[Row]]]:
    """The attempts of a shard at each problem of a range.

    Raises:
        EvidenceError, StorageError: a line is no row, an attempt stands twice, or a problem is of another shard.
    """
    path = shard.path
    found = read_rows(shard.likelihood) if shard.likelihood else ()
    likelihood = {(row["problem_id"], row["attempt"]): row["log_p"] for row in found}
    with path.open("rb") as file:
        try:
            if low is not None:
                file.seek(first_row_from(file, low))
            for key, group in itertools.groupby(map(orjson.loads, file), key=ORDER):
                if shard.last is not None and key[0] > shard.last:
                    raise EvidenceError(
                        f"{path}: problem {key[1]} is not in the splits, or belongs to another shard",
                        hint=AGAIN,
                    )
                if high is not None and key[0] >= high:
                    return
                rows = list(group)
                if len(rows) > 1 and any(a["attempt"] >= b["attempt"] for a, b in itertools.pairwise(rows)):
                    raise EvidenceError(
                        f"an attempt at problem {key[1]} stands twice or is out of order in {path}",
                        hint=AGAIN,
                    )
                for row in rows if likelihood else ():
                    row["log_p"] = likelihood.get((row["problem_id"], row["attempt"]))
                yield key, rows
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise _blame(path, error) from error


def _problems(path: Path, low: int | None, high: int | None) -> Iterator[Row]:
    """The problems of a file in a range of idx; its digest was compared already."""
    with path.open("rb") as file:
        if low is not None:
            file.seek(first_row_from(file, low))
        for problem in map(orjson.loads, file):
            if high is not None and problem["idx"] >= high:
                return
            yield problem


def _blame(path: Path, error: Exception) -> UndoError:
    """The line of a shard that is no row of one, as an error."""
    try:
        for number, row in enumerate(read_rows(path), start=1):
            if not {"idx", "problem_id", "attempt"} <= row.keys():
                return EvidenceError(f"{path}, line {number}: not an attempt at a problem", hint=AGAIN)
    except StorageError as found:
        return found
    return EvidenceError(f"{path}: {error!r}", hint=AGAIN)
