"""One part of a merge: the problems of a range of idx, joined with their attempts and their earlier rationales.

Three streams in the order of (idx, id) meet: the problems, the attempts of all shards (each is sorted), and the last
iteration's distilled set. Memory does not grow with the data.
"""

from __future__ import annotations

import heapq
import io
import itertools
import math
import os
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from undo_hpc.data.distilled import COLUMNS, DistilledFile, read_distilled
from undo_hpc.errors import EvidenceError, StorageError, UndoError
from undo_hpc.method.selection import Combine, Row, accept, combine
from undo_hpc.records import Example
from undo_hpc.storage.manifest import Output
from undo_hpc.storage.shards import first_row_from, read_rows

Order = tuple[int, str]  # (idx, id)
Values = tuple[Any, ...]  # an Example's fields, in their order
CHOSEN = itemgetter("text", "attempt", "style", "verdict", "completion_tokens")
AGAIN = "the shards belong to another run or were damaged; delete iter_*/generate of this iteration and run the same command again"
READ_AHEAD = 2 << 20  # bytes, of all shards together
_END: tuple[None, Iterator[Any]] = (None, iter(()))


@dataclass(frozen=True)
class Part:
    """What is joined, and how.

    Attributes:
        low, high: the range of idx, `low` in it and `high` not; None has no bound.
        problems: files of problems that may have rationales.
        shards: files of attempts.
        previous: folder of the last iteration's distilled set.
        target: the parquet file to be written.
        samples, keep_wrong, combine: see GenerateConfig and MethodConfig.
    """

    low: int | None
    high: int | None
    problems: tuple[Path, ...]
    shards: tuple[Path, ...]
    previous: Path | None
    target: Path
    iteration: int
    samples: int
    keep_wrong: bool
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
        old = _grouped(read_distilled(part.previous, part.low, part.high)) if part.previous else iter(())
        old_key, before = next(old, _END)
        heads = ShardHeads(part.shards, part.low, part.high)
        take = heads.take
        high = math.inf if part.high is None else part.high
        for problem in heapq.merge(
            *(_problems(path, part.low) for path in part.problems), key=itemgetter("idx", "problem_id")
        ):
            key = problem["idx"], problem["problem_id"]
            if key[0] >= high:
                break
            mine = take(key)
            if old_key == key:
                yield self._renew(problem, mine, list(before))
                old_key, before = next(old, _END)
            elif mine:
                yield self._select(problem, mine)
        heads.require_empty()
        if old_key is not None:
            raise EvidenceError(
                f"the last iteration's distilled set holds problem {old_key[1]}, which is not in the splits",
                hint="the set belongs to another run or was damaged; start a new run directory",
            )

    def _select(self, problem: Row, mine: list[Row]) -> list[Values]:
        joined, iteration = self.joined, self.part.iteration
        joined.problems += 1
        joined.attempts += len(mine)
        if len(mine) == 1 and not mine[0]["flags"]:  # nearly all problems of a good teacher
            kept = mine
        else:
            kept, dropped = accept(mine, most=self.part.samples, keep_wrong=self.part.keep_wrong)
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
        self.joined.carried += sum(example.iteration != self.part.iteration for example in combined)
        return [tuple(getattr(example, name) for name in COLUMNS) for example in combined]


class ShardHeads:
    """The next problem of every shard. Each shard is sorted, so whose turn it is stands at the head of one of them, or of none.

    Raises:
        EvidenceError, StorageError: a line is no row, or the same problem or attempt stands twice.
    """

    def __init__(self, paths: Sequence[Path], low: int | None = None, high: int | None = None) -> None:
        open_shard = _open if _may_open(len(paths)) else _open_each_time
        buffer = max(4096, min(1 << 16, READ_AHEAD // max(1, len(paths))))
        self._heads: dict[Order, tuple[list[Row], Iterator[tuple[Order, list[Row]]]]] = {}
        for path in paths:
            self._advance(_attempts_by_problem(open_shard(path, buffer), path, low, high))

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
            raise EvidenceError(
                f"a shard holds problem {who}, which is not in the splits, stands there twice, or is out of order",
                hint=AGAIN,
            )


def _may_open(files: int) -> bool:
    """Whether this process may hold so many files open at once; its own limit is raised as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft == resource.RLIM_INFINITY or soft >= wanted


def _open(path: Path, buffer: int) -> BinaryIO:
    return path.open("rb", buffering=buffer)


def _open_each_time(path: Path, buffer: int) -> BinaryIO:
    return io.BufferedReader(_Closed(path), buffer)


class _Closed(io.RawIOBase):
    """A file that is open only while it is read from: a run may have more shards than a process may hold files open."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves to an offset from the beginning, from here, or from the end."""
        begin = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._at,
            os.SEEK_END: self._path.stat().st_size if whence == os.SEEK_END else 0,
        }
        self._at = begin[whence] + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fills a buffer from here on; the number of bytes read."""
        with self._path.open("rb", buffering=0) as file:
            count = os.preadv(file.fileno(), [buffer], self._at)
        self._at += count
        return count


def _attempts_by_problem(
    file: BinaryIO, path: Path, low: int | None, high: int | None
) -> Iterator[tuple[Order, list[Row]]]:
    with file:
        try:
            if low is not None:
                file.seek(first_row_from(file, low))
            for key, group in itertools.groupby(map(orjson.loads, file), key=itemgetter("idx", "problem_id")):
                if high is not None and key[0] >= high:
                    return
                rows = list(group)
                if len(rows) > 1 and any(a["attempt"] >= b["attempt"] for a, b in itertools.pairwise(rows)):
                    raise EvidenceError(
                        f"an attempt at problem {key[1]} stands twice or is out of order in {path}",
                        hint=AGAIN,
                    )
                yield key, rows
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise _blame(path, error) from error


def _problems(path: Path, low: int | None) -> Iterator[Row]:
    """The problems of a file from an idx on; its digest was compared already."""
    with path.open("rb") as file:
        if low is not None:
            file.seek(first_row_from(file, low))
        yield from map(orjson.loads, file)


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
