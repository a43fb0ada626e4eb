"""From a source in the configuration to problems with ground truths. Every row is used, listed as rejected, or filtered by wish."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.conditions import SeenValues, meets
from undo_hpc.data.conversations import Unusable
from undo_hpc.data.fields import Columns, column_of, resolve, to_problem, value_of
from undo_hpc.data.local import open_local, require_one_configuration
from undo_hpc.data.many_ids import FirstNumbers
from undo_hpc.data.problem_file import ProblemStore, sorted_numbers
from undo_hpc.data.tables import BadRow, ListTable, Table
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.records import Problem


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not used: its number in the source, where that is, and why."""

    row: int
    where: str
    reason: str


def kind_of(reason: str) -> str:
    """A reason without its particulars, for counting."""
    return reason.split(":")[0].split(" of row")[0]


@dataclass
class LoadedProblems:
    """What a source gave.

    `source` says what was read (files with digests, or the Hub's id and revision; licence) and how many rows there were,
    were looked at, and were filtered by `where`; the columns that were taken (of the first file); and files that were ignored. `rejected`
    lists duplicates, too.
    """

    problems: Sequence[Problem]
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: int = 0
    source: dict[str, Any] = field(default_factory=dict)


def load_problems(
    source: SourceConfig, *, base_dir: Path | None = None, lenient_where: bool = False
) -> LoadedProblems:
    """Reads the problems of a source: a local file or folder, the tiny world, or the Hub.

    With `sample`, rows are drawn in an order that follows from `sample_seed` until so many usable problems are found (or the
    source ends); the problems come in the source's order all the same. `Problem.idx` is the row in the source, counted
    from 0 over all its files.

    Args:
        source: where the problems come from and what their columns mean.
        base_dir: the folder that a relative `path` starts from; where nothing is there, the working directory.
        lenient_where: ignore a condition of `where` whose column the source lacks (it is then named in
            `source['where_ignored']`), for a local copy of a benchmark that holds the wanted rows only.

    Raises:
        ConfigError: no source is given.
        DataError: the source is missing, broken or empty, lacks a column, or none of its rows can be used.
    """
    tables, identity, label = open_source(source, base_dir)
    shapes, ignored = _shapes(tables, source, lenient_where)
    seen = SeenValues(list(source.where))
    out = LoadedProblems(problems=[])
    problems, ends = ProblemStore(), list(accumulate(map(len, tables)))
    first = FirstNumbers()  # by id: which one of `problems` it is
    usable: Counter[int] = Counter()
    copies: Counter[tuple[int, int]] = Counter()
    filtered = looked_at = 0
    for idx, number, index in _order(tables, source):
        if source.sample is not None and len(problems) >= source.sample:
            break
        looked_at += 1
        table, (columns, conditions) = tables[number], shapes[number]
        row = table.row(index)
        try:
            if isinstance(row, BadRow):
                raise Unusable(row.reason)
            values = {key: value_of(row, key) for key in conditions}
            for key, value in values.items():
                seen.add(key, value)
            if not all(meets(value, conditions[key]) for key, value in values.items()):
                filtered += 1
                continue
            problem = to_problem(row, columns, source, idx=idx, label=label)
        except Unusable as reason:
            out.rejected.append(Rejected(idx, table.where(index), str(reason)))
            continue
        usable[number] += 1
        known = first.setdefault(int(problem.problem_id, 16), len(problems))
        if known < len(problems):
            out.duplicates += 1
            kept = problems[known]
            copies[bisect_right(ends, kept.idx), number] += 1
            why = f"duplicate of row {kept.idx}"
            if kept.ground_truth != problem.ground_truth:
                why = f"duplicate with another answer of row {kept.idx}: {problem.ground_truth[:40]!r}, there {kept.ground_truth[:40]!r}"
            out.rejected.append(Rejected(idx, table.where(index), why))
            continue
        problems.append(problem)
    out.problems = problems.in_order()
    out.rejected.sort(key=lambda r: r.row)
    rows = sum(len(table) for table in tables)
    out.source = identity | {
        "licence": source.licence,
        "rows": rows,
        "looked_at": looked_at,
        "filtered": filtered,
        "used": len(out.problems),
        "rejected": len(out.rejected),
        "duplicates": out.duplicates,
    }
    out.source["columns"] = {
        name: column
        for name in ("problem", "answer", "solution", "options")
        if (column := getattr(shapes[0][0], name))
    }
    if source.sample is not None:
        out.source |= {"sample": source.sample, "sample_seed": source.sample_seed}
        out.source |= {"draw": source.draw} if source.draw != "rows" else {}
    if ignored:
        out.source["where_ignored"] = sorted(ignored)
    if not out.problems:
        raise _nothing(label, rows, filtered, out.rejected, seen)
    require_one_configuration([f["file"] for f in identity.get("files", [])], usable, copies)
    return out


