"""Files that are broken, disguised or of an odd shape: the message names the file, the line and the remedy."""

from __future__ import annotations

import json
import os
import random
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pytest

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import LoadedProblems, load_problems
from undo_hpc.errors import DataError


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path, **source: Any) -> LoadedProblems:
    return load_problems(SourceConfig(path=str(path), **source))


def test_csv_rows_of_another_width_are_listed_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('problem,answer\n"One\nline?",1\nTwo?,2,3\nThree?,3\n')
    loaded = load(tmp_path / "a.csv")
    assert [p.ground_truth for p in loaded.problems] == ["1", "3"]
    assert (loaded.rejected[0].where, loaded.rejected[0].reason) == (
        "a.csv line 4",
        "the row has 3 cells, the header 2",
    )
    (tmp_path / "a.csv").write_text("problem, answer ,answer\nOne?,1,2\n")
    with pytest.raises(DataError, match="two columns named 'answer'"):
        load(tmp_path / "a.csv")


def test_a_header_of_very_many_columns_takes_no_square_of_their_number(tmp_path: Path) -> None:
    names = [*map(str, range(30_000)), "problem", "answer"]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{','.join(names)}\n")
    start = time.process_time()
    assert len(load(tmp_path / "a.csv").problems) == 1
    assert time.process_time() - start < 5


def test_text_that_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"problem": "a", "answer": 1}\n{"problem": "caf\xe9", "answer": 1}\n'
    )
    with pytest.raises(DataError, match=r"a\.jsonl line 2: not UTF-8"):
        load(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_bytes(b"problem,answer\na,1\ncaf\xe9,2\n")
    with pytest.raises(DataError, match=r"a\.csv line 3: not UTF-8"):
        load(tmp_path / "a.csv")


def test_invalid_json_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"problem": "a", "answer": 1}\n\n{"problem": "b", "answer": 2\n{"problem": "c", "answer": 3}\n'
    )
    with pytest.raises(DataError, match=r"a\.jsonl line 3: invalid JSON"):
        load(path)
    path.write_text('{"problem": "a", "answer": 1},\n{"problem": "b", "answer": 2},\n')
    with pytest.raises(DataError, match=r"line 1: invalid JSON(.|\n)*no comma behind it"):
        load(path)
    path.write_text('{"problem": "a", "answer": ' + "[" * 9000 + "]" * 9000 + "}\n")
    with pytest.raises(DataError, match="line 1: invalid JSON: nested too deeply"):
        load(path)
    (tmp_path / "b.json").write_text('[\n{"problem": "a", "answer": 1},\n{"problem" "b"}\n]')
    with pytest.raises(DataError, match=r"b\.json line 3: invalid JSON"):
        load(tmp_path / "b.json")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfproblem,answer\nOne?,1\n")
    assert load(tmp_path / "a.csv").problems[0].problem == "One?"


def test_files_without_rows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.csv").write_text("problem,answer\n")
    for name in ("a.json", "a.csv"):
        with pytest.raises(DataError, match="no rows"):
            load(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data file"):
        load(tmp_path / "empty")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path / name)


def test_a_broken_parquet_and_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match="no readable parquet"):
        load(tmp_path / "a.parquet")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match="unknown kind"):
        load(tmp_path / "a.xlsx")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "words", "remedy"),
    [
        (LFS, "Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--ab.jsonl\n", "git-annex pointer", "git annex get"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page", "download it again"),
    ],
)
@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.feather", "a.jsonl.gz"]
)
def test_what_is_no_data_at_all(tmp_path: Path, content: bytes, words: str, remedy: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=words) as caught:
            load(path)
        assert remedy in caught.value.hint and name in caught.value.message


@pytest.mark.parametrize(
    ("head", "words"),
    [(b"PAR1\x15", "parquet"), (b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip"), (b"ARROW1\x00", "Arrow")],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_another_kind_of_file_under_a_wrong_name(tmp_path: Path, head: bytes, words: str, name: str) -> None:
    (tmp_path / name).write_bytes(head + b"\x00" * 40)
    with pytest.raises(DataError, match=f"holds .*{words}"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (struct.pack("<3i", 0, 3, 6), struct.pack("<3i", 0, 2**30, 6)),  # where the texts begin
        (struct.pack("<3i", 0, 3, 6), struct.pack("<3i", 0, -(2**31), 6)),
        (b"aaabbb", b"aa\xff\xffbb"),
        (b"problem", b"probl\xffm"),
    ],
)
@pytest.mark.parametrize("name", ["a.arrow", "a.ipc"])
def test_a_damaged_arrow_file_does_not_end_the_process(
    tmp_path: Path, name: str, old: bytes, new: bytes
) -> None:
    table = pyarrow.table({"problem": ["aaa", "bbb"], "answer": ["1", "2"]})
    write = pyarrow.ipc.new_file if name == "a.arrow" else pyarrow.ipc.new_stream
    with write(str(tmp_path / name), table.schema) as file:
        file.write_table(table)
    content = (tmp_path / name).read_bytes()
    assert old in content
    (tmp_path / name).write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match="no readable Arrow file"):
        load(tmp_path / name)


def test_a_parquet_file_with_a_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    """An index into its dictionary that leads out of it was an unexpected error, when its row was read."""
    import pyarrow
    import pyarrow.parquet

    columns = {"problem": [f"p{k % 200}?" for k in range(400)], "answer": [str(k % 7) for k in range(400)]}
    path, chance = tmp_path / "a.parquet", random.Random(3)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="none")
    sound, refused = path.read_bytes(), 0
    for _ in range(200):
        broken = bytearray(sound)
        broken[chance.randrange(4, len(sound) - 8)] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        try:
            load(path)
        except DataError:
            refused += 1
    assert 10 < refused < 200


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather", "csv", "tsv"])
def test_two_columns_of_one_name(tmp_path: Path, kind: str) -> None:
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    path = tmp_path / f"a.{kind}"
    table = pyarrow.table([["p?"], ["1"], ["2"]], names=["problem", "answer", "answer"])
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind in ("csv", "tsv"):
        path.write_text("problem,answer,answer\np?,1,2\n".replace(",", "\t" if kind == "tsv" else ","))
    else:
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(DataError, match="two columns named 'answer'") as caught:
        load(path)
    assert caught.value.exit_code == 2


