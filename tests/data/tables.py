"""Random tables, written as the programs of others write them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
from hypothesis import strategies as st

Rows = list[dict[str, str]]

# What problems and answers are made of: LaTeX, quotes, delimiters, line ends, signs of other alphabets, nothing that is stripped away.
_SIGNS = st.sampled_from(
    [*"abcxyz0123456789 ,;|\"'\\{}$^_&#\t=+-", "\n", "\r\n", "\u2028", "\x85", "é", "π", "数", '""', '\\"']
)


def texts(prefix: str, signs: st.SearchStrategy[str] = _SIGNS) -> st.SearchStrategy[str]:
    """Texts that begin and end with a letter, so that no reader's stripping counts."""
    return st.lists(signs, max_size=12).map(lambda parts: f"{prefix}{''.join(parts)}z")


def tables(signs: st.SearchStrategy[str] = _SIGNS) -> st.SearchStrategy[Rows]:
    """Tables of different problems, each with an answer on one line."""
    one_line = signs.filter(lambda sign: not set(sign) & set("\n\r\u2028\x85"))
    row = st.fixed_dictionaries({"problem": texts("Q", signs), "answer": texts("A", one_line)})
    return st.lists(row, min_size=1, max_size=6).map(
        lambda rows: [{**row, "problem": f"{i}: {row['problem']}"} for i, row in enumerate(rows)]
    )


def csv_text(rows: Rows, delimiter: str = ",", **dialect: Any) -> str:
    """The rows with a header, as the csv module writes them."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["problem", "answer"], delimiter=delimiter, **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _arrow(rows: Rows) -> pyarrow.Table:
    return pyarrow.Table.from_pylist(rows)


def _parquet(rows: Rows) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(_arrow(rows), out)
    return out.getvalue()


def _feather(rows: Rows) -> bytes:
    out = io.BytesIO()
    pyarrow.feather.write_feather(_arrow(rows), out)
    return out.getvalue()


def _stream(rows: Rows) -> bytes:
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, _arrow(rows).schema) as writer:
        writer.write_table(_arrow(rows))
    return out.getvalue()


def _lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _cells(rows: Rows) -> list[list[str]]:
    return [[row["problem"], row["answer"]] for row in rows]


def _by_column(rows: Rows) -> dict[str, list[str]]:
    return {name: [row[name] for row in rows] for name in ("problem", "answer")}


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "lines.jsonl": _lines,
    "utf8.jsonl": lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows).encode(),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + _lines(rows),
    "packed.jsonl.gz": lambda rows: gzip.compress(_lines(rows)),
    "packed.ndjson.bz2": lambda rows: bz2.compress(_lines(rows)),
    "list.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "list.jsonl": lambda rows: json.dumps(rows).encode(),
    "wrapped.json": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "splits.json": lambda rows: json.dumps({"test": [{"problem": "t", "answer": "1"}], "train": rows}).encode(),
    "columns.json": lambda rows: json.dumps(_by_column(rows)).encode(),
    "columns.jsonl": lambda rows: json.dumps(_by_column(rows)).encode(),
    "pandas.json": lambda rows: json.dumps({k: {str(i): x for i, x in enumerate(v)} for k, v in _by_column(rows).items()}).encode(),
    "split.json": lambda rows: json.dumps({"columns": ["problem", "answer"], "index": list(range(len(rows))), "data": _cells(rows)}).encode(),
    "comma.csv": lambda rows: csv_text(rows).encode(),
    "semicolon.csv": lambda rows: csv_text(rows, ";").encode(),
    "unix.csv": lambda rows: csv_text(rows, lineterminator="\n", quoting=csv.QUOTE_ALL).encode(),
    "quoted.tsv": lambda rows: csv_text([{k: v.replace("\t", " ") for k, v in row.items()} for row in rows], "\t").encode(),
    "table.parquet": _parquet,
    "table.feather": _feather,
    "table.arrow": _stream,
}  # fmt: skip


def write(folder: Path, name: str, rows: Rows) -> Path:
    """A table in one of the FORMATS."""
    path = folder / name
    path.write_bytes(FORMATS[name](rows))
    return path