def _shapes(
    tables: list[Table], source: SourceConfig, lenient_where: bool
) -> tuple[list[tuple[Columns, dict[str, Any]]], set[str]]:
    """For each table the columns that are meant and the conditions that apply; and the conditions whose column is absent."""
    shapes = []
    ignored: set[str] = set()
    for table in tables:
        absent = [key for key in source.where if column_of(key, table.columns) not in table.columns]
        if absent and not lenient_where:
            raise DataError(
                f"{table.name} has no column '{absent[0]}' for `where`; it has {', '.join(map(repr, table.columns))}",
                hint="remove the condition, or name one of these columns",
            )
        ignored.update(absent)
        there = [name for name in source.fields.metadata if column_of(name, table.columns) in table.columns]
        if len(there) < len(source.fields.metadata) and not lenient_where:
            gone = next(name for name in source.fields.metadata if name not in there)
            raise DataError(
                f"{table.name} has no column '{gone}' for `fields.metadata`; it has {', '.join(map(repr, table.columns))}",
                hint="name one of these columns",
            )
        meant = replace(resolve(source, table.columns, table.name), metadata=tuple(there))
        shapes.append((meant, {key: value for key, value in source.where.items() if key not in absent}))
        table.narrow([column_of(name, table.columns) for name in (*meant.used, *source.where)])
    return shapes, ignored


def _nothing(label: str, rows: int, filtered: int, rejected: list[Rejected], seen: SeenValues) -> DataError:
    reasons = "; ".join(f"{r.where}: {r.reason}" for r in rejected[:3])
    what = f"none of the {rows} rows of {label} can be used"
    if filtered:
        what += f" ({filtered} do not meet `where`: {seen.told()})"
    return DataError(
        f"{what}{': ' + reasons if reasons else ''}", hint="check `fields`, `answer_from` and `where`"
    )


def _order(tables: list[Table], source: SourceConfig) -> Iterator[tuple[int, int, int]]:
    """(row in the source, number of the table, row in the table), in the source's order or in that of the draw."""
    ends = list(accumulate(map(len, tables)))
    total = ends[-1] if ends else 0
    order: Iterable[int] = range(total)
    if source.sample is not None and not source.tiny and source.draw == "datasets":
        from numpy.random import PCG64, Generator

        # `datasets.Dataset.shuffle(seed)` draws so: numpy promises the stream of a bit generator, and PCG64 is its default
        order = map(int, Generator(PCG64(source.sample_seed)).permutation(total))
    elif source.sample is not None and not source.tiny:
        # sorted by a draw for each row: random() is the one method of Random whose values are promised for all versions
        draw = random.Random(source.sample_seed)
        order = sorted_numbers(array("d", (draw.random() for _ in range(total))))
    for idx in order:
        number = bisect_right(ends, idx)
        yield idx, number, idx - (ends[number - 1] if number else 0)


def open_source(source: SourceConfig, base_dir: Path | None) -> tuple[list[Table], dict[str, Any], str]:
    """The tables of a source, what identifies them, and a name. Raises ConfigError where none is given, DataError."""
    if source.path:
        return open_local(source, base_dir)
    if source.tiny:
        return _open_tiny(source)
    if source.hub:
        from undo_hpc.data.hub import read_hub

        table, identity = read_hub(source)
        if not len(table):
            raise DataError(f"{source.hub} has no rows in the split '{source.split}'", hint="check `split`")
        return [table], {"kind": "hub"} | identity, source.hub
    raise ConfigError(
        "no source of problems is given (data.train, or a benchmark's source)",
        hint="set its `path` (a local file or folder), `hub` (a data set on the Hub) or `tiny` (train, test)",
    )


def _open_tiny(source: SourceConfig) -> tuple[list[Table], dict[str, Any], str]:
    from undo_hpc.tiny.world import problems

    if source.sample is None:
        raise ConfigError(
            f"the tiny world has no end: say how many problems of its split '{source.tiny}' you want",
            hint="set `sample` beside `tiny`, e.g. sample: 1000",
        )
    rows = problems(source.tiny, source.sample, source.sample_seed)
    columns = ["problem", "answer", "solution", "steps", "hard"]  # the last two for `where`: how many
    table = ListTable(f"tiny:{source.tiny}", columns, rows)
    return [table], {"kind": "tiny", "split": source.tiny, "seed": source.sample_seed}, table.name