def test_one_key_twice_in_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"problem": "p?", "answer": 1, "x": {"y": 1}}\n{"problem": "p?", "answer": 1, "answer": 2}\n'
    )
    with pytest.raises(DataError, match="line 2 has two columns named 'answer'"):
        load(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("late.jsonl", "{rows}" + '{"problem": "p?", "answer": 1, "problem": "q?"}\n', "late.jsonl line 41.*'problem'"),
        ("spaced.jsonl", "{rows}" + '{"problem" : "a \\": b", "answer"\t:1, "answer": 2}\n', "line 41.*'answer'"),
        ("list.json", '[{"problem": "p?", "answer": 1, "problem": "q?"}]', "list.json.*'problem'"),
        ("ids.json", '{"q1": {"problem": "p?", "answer": 1}, "q1": {"problem": "q?", "answer": 2}, "q2": {}}', "columns named 'q1'"),
        ("data.json", '{"data": [{"problem": "p?", "answer": 1}], "data": [{"problem": "q?", "answer": 2}]}', "'data'"),
    ],
)  # fmt: skip
def test_one_key_twice_anywhere_loses_no_row(tmp_path: Path, name: str, text: str, key: str) -> None:
    """The last value would win, silently: a text for another, or a row by its id for one that is lost."""
    rows = "".join(json.dumps({"problem": f'{k}? "x": \\', "answer": k}) + "\n" for k in range(40))
    (tmp_path / name).write_text(text.replace("{rows}", rows))
    with pytest.raises(DataError, match=key):
        load(tmp_path / name)
    if name.endswith("l"):
        (tmp_path / name).write_text(rows)
        assert len(load(tmp_path / name).problems) == 40, "a text that looks like a key is none"


def test_a_decimal_of_more_digits_than_a_float_holds_stays_as_it_is_written(tmp_path: Path) -> None:
    written = ["3.14159265358979323", "0.123456789012345678", "123456789012345678.5", "2.5"]
    lines = (f'{{"problem": "{number}?", "answer": {number}}}\n' for number in written)
    (tmp_path / "a.jsonl").write_text("".join(lines))
    assert [p.ground_truth for p in load(tmp_path / "a.jsonl").problems] == written


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"problem": ["a", "b", "c"], "answer": [1, 2]}))
    with pytest.raises(DataError, match="columns of different lengths: 'problem' 3, 'answer' 2"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["5", '"text"', "null", "{}", "[]", '{"problem": [], "answer": []}'])
def test_json_without_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match="holds no rows"):
        load(tmp_path / "a.json")


def test_rows_by_id(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({f"q{i}": {"problem": f"p{i}", "answer": i} for i in range(3)})
    )
    assert [p.ground_truth for p in load(tmp_path / "a.json").problems] == ["0", "1", "2"]


def test_the_first_line_that_excel_writes_names_the_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sep=;\nproblem;answer\n"a, b";1\n')
    assert [(p.problem, p.ground_truth) for p in load(tmp_path / "a.csv").problems] == [("a, b", "1")]


@pytest.mark.parametrize("path", ["x" * 5000, "[", "**a/b*"])
def test_a_path_that_is_none(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError):
        load(tmp_path / path)


@pytest.mark.parametrize("name", ["README.md", "train-2.jsonl", "train-2.csv.gz", "train-2.parquet"])
def test_a_pipe_among_the_files_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    """In a folder of others: whoever opened it waited for ever."""
    write_jsonl(tmp_path / "train.jsonl", [{"problem": "1 + 1?", "answer": 2}])
    os.mkfifo(tmp_path / name)
    found: list[object] = []

    def read() -> None:
        try:
            found.append(len(load(tmp_path).problems))
        except DataError as error:
            found.append(error.message)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    if name == "README.md":
        assert found == [1]
    else:
        assert "it is a pipe or a device" in str(found)
