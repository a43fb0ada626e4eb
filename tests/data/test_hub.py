"""Data sets of the Hub through the real `datasets`, from a Hub on loopback: read with their revision, or refused with the cause."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.hub.server import HubServer, Repo
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.errors import ConfigError, DataError

ROWS = b'{"problem": "a?", "answer": 1}\n{"problem": "b?", "answer": 2}\n'
READ = """
import json, sys, traceback
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.errors import UndoError
for line in sys.stdin:
    try:
        loaded = load_problems(SourceConfig.model_validate_json(line))
        told = {"rows": [[p.problem, p.ground_truth] for p in loaded.problems], "source": loaded.source}
    except UndoError as error:
        told = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception:
        told = {"traceback": traceback.format_exc()}
    print("TOLD", json.dumps(told))
"""


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


SETS: dict[str, dict[str, bytes]] = {
    "plain": {"train.jsonl": ROWS},
    "script": {"script.py": b"class Script: pass", "train.jsonl": ROWS},
    "columns": {"train-1.jsonl": ROWS, "train-2.jsonl": b'{"problem": "c?", "answer": "x", "level": 3}\n'},
    "broken": {"train.jsonl": ROWS + b'{"problem": "c?", "ans'},
    "latin": {"train.csv": b"problem,answer\ncaf\xe9,1\n"},
    "torn": {"train.parquet": parquet(problem=["a?"], answer=["1"])[:-20]},
    "empty": {"README.md": b"# nothing\n"},
    "floats": {
        "train.parquet": parquet(problem=["a?", "b?"], answer=pyarrow.array([0.1, 2.5], pyarrow.float32()))
    },
    "configs": {
        "main/train.jsonl": ROWS,
        "other/train.jsonl": ROWS,
        "README.md": b"---\nconfigs:\n- config_name: main\n  data_files: main/*\n- config_name: other\n  data_files: other/*\n---\n",
    },
    "gated": {"train.jsonl": ROWS},
    "twice": {
        "train.parquet": parquet(problem=["a?"], answer=["1"], x=["2"]).replace(b"problem", b"answer\0")
    },
}
ASKED: dict[str, dict[str, str]] = {
    **{name: {"hub": f"me/{name}"} for name in SETS},
    "absent": {"hub": "me/absent"},
    "split": {"hub": "me/plain", "split": "nonesuch"},
    "config": {"hub": "me/configs", "hub_config": "mian"},
    "main": {"hub": "me/configs", "hub_config": "main"},
    "revision": {"hub": "me/plain", "revision": "v1"},
    "name": {"hub": "no such name!"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, dict[str, str]]]:
    """The Hub with all data sets, and the environment in which it is reached."""
    with HubServer() as server:
        for name, files in SETS.items():
            server.repos[f"datasets/me/{name}"] = Repo(private=False, files=dict(files), commits=["first"])
        server.fault = lambda method, path: (
            403 if path.startswith("/datasets/me/gated/resolve") and path.endswith("jsonl") else None
        )
        home = str(tmp_path_factory.mktemp("hf"))
        yield (
            server,
            os.environ
            | {
                "HF_ENDPOINT": server.url,
                "HF_HOME": home,
                "HF_TOKEN": "writer",
                "HF_HUB_OFFLINE": "0",
                "HF_DATASETS_OFFLINE": "0",
            }
            | {
                "HF_HUB_DISABLE_XET": "1",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "HF_DATASETS_CACHE": f"{home}/datasets",
            },
        )


@pytest.fixture(scope="module")
def told(hub: tuple[HubServer, dict[str, str]]) -> dict[str, dict[str, Any]]:
    """What a process of its own says of each source."""
    lines = "".join(json.dumps(source) + "\n" for source in ASKED.values())
    done = subprocess.run(
        [sys.executable, "-c", READ], input=lines, env=hub[1], capture_output=True, text=True, check=False
    )
    found = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert len(found) == len(ASKED), done.stderr
    return dict(zip(ASKED, found, strict=True))


@pytest.mark.parametrize("name", ["plain", "main", "revision"])
def test_rows_are_read_and_the_revision_is_kept(told: dict[str, dict[str, Any]], name: str) -> None:
    assert told[name].get("rows") == [["a?", "1"], ["b?", "2"]], told[name]
    assert told[name]["source"]["revision"] == f"{1:040x}"


def test_floats_of_32_bits_are_short(told: dict[str, dict[str, Any]]) -> None:
    assert told["floats"]["rows"] == [["a?", "0.1"], ["b?", "2.5"]]


@pytest.mark.parametrize(
    ("name", "words", "remedy"),
    [
        ("script", "loading script", "refs/convert/parquet"),
        ("columns", "level", "refs/convert/parquet"),
        ("broken", "JSON", "fix the file"),
        ("latin", "utf-8", "fix the file"),
        ("torn", "arquet", "fix the file"),
        ("twice", "answer", ""),
        ("empty", "me/empty", "hub"),
        ("gated", "403", "login"),
        ("absent", "no such data set", "login"),
        ("split", "nonesuch", "split"),
        ("config", "main", "hub_config"),
        ("configs", "main", "hub_config"),
        ("name", "no such name!", "hub"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_cause(
    told: dict[str, dict[str, Any]], name: str, words: str, remedy: str
) -> None:
    found = told[name]
    assert found.get("error") == "DataError", found
    assert words in found["message"] and remedy in found["hint"], found
    assert "An error occurred while generating" not in found["message"]


@pytest.mark.parametrize(
    "named",
    [
        "data_files: {home}/credentials.json",
        "data_files: file://{home}/credentials.json",
        "data_files: ../../../{home}/credentials.json",
        "data_files: hf://datasets/me/gated/train.jsonl",
        "data_files: reference://secret.csv::file://{home}/references.json",
        "data_dir: {home}",
        "data_dir: ../gated",
    ],
)
def test_data_files_outside_of_the_data_set_are_refused(
    hub: tuple[HubServer, dict[str, str]], tmp_path: Path, named: str
) -> None:
    """The head of a README may name any file of ours as rows of the data set, which a run then copies and publishes."""
    server, variables = hub
    (tmp_path / "credentials.json").write_text('{"token":"s3cret"}\n')
    (tmp_path / "secret").write_text("no,json\nbut,s3cret\n")
    (tmp_path / "references.json").write_text(json.dumps({"secret.csv": [str(tmp_path / "secret")]}))
    head = (
        "---\nconfigs:\n- config_name: first\n  data_files: a.csv\n- config_name: default\n  default: true\n"
        "  names: [problem, answer]\n  sep: '\"'\n  quoting: 3\n  usecols: [problem, answer]\n  "
    )
    server.repos["datasets/me/thief"] = Repo(
        private=False,
        files={
            "README.md": f"{head}{named.format(home=tmp_path)}\n---\n".encode(),
            "a.csv": b"problem,answer\na,1\n",
        },
        commits=["first"],
    )
    line = SourceConfig(hub="me/thief").model_dump_json()
    environment = variables | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_DATASETS_CACHE": str(tmp_path / "hf" / "d"),
    }
    done = subprocess.run(
        [sys.executable, "-c", READ], input=line, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.partition("TOLD ")[2])
    assert "outside of it" in found.get("message", ""), found


@pytest.mark.parametrize(
    "named", ["data_files: {home}/credentials.json", "data_dir: {home}", "data_files: ../*.json"]
)
def test_a_folder_names_no_data_files_outside_of_it(tmp_path: Path, named: str) -> None:
    """Of a folder `datasets` reads what its README names, wherever that lies."""
    (tmp_path / "credentials.json").write_text('{"token": "s3cret"}\n')
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.csv").write_text("problem,answer\na,1\n")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: first\n  data_files: a.csv\n- config_name: default\n  default: true\n  column_names: [problem]\n"
        f"  sep: '|'\n  {named.format(home=tmp_path)}\n---\n"
    )
    with pytest.raises(DataError, match="outside of it"):
        load_problems(SourceConfig(hub=str(folder)))


def test_prefetching_a_data_set_with_a_script_is_a_finding(
    hub: tuple[HubServer, dict[str, str]], tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "data: {train: {hub: me/script}}\nevaluate: {benchmarks: []}\nteacher: {model: 'tiny:teacher'}\nstudent: {model: 'tiny:student'}\n"
    )
    command = [sys.executable, "-m", "undo_hpc.cli", "doctor", "--config", str(config), "--prefetch"]
    done = subprocess.run(command, env=hub[1], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (
        "loading script" in " ".join(done.stdout.split()) and "Traceback" not in done.stdout + done.stderr
    ), done.stdout + done.stderr
    assert done.returncode != 0


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE is set for all tests: nothing is asked of a network, and the hint says what to do."""
    with pytest.raises(DataError, match="cannot be reached") as caught:
        load_problems(SourceConfig(hub="nobody-such/no-such-data-set"))
    assert "`path`" in caught.value.hint


