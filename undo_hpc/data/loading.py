"""From a source in the configuration to problems with ground truths. Every row is used, listed as rejected, or filtered by wish."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.fields import Unusable, as_text, column_of, resolve, to_problem
from undo_hpc.data.rows import BadRow, ListTable, Table, data_files, read_table
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.records import Problem
from undo_hpc.storage.atomic import sha256_file


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
    were looked at, and were left aside by `where`; and the columns that were taken (of the first file). `rejected` lists duplicates, too.
    """

    problems: list[Problem]
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
        lenient_where: leave a condition of `where` aside whose column the source lacks (it is then named in
            `source['where_ignored']`), for a local copy of a benchmark that holds the wanted rows only.

    Raises:
        ConfigError: no source is given.
        DataError: the source is missing, broken or empty, lacks a column, or none of its rows can be used.
    """
    tables, identity, label = _open(source, base_dir)
    shapes = []
    ignored: set[str] = set()
    for table in tables:
        absent = [key for key in source.where if key not in table.columns]
        if absent and not lenient_where:
            raise DataError(
                f"{table.name} has no column '{absent[0]}' for `where`; it has {', '.join(map(repr, table.columns))}",
                hint="remove the condition, or name one of these columns",
            )
        ignored.update(absent)
        meant = resolve(source, table.columns, table.name)
        shapes.append((meant, {key: value for key, value in source.where.items() if key not in absent}))
        table.narrow([column_of(name, table.columns) for name in (*meant.used, *source.where)])
    out = LoadedProblems(problems=[])
    first: dict[str, Problem] = {}
    filtered = looked_at = 0
    for idx, number, index in _order(tables, source):
        if source.sample is not None and len(out.problems) >= source.sample:
            break
        looked_at += 1
        table, (columns, conditions) = tables[number], shapes[number]
        row = table.row(index)
        try:
            if isinstance(row, BadRow):
                raise Unusable(row.reason)
            if any(_plain(row.get(key)) != value for key, value in conditions.items()):
                filtered += 1
                continue
            problem = to_problem(row, columns, source, idx=idx, label=label)
        except Unusable as reason:
            out.rejected.append(Rejected(idx, table.where(index), str(reason)))
            continue
        if problem.problem_id in first:
            out.duplicates += 1
            kept = first[problem.problem_id]
            why = f"duplicate of row {kept.idx}"
            if kept.ground_truth != problem.ground_truth:
                why = f"duplicate with another answer of row {kept.idx}: {problem.ground_truth[:40]!r}, there {kept.ground_truth[:40]!r}"
            out.rejected.append(Rejected(idx, table.where(index), why))
            continue
        first[problem.problem_id] = problem
        out.problems.append(problem)
    out.problems.sort(key=lambda p: p.idx)
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
    if ignored:
        out.source["where_ignored"] = sorted(ignored)
    if not out.problems:
        raise _nothing(label, rows, filtered, out.rejected)
    return out


def _nothing(label: str, rows: int, filtered: int, rejected: list[Rejected]) -> DataError:
    reasons = "; ".join(f"{r.where}: {r.reason}" for r in rejected[:3])
    what = f"none of the {rows} rows of {label} can be used"
    if filtered:
        what += f" ({filtered} do not meet `where`)"
    return DataError(
        f"{what}{': ' + reasons if reasons else ''}", hint="check `fields`, `answer_from` and `where`"
    )


def _plain(value: Any) -> str:
    try:
        return as_text(value, "value")
    except Unusable:
        return ""


def _order(tables: list[Table], source: SourceConfig) -> Iterator[tuple[int, int, int]]:
    """(row in the source, number of the table, row in the table), in the source's order or in that of the draw."""
    places = [(number, index) for number, table in enumerate(tables) for index in range(len(table))]
    order = list(range(len(places)))
    if source.sample is not None and not source.tiny:
        # sorted by a draw for each row: random() is the one method of Random whose values are promised for all versions
        draw = random.Random(source.sample_seed)
        keys = [draw.random() for _ in order]
        order.sort(key=keys.__getitem__)
    return ((idx, *places[idx]) for idx in order)


def _open(source: SourceConfig, base_dir: Path | None) -> tuple[list[Table], dict[str, Any], str]:
    if source.path:
        return _open_local(source, base_dir)
    if source.tiny:
        return _open_tiny(source)
    if source.hub:
        from undo_hpc.data.hub import read_hub

        table, identity = read_hub(source)
        if not len(table):
            raise DataError(f"{source.hub} has no rows in the split '{source.split}'", hint="check `split`")
        return [table], {"kind": "hub"} | identity, source.hub
    raise ConfigError(
        "no source of problems is given",
        hint="set `path` (a local file or folder), `hub` (a data set on the Hub) or `tiny` (train, test)",
    )


def _open_local(source: SourceConfig, base_dir: Path | None) -> tuple[list[Table], dict[str, Any], str]:
    given = Path(source.path).expanduser()
    tried = [base_dir / given] if base_dir is not None and not given.is_absolute() else []
    tried.append(given)
    path = next(
        (p for p in tried if p.exists()), next((p for p in tried if any(p.parent.glob(p.name))), tried[0])
    )
    files = data_files(path, source.split, split_is_asked="split" in source.model_fields_set)
    tables, listed, digest = [], [], hashlib.sha256()
    for file in files:
        table = read_table(file, source.split)
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        sha = sha256_file(file)
        digest.update(bytes.fromhex(sha))
        listed.append({"file": name, "sha256": sha, "bytes": file.stat().st_size, "rows": len(table)})
        tables.append(table)
    identity = {"kind": "file", "path": str(path), "files": listed, "digest": digest.hexdigest()}
    return tables, identity, path.name


def _open_tiny(source: SourceConfig) -> tuple[list[Table], dict[str, Any], str]:
    from undo_hpc.tiny.world import problems

    if source.sample is None:
        raise ConfigError(
            f"the tiny world has no end: say how many problems of its split '{source.tiny}' you want",
            hint="set `sample` beside `tiny`, e.g. sample: 1000",
        )
    rows = problems(source.tiny, source.sample, source.sample_seed)
    table = ListTable(f"tiny:{source.tiny}", ["problem", "answer", "solution"], rows)
    return [table], {"kind": "tiny", "split": source.tiny, "seed": source.sample_seed}, table.name
