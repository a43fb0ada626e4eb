"""Folders as they lie around: which of their files are meant, and that what is left out is listed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search import examples
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import LoadedProblems, load_problems
from undo_hpc.errors import DataError


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path, **source: Any) -> LoadedProblems:
    return load_problems(SourceConfig(path=str(path), **source))


def test_folders(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    write_jsonl(parts / "b.jsonl", [{"problem": "b", "answer": 1}])
    write_jsonl(parts / "a.jsonl", [{"problem": "a", "answer": 1}, {"problem": "c", "answer": ""}])
    (parts / "notes.md").write_text("not data")
    (parts / "._a.jsonl").write_bytes(b"\0\5\x16\7")  # what macOS puts beside a file
    loaded = load(parts)
    assert [(p.problem, p.idx) for p in loaded.problems] == [("a", 0), ("b", 2)]
    assert [f["file"] for f in loaded.source["files"]] == ["a.jsonl", "b.jsonl"]
    assert loaded.rejected[0].where == "a.jsonl line 2"
    assert [p.problem for p in load(parts / "*.jsonl").problems] == ["a", "b"]
    assert [p.problem for p in load_problems(SourceConfig(path="b*"), base_dir=parts).problems] == ["b"]
    with pytest.raises(DataError, match="no data file matches"):
        load(parts / "*.csv")
    with pytest.raises(DataError) as caught:
        load(Path("$HOME/a.jsonl"))
    assert "are not replaced" in caught.value.hint


def test_a_folder_with_a_train_and_a_test_file_gives_the_split_that_is_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"problem": "a", "answer": 1}])
    write_jsonl(tmp_path / "test.jsonl", [{"problem": "b", "answer": 1}])
    assert [p.problem for p in load(tmp_path).problems] == ["a"]
    assert [p.problem for p in load(tmp_path, split="test").problems] == ["b"]
    with pytest.raises(DataError, match="it has test, train"):
        load(tmp_path, split="validation")


def rows(*names: str) -> list[dict[str, Any]]:
    return [{"problem": f"{name}?", "answer": 1} for name in names]


def ignored(loaded: LoadedProblems) -> dict[str, str]:
    return {item["file"]: item["reason"] for item in loaded.source.get("ignored", [])}


@pytest.mark.parametrize("content", ["", " \n", "[]"])
@pytest.mark.parametrize("name", ["part-0.jsonl", "part-0.json", "part-9.csv"])
def test_empty_parts_are_ignored_and_listed(tmp_path: Path, name: str, content: str) -> None:
    write_jsonl(tmp_path / "part-1.jsonl", rows("a", "b"))
    (tmp_path / name).write_text("problem,answer\n" if name.endswith("csv") else content)
    for path in (tmp_path, tmp_path / "part-*"):
        loaded = load(path)
        assert [p.problem for p in loaded.problems] == ["a?", "b?"]
        assert ignored(loaded) == {name: "no rows"}


def test_an_empty_parquet_part(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"problem": ["a?"], "answer": ["1"]})
    pyarrow.parquet.write_table(table, tmp_path / "part-00000.parquet")
    pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / "part-00001.parquet")
    loaded = load(tmp_path)
    assert len(loaded.problems) == 1 and ignored(loaded) == {"part-00001.parquet": "no rows"}


def test_nothing_but_empty_parts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text("\n")
    with pytest.raises(DataError, match="all 2 data files are empty"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.json", {"name": "mine", "size": 2}),
        ("train_info.json", {"lr": 1e-5, "train": {"epochs": 2}}),
        ("test_config.json", {"a": {"b": 1}, "c": {"d": 2}}),
        ("labels.json", ["easy", "hard"]),
        ("index.json", [{"file": "part-0.jsonl"}]),
        ("columns.json", {"names": ["a", "b"], "types": ["x", "y"]}),
    ],
)
@pytest.mark.parametrize("data", ["part-0.jsonl", "data/part-0.jsonl", "rows.json"])
def test_json_that_is_no_rows_is_ignored_and_listed(
    tmp_path: Path, name: str, content: Any, data: str
) -> None:
    if data == "rows.json":
        if name == "index.json":
            pytest.skip("a list of objects beside another one: the next test")
        (tmp_path / data).write_text(json.dumps(rows("a", "b")))
    else:
        write_jsonl(tmp_path / data, rows("a", "b"))
    (tmp_path / name).write_text(json.dumps(content))
    loaded = load(tmp_path)
    assert [p.problem for p in loaded.problems] == ["a?", "b?"]
    assert list(ignored(loaded)) == [name]


def test_a_part_that_lacks_the_columns_of_the_others_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "part-0.jsonl", rows("a", "b"))
    write_jsonl(tmp_path / "part-1.jsonl", [{"aufgabe": "c?", "antwort": 1}])
    with pytest.raises(DataError, match=r"part-1\.jsonl has no column for the problem(.|\n)*give a pattern"):
        load(tmp_path)


def test_a_wrong_field_is_told_of_the_rows_not_of_what_lies_beside_them(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "part-0.jsonl", [{"aufgabe": "c?", "antwort": 1}])
    write_jsonl(tmp_path / "part-1.jsonl", [{"aufgabe": "d?", "antwort": 1}])
    with pytest.raises(DataError, match="'aufgabe', 'antwort'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "split", "taken"),
    [
        (["aptitude_test_train.jsonl"], "train", [0]),
        (["aptitude_test_train.jsonl", "aptitude_test_dev.jsonl"], "train", [0]),
        (["aptitude_test_train.jsonl", "aptitude_test_dev.jsonl"], "validation", [1]),
        (["test_questions_train.jsonl", "test_questions_test.jsonl"], "test", [1]),
        (["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"], "train", [0, 1]),
        (["data/train-00000-of-00001-0123456789abcdef.jsonl", "data/test-00000-of-00001-0123456789abcdef.jsonl"], "train", [0]),
        (["train/test_questions.jsonl", "test/train_like.jsonl"], "train", [0]),
        (["my.train.jsonl", "my.test.jsonl"], "test", [1]),
        (["Train.jsonl", "TEST.jsonl"], "train", [0]),
        (["training/a.jsonl", "eval/b.jsonl"], "test", [1]),
        (["train_sft-00000-of-00001.jsonl", "test_sft-00000-of-00001.jsonl", "train_gen-00000-of-00001.jsonl"], "train_sft", [0]),
        (["algebra.jsonl", "geometry.jsonl"], "geometry", [1]),
        (["part-0.jsonl", "test.jsonl"], "train", [0]),
        (["contest.jsonl", "latest.jsonl"], "train", [0, 1]),
    ],
)  # fmt: skip
def test_splits_in_names(tmp_path: Path, names: list[str], split: str, taken: list[int]) -> None:
    for number, name in enumerate(names):
        write_jsonl(tmp_path / name, rows(str(number)))
    loaded = load(tmp_path, **({} if split == "train" else {"split": split}))
    assert [p.problem for p in loaded.problems] == [f"{number}?" for number in taken]
    assert sorted(ignored(loaded)) == sorted(set(names) - {names[number] for number in taken})


# ---- configurations ----------------------------------------------------------------------------------------------------

CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
- config_name: socratic
  data_files:
  - {split: train, path: [socratic/train-*]}
---
# A data set
"""


