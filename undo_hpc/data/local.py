"""A local source: the files that are meant, read as tables, with their digests; and what was ignored beside them and why."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.fields import resolve
from undo_hpc.data.folders import data_files, files_inside
from undo_hpc.data.rows import read_table, suffix_of
from undo_hpc.data.tables import EmptyFileError, ListTable, Table
from undo_hpc.errors import DataError
from undo_hpc.storage.atomic import sha256_file
from undo_hpc.system.data_files import expanded
from undo_hpc.system.lent import stray_link, undisturbed

log = logging.getLogger(__name__)
Ignored = dict[Path, str]


def open_local(source: SourceConfig, base_dir: Path | None) -> tuple[list[Table], dict[str, Any], str]:
    """The tables of `source.path`, what identifies them (files with digests; `ignored` files with the reason), and a name.

    Of several files, empty ones and JSON documents or other kinds of file without the columns are ignored and listed.

    Raises:
        DataError: nothing is there, a file is broken, or it lacks the columns that are asked for.
    """
    path = _find(source.path, base_dir)
    choices = data_files(
        path, source.split, split_is_asked="split" in source.model_fields_set, config=source.hub_config
    )
    meant = [file for files in choices for file in files if file.exists()]
    for file in meant if path not in meant else ():  # not for one that is named by itself
        if found := stray_link(file, path if path.is_dir() else file.parent):  # yours, or one of a clone
            log.warning("%s is a link to a file outside of the data, %s: its rows are read", *found)
    with undisturbed(meant):
        tables, ignored = _read_first(choices, source)
        digests = {file: sha256_file(file) for file in tables}
    root = path if path.is_dir() else path.parent
    listed, digest = [], hashlib.sha256()
    for file, table in tables.items():
        sha = digests[file]
        digest.update(bytes.fromhex(sha))
        listed.append(
            {"file": _relative(file, root), "sha256": sha, "bytes": file.stat().st_size, "rows": len(table)}
        )
    identity: dict[str, Any] = {
        "kind": "file",
        "path": str(path),
        "files": listed,
        "digest": digest.hexdigest(),
    }
    if path.is_dir():
        others = (file for file in files_inside(path) if file not in tables)
        ignored = {file: ignored.get(file, "of another split or configuration") for file in others}
    if ignored:
        identity["ignored"] = [
            {"file": _relative(file, root), "reason": why} for file, why in ignored.items()
        ]
    return list(tables.values()), identity, path.name


def _find(given: str, base_dir: Path | None) -> Path:
    path = expanded(given)
    tried = [base_dir / path] if base_dir is not None and not path.is_absolute() else []
    tried.append(path)
    try:
        return next(
            (p for p in tried if p.exists()), next((p for p in tried if any(p.parent.glob(p.name))), tried[0])
        )
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a zero byte
        raise DataError(
            f"no such file or folder: {str(path)[:200]!r} ({error})", hint="check the path"
        ) from error


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _read_first(choices: list[list[Path]], source: SourceConfig) -> tuple[dict[Path, Table], Ignored]:
    """The tables of the first choice of files that holds more than documents without the columns (train_info.json beside part-0.jsonl)."""
    passed: Ignored = {}
    for files in choices[:-1]:
        tables = _read_all(files, source, passed)
        if any(not isinstance(table, ListTable) or not table.is_document for table in tables.values()):
            return tables, passed
        lacking = {file: error for file, table in tables.items() if (error := _lacks(table, source))}
        if len(lacking) < len(tables):
            return tables, passed
        passed |= {file: error.message for file, error in lacking.items()}
    return _read_all(choices[-1], source, passed), passed


def _read_all(files: list[Path], source: SourceConfig, ignored: Ignored) -> dict[Path, Table]:
    """The tables of the files; what is left out is written into `ignored`."""
    if len(files) == 1:
        return {files[0]: read_table(files[0], source.split)}
    tables: dict[Path, Table] = {}
    for file in files:
        try:
            tables[file] = read_table(file, source.split)
        except EmptyFileError:
            ignored[file] = "no rows"
    if not tables:
        raise EmptyFileError(
            f"all {len(files)} data files are empty (the first: {files[0]})",
            hint="give files with at least one row",
        )
    lacking = {file: error for file, table in tables.items() if (error := _lacks(table, source))}
    if len(lacking) == len(tables):
        return tables  # the fields are wrong, not the files: the caller says so
    kinds = {suffix_of(file) for file in tables if file not in lacking}
    for file, error in lacking.items():
        table = tables.pop(file)
        if suffix_of(file) in kinds and not (isinstance(table, ListTable) and table.is_document):
            raise DataError(
                error.message, hint=f"{error.hint}; or give a pattern as `path` that leaves this file out"
            )
        ignored[file] = error.message
    return tables


def _lacks(table: Table, source: SourceConfig) -> DataError | None:
    """Why a table has not the columns of the problem and the answer."""
    try:
        resolve(source, table.columns, table.name)
    except DataError as error:
        return error
    return None


def require_one_configuration(
    files: Sequence[str], usable: Mapping[int, int], copies: Mapping[tuple[int, int], int]
) -> None:
    """Refuses folders that hold the same problems over again, as configurations of one data set do.

    Args:
        files: the files' relative paths, in the order of their numbers.
        usable: rows that are problems, by file.
        copies: rows of the second file whose problem stands in the first, too.

    Raises:
        DataError: nine of ten problems of one folder stand in another.
    """
    if len(files) < 2:
        return
    rows: Counter[str] = Counter()
    shared: Counter[tuple[str, str]] = Counter()
    folder = [str(PurePosixPath(file).parent) for file in files]
    for number, count in usable.items():
        rows[folder[number]] += count
    for (first, second), count in copies.items():
        if folder[first] != folder[second]:
            shared[folder[first], folder[second]] += count
    for (one, other), count in shared.items():
        if count >= 2 and count >= 0.9 * min(rows[one], rows[other]):
            raise DataError(
                f"the folders '{one}' and '{other}' hold the same problems ({count} of them), as configurations of one data set do",
                hint="set `hub_config` to the one that is meant, or give its folder as `path`",
            )