def test_a_row_that_cannot_be_decoded_is_listed(tmp_path: Path) -> None:
    """`datasets` reads a directory as it reads the Hub; a text column whose bytes are no UTF-8 comes through Arrow unread."""
    bad = pyarrow.array([b"a?", b"caf\xe9?"], pyarrow.binary()).view(pyarrow.string())
    folder = tmp_path / "data"
    folder.mkdir()
    pyarrow.parquet.write_table(
        pyarrow.table({"problem": bad, "answer": ["1", "2"]}), folder / "train.parquet"
    )
    for source in (SourceConfig(path=str(folder)), SourceConfig(hub=str(tmp_path))):
        loaded = load_problems(source)
        assert [p.problem for p in loaded.problems] == ["a?"]
        assert "cannot be decoded" in loaded.rejected[0].reason


@pytest.mark.parametrize("kind", ["Audio", "Image", "Video", "Pdf"])
@pytest.mark.parametrize("nested", [False, True])
def test_no_row_names_a_file_or_an_address_that_is_opened(
    kind: str, nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` decodes pictures and sound from wherever a row says, with packages that are no part of this project's, and asks an address for
    minutes: they are no text, and come as they are stored."""
    place = pyarrow.array(
        [{"bytes": None, "path": "https://other.example/x"}],
        pyarrow.struct({"bytes": "binary", "path": "string"}),
    )
    text, feature = {"_type": "Value", "dtype": "string"}, {"_type": kind}
    if nested:
        place, feature = pyarrow.array([place.to_pylist()], pyarrow.list_(place.type)), {"_type": "List", "feature": feature}  # type: ignore[dict-item]  # fmt: skip
    features = {"info": {"features": {"problem": feature, "text": text, "answer": text}}}
    table = pyarrow.table({"problem": place, "text": ["a?"], "answer": ["1"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data/train.parquet")
    asked: list[object] = []
    monkeypatch.setattr(f"datasets.{kind}.decode_example", lambda *words, **named: asked.append(words))
    with pytest.raises(DataError, match=r"\('problem'\) is no text"):
        load_problems(SourceConfig(hub=str(tmp_path)))
    loaded = load_problems(SourceConfig(hub=str(tmp_path), fields={"problem": "text"}))
    assert [p.problem for p in loaded.problems] == ["a?"] and not asked


def test_the_hub_reader_on_a_data_set_directory(tmp_path: Path) -> None:
    """`datasets` reads a directory as it reads the Hub; the reader's own code is the same."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(ROWS)
    loaded = load_problems(SourceConfig(hub=str(tmp_path), sample=1))
    assert len(loaded.problems) == 1
    assert loaded.source["kind"] == "hub"
    assert loaded.source["rows"] == 2
    with pytest.raises(DataError, match="split"):
        load_problems(SourceConfig(hub=str(tmp_path), split="nonesuch"))


@pytest.mark.parametrize("version", ["ABSOLUTE", "../../../elsewhere"])
def test_a_readme_names_no_place_outside_of_the_cache(tmp_path: Path, version: str) -> None:
    """The version of a configuration is a folder to `datasets`, which makes it, and empties it first: any folder of ours was replaced."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    place = version.replace("ABSOLUTE", str(tmp_path / "elsewhere"))
    head = f"---\nconfigs:\n- {{config_name: default, data_files: a.jsonl, version: {place}}}\n---\n"
    (tmp_path / "set/README.md").write_text(head)
    with pytest.raises(DataError, match="a place outside of the cache"):
        load_problems(SourceConfig(hub=str(tmp_path / "set")))
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_out_of_a_data_set_directory_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unpacked one brought private rows without a word."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    (tmp_path / "exam.jsonl").write_text('{"problem": "2 + 2?", "answer": "4"}\n')
    (tmp_path / "set/b.jsonl").symlink_to(tmp_path / "exam.jsonl")
    load_problems(SourceConfig(hub=str(tmp_path / "set")))
    assert any("is a link to a file outside of the data" in message for message in caplog.messages)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_another_users_link_in_a_shared_cache_brings_no_rows_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(ROWS)
    source = SourceConfig(hub=str(folder))
    assert len(load_problems(source).problems) == 2
    cached = next((tmp_path / "cache").rglob("*.arrow"))
    cached.rename(tmp_path / "ours.arrow")
    (tmp_path / "ours.arrow").chmod(0o600)
    cached.symlink_to(tmp_path / "ours.arrow")
    os.chown(cached, 54321, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match="is a link of another user"):
        load_problems(source)


def test_a_folder_that_is_named_as_a_data_set_of_the_hub_is_not_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write where a command is typed could give a benchmark other problems."""
    (tmp_path / "openai" / "gsm8k").mkdir(parents=True)
    (tmp_path / "openai" / "gsm8k" / "test.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 3"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"openai/gsm8k is meant from the Hub.*would take the folder"):
        load_problems(SourceConfig(hub="openai/gsm8k", split="test"))