def clone(folder: Path, card: str = "", ending: str = "-00000-of-00001.jsonl") -> Path:
    for config in ("main", "socratic"):
        write_jsonl(
            folder / config / f"train{ending}",
            [{"problem": f"{i}?", "answer": f"{config} #### {i}"} for i in range(3)],
        )
    write_jsonl(folder / "main" / f"test{ending}", rows("held out"))
    if card:
        (folder / "README.md").write_text(card)
    return folder


@pytest.mark.parametrize("card", ["", CARD])
@pytest.mark.parametrize("config", ["main", "socratic"])
@pytest.mark.parametrize("ending", ["-00000-of-00001.jsonl", "-00000.jsonl", ".jsonl"])
def test_the_configuration_that_is_asked_for(tmp_path: Path, card: str, config: str, ending: str) -> None:
    card = card.replace("-*", "*")
    loaded = load(clone(tmp_path, card, ending), hub_config=config)
    assert [p.solution for p in loaded.problems] == [f"{config} #### {i}" for i in range(3)]
    assert not loaded.rejected and len(ignored(loaded)) == 2


@pytest.mark.parametrize("card", ["", CARD])
def test_several_configurations_and_none_is_chosen(tmp_path: Path, card: str) -> None:
    clone(tmp_path, card)
    for config in ("", "mian"):
        with pytest.raises(DataError, match="main, socratic") as caught:
            load(tmp_path, hub_config=config)
        assert "hub_config" in caught.value.hint
    assert len(load(tmp_path / "main").problems) == 3, "a folder may be chosen, too"
    both = load(tmp_path / "*" / "train*")
    assert (len(both.problems), both.duplicates) == (3, 3), "or all, on purpose"


def test_folders_with_the_same_problems_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'main' and 'socratic' hold the same problems"):
        load(clone(tmp_path, ending=".jsonl"))


def test_folders_of_subjects_are_one_data_set(tmp_path: Path) -> None:
    for subject in ("algebra", "geometry"):
        write_jsonl(tmp_path / subject / "train.jsonl", rows(f"{subject} 1", f"{subject} 2"))
    assert len(load(tmp_path).problems) == 4


