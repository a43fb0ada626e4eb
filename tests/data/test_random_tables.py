"""Whatever lies in a file of any format: it is read right, or refused with the cause; never a traceback."""

from __future__ import annotations

import csv
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.data.tables import FORMATS, Rows, csv_text, tables, write
from tests.search import examples
from undo_hpc.config.schema import FieldsConfig, SourceConfig
from undo_hpc.data import LoadedProblems, load_problems
from undo_hpc.errors import DataError, ExitCode

BOUNDED = examples(30, share=0.2, suppress_health_check=list(HealthCheck))


def load(path: Path, **source: Any) -> LoadedProblems:
    return load_problems(SourceConfig(path=str(path), answer_from="plain", **source))


def read(rows: Rows) -> list[tuple[str, str]]:
    return [(row["problem"], row["answer"]) for row in rows]


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(rows=tables())
def test_every_format_gives_the_rows_back(name: str, rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(write(Path(folder), name, rows))
    wanted = [
        (a.replace("\t", " "), b.replace("\t", " ")) if name == "quoted.tsv" else (a, b)
        for a, b in read(rows)
    ]
    assert [(p.problem, p.ground_truth) for p in loaded.problems] == wanted
    assert not loaded.rejected


def test_a_tsv_whose_quotes_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('problem\tanswer\nWhich?\t1\n"one\t2\nand more"\t3\n')
    with pytest.raises(DataError, match="line 3: the quotes can be read in two ways"):
        load(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").write_text('problem\tanswer\n"a"\t"1"\n"b"\t"2"\n"c"d\t"3"\n')
    with pytest.raises(DataError, match="line 4: invalid CSV"):
        load(tmp_path / "a.tsv")


@pytest.mark.parametrize("name", FORMATS)
@BOUNDED
@given(rows=tables(), data=st.data())
def test_a_damaged_file_is_read_or_refused(name: str, rows: Rows, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), name, rows)
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        how = data.draw(st.sampled_from(["cut", "flip", "insert", "drop", "double"]))
        path.write_bytes(
            {
                "cut": whole[:at],
                "flip": whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :],
                "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at:],
                "drop": whole[:at] + whole[at + 1 :],
                "double": whole + whole[at:],
            }[how]
        )
        try:
            loaded = load(path)
        except DataError as error:
            assert error.exit_code == ExitCode.WRONG_INPUT and error.hint and path.name in error.message
            return
    used = loaded.source["used"] + loaded.source["rejected"] + loaded.source["filtered"]
    assert used == loaded.source["rows"], "each row is used or listed"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["proof", "1", "[{", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["problem", "answer", "role", "content", "type", "text", "data", "train", "0"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("options", ["", "options"])
@examples(120, suppress_health_check=list(HealthCheck))
@given(
    value=JSON_VALUES,
    row=st.dictionaries(
        st.sampled_from(["problem", "answer", "solution", "options", "x"]), JSON_VALUES, max_size=5
    ),
)
def test_json_of_any_shape_is_read_or_refused(
    name: str, options: str, value: Any, row: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        for content in (value, row, [row, value], {"train": [row]}):
            path.write_text(json.dumps(content) + "\n", encoding="utf-8")
            try:
                loaded = load_problems(
                    SourceConfig(
                        path=str(path),
                        fields=FieldsConfig(options=options),
                        where={"x": {"not": 1}} if "x" in row else {},
                    ),
                    lenient_where=True,
                )
            except DataError as error:
                assert error.hint
            else:
                assert all(p.problem and p.ground_truth for p in loaded.problems)


ARROW_TYPES: list[Any] = [
    pyarrow.float16(), pyarrow.float32(), pyarrow.float64(), pyarrow.int8(), pyarrow.uint64(), pyarrow.bool_(), pyarrow.string(),
    pyarrow.large_string(), pyarrow.binary(), pyarrow.decimal128(9, 3), pyarrow.date32(), pyarrow.timestamp("ns"), pyarrow.duration("s"),
    pyarrow.list_(pyarrow.float32()), pyarrow.struct([("x", pyarrow.float32())]), pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    pyarrow.map_(pyarrow.string(), pyarrow.int32()), pyarrow.null(),
]  # fmt: skip
EXAMPLES: dict[str, Any] = {"halffloat": 0.1, "float": 0.1, "double": 0.1, "int8": 7, "uint64": 2**64 - 1, "bool": True, "string": "x", "large_string": "x",
            "binary": b"7", "date32[day]": 7, "timestamp[ns]": 7, "duration[s]": 7, "null": None}  # fmt: skip
WANTED = {"halffloat": "0.1", "float": "0.1", "double": "0.1", "int8": "7", "uint64": "18446744073709551615", "bool": "True", "string": "x",
          "large_string": "x", "binary": "7", "decimal128(9, 3)": "2.500"}  # fmt: skip


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
@pytest.mark.parametrize("column", ["answer", "problem"])
def test_every_type_of_column_is_read_right_or_its_rows_are_listed(
    tmp_path: Path, kind: Any, column: str
) -> None:
    name = str(kind)
    if name.startswith("dictionary"):
        values = pyarrow.array(["x", None]).dictionary_encode()
    else:
        nested = {"list": [0.1], "stru": {"x": 0.1}, "map<": [("a", 1)], "deci": Decimal("2.500")}
        values = pyarrow.array([nested.get(name[:4], EXAMPLES.get(name)), None], kind)
    other = "problem" if column == "answer" else "answer"
    table = pyarrow.table({column: values, other: ["p", "q"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    try:
        loaded = load(tmp_path / "a.parquet")
    except DataError as error:
        assert "none of the 2 rows" in error.message and name not in WANTED
    else:
        found = loaded.problems[0].ground_truth if column == "answer" else loaded.problems[0].problem
        wanted = WANTED.get(name, "0.1" if name.startswith("list") else "x")
        assert found == wanted and "missing" in loaded.rejected[0].reason


@BOUNDED
@given(rows=tables())
def test_backslash_quotes_are_read_where_a_file_uses_them(rows: Rows) -> None:
    """As pandas and Spark write CSV with an escape sign; the rest of the file must need it (a quote followed by a letter)."""
    rows = [*rows, {"problem": 'He said "hi", twice', "answer": '"a"b'}]
    text = csv_text(rows, doublequote=False, escapechar="\\", quoting=csv.QUOTE_ALL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.encode())
        loaded = load(path)
    assert [(p.problem, p.ground_truth) for p in loaded.problems] == read(rows)


@BOUNDED
@given(rows=tables(st.sampled_from([*"abc012 ,;\"'\\${}^", "é", '""'])))
def test_quotes_mean_nothing_in_a_tsv_that_does_not_use_them(rows: Rows) -> None:
    rows = [
        *rows,
        {"problem": '"So" it begins', "answer": 'the "end"'},
        {"problem": '"open', "answer": 'close"'},
    ]
    text = "".join(f"{a}\t{b}\n" for a, b in [("problem", "answer"), *read(rows)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tsv"
        path.write_bytes(text.encode())
        loaded = load(path)
    assert [(p.problem, p.ground_truth) for p in loaded.problems] == read(rows)