@pytest.mark.parametrize(
    ("card", "split", "wanted"),
    [
        (CARD.replace("config_name: main", "config_name: main\n  default: true"), "train", "main"),
        (CARD.replace("config_name: socratic", "config_name: default"), "train", "socratic"),
        (CARD.split("- config_name: socratic")[0] + "---\n", "train", "main"),
        ("---\nconfigs:\n- {config_name: x, data_dir: socratic, data_files: '*.jsonl'}\n---\n", "train", "socratic"),
        ("---\nconfigs:\n- {config_name: x, data_files: {train: 'socratic/*', test: main/test*}}\n---\n", "train", "socratic"),
        ("---\nconfigs:\n- {config_name: x, data_dir: socratic}\n- {config_name: default, data_dir: main}\n---\n", "train", "main"),
        ("---\nconfigs:\n- {config_name: x, data_dir: socratic}\n---\n", "train", "socratic"),
        ("---\nconfigs:\n- {config_name: x, data_files: 'main/*'}\n---\n", "train", "main"),
        ("---\nconfigs:\n- {config_name: x, data_files: ['socratic/**', '', '**x', 'https://x/y']}\n---\n", "train", "socratic"),
    ],
)  # fmt: skip
def test_the_card_says_which_files_are_meant(tmp_path: Path, card: str, split: str, wanted: str) -> None:
    loaded = load(clone(tmp_path, card), split=split)
    assert [p.solution for p in loaded.problems] == [f"{wanted} #### {i}" for i in range(3)]


def test_a_split_that_the_card_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'validation'; it has train, test"):
        load(clone(tmp_path, CARD), hub_config="main", split="validation")


@pytest.mark.parametrize(
    "card",
    [
        "---\nconfigs: 5\n---\n",
        "---\n{broken\n---\n",
        "no head",
        "---\nconfigs: [{config_name: x}]\n---\n",
        "---\n- 1\n---\n",
    ],
)
def test_a_card_without_usable_configurations_says_nothing(tmp_path: Path, card: str) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows("a"))
    (tmp_path / "README.md").write_text(card)
    assert len(load(tmp_path).problems) == 1


def test_a_configuration_that_is_nowhere_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "main" / "train.jsonl", rows("a"))
    with pytest.raises(DataError, match=r"no configuration 'other'.*no README"):
        load(tmp_path, hub_config="other")
    for path in (tmp_path, tmp_path / "main"):  # also where the folder of the configuration itself is given
        assert len(load(path, hub_config="main").problems) == 1


def test_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows("a"))
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"cannot read .*b\.jsonl"):
        load(tmp_path)


def test_a_folder_of_several_splits_as_datasets_saves_it(tmp_path: Path) -> None:
    import datasets

    splits = {name: datasets.Dataset.from_list(rows(name, f"{name} more")) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    assert [p.problem for p in load(tmp_path / "saved").problems] == ["train?", "train more?"]
    assert [p.problem for p in load(tmp_path / "saved", split="test").problems] == ["test?", "test more?"]


NAMES = ["train.jsonl", "test.jsonl", "part-0.jsonl", "a_train_b.json", "metadata.json", "main/train-00000-of-00001.jsonl", "other/train-00000-of-00001.jsonl",
         "x.csv", "x.tsv", "val/y.jsonl.gz", "README.md", "z.parquet", "train/sub.d/train.test.jsonl", "Train_1.ndjson"]  # fmt: skip
CONTENTS = [b"", b"[]", b"{}", b'{"problem": "a?", "answer": 1}\n', b'[{"problem": "b?", "answer": 2}]', b"problem,answer\nc?,3\n", b"problem\tanswer\nd?\t4\n",
            b'{"k": {"a": 1}, "l": {"a": 2}}', b"version https://git-lfs.github.com/spec/v1\n", b'{"broken', b"\xff\xfe", CARD.encode(), b"PAR1"]  # fmt: skip


@examples(80)
@given(
    files=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONTENTS), min_size=1, max_size=6),
    split=st.sampled_from(["", "train", "test", "validation", "sub"]),
    config=st.sampled_from(["", "main", "other", "x"]),
)
def test_any_folder_is_read_or_refused(files: dict[str, bytes], split: str, config: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        asked: dict[str, Any] = {"split": split} if split else {}
        try:
            loaded = load(root, hub_config=config, **asked)
        except DataError as error:
            assert error.hint and (
                "data" in error.message or any(Path(name).name in error.message for name in files)
            )
            return
    read = {item["file"] for item in loaded.source["files"]}
    assert read and not read & ignored(loaded).keys()
    assert read | ignored(loaded).keys() == {name for name in files if name != "README.md"}, (
        "each file is read or listed"
    )


def test_a_link_in_a_folder_of_data_that_leads_out_of_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the user's own, or one of an archive: rows of a private file were taught without a word."""
    row = '{"problem": "1 + 1?", "answer": "2"}\n'
    folder, other = tmp_path / "data", tmp_path / "private" / "exam.jsonl"
    folder.mkdir()
    other.parent.mkdir()
    other.write_text(row.replace("1 +", "2 +"))
    (folder / "train-0.jsonl").write_text(row)
    (folder / "train-1.jsonl").symlink_to(other)
    for path in (folder, folder / "train-*.jsonl"):
        caplog.clear()
        assert len(load_problems(SourceConfig(path=str(path))).problems) == 2
        assert f"train-1.jsonl is a link to a file outside of the data, {other}" in caplog.text
    caplog.clear()
    load_problems(SourceConfig(path=str(folder / "train-1.jsonl")))
    assert not caplog.text, "it was named by itself"
