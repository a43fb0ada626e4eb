"""`undo-hpc config` and `undo-hpc init`: what is printed and written loads, and says what each key is for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jsonschema
import pytest

from undo_hpc.cli import main
from undo_hpc.cli.verbs.init import QUESTIONS
from undo_hpc.config.load import load_config
from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.run import create_or_open


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_shown_loads_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    config = load_config("tiny", ["train.learning_rate=0.5"])
    create_or_open(config, root, command=["test"])
    assert main(["config", str(root)]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert load_config(str(again)) == config
    assert main(["config", str(again), "--diff", str(root)]) == 0
    assert "are the same configuration" in " ".join(capsys.readouterr().out.split())
    assert main(["config", "tiny", "--set", "display.report=false", "--diff", str(root)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "display.report: false -> true train.learning_rate: 0.002 -> 0.5 (touches the results)" in told
    assert "2 keys differ" in told


def test_one_section_and_what_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "tiny", "--show", "train.lora"]) == 0
    told = capsys.readouterr().out
    assert "    r: 16" in told and "learning_rate" not in told
    assert main(["config", "tiny", "--show", "--changed"]) == 0
    told = capsys.readouterr().out
    assert "epochs: 6.0    # default: 3.0" in told and "weight_decay" not in told
    assert main(["config", "--show", "trian"]) == 2
    assert "there is no key 'trian'" in capsys.readouterr().err


def test_the_schema_takes_our_presets_and_refuses_a_wrong_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(load_config("tiny").model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"train": {"learning_rat": 1}}, schema)
    assert schema["$defs"]["TrainConfig"]["properties"]["epochs"]["description"]


def test_init_by_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    Path("problems.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
    words = [
        "init",
        "mine.yaml",
        "--data",
        "problems.jsonl",
        "--problem",
        "q",
        "--answer",
        "a",
        "--teacher",
        "T",
        "--student",
        "S",
    ]
    assert main([*words, "--benchmarks", "gsm8k, math500", "--engine", "vllm", "--iterations", "2"]) == 0
    assert "run --config mine.yaml --dry-run" in capsys.readouterr().out
    config = load_config("mine.yaml")
    assert (
        config.data.train.path == str(tmp_path / "problems.jsonl") and config.data.train.fields.problem == "q"
    )
    assert (config.name, config.teacher.model, config.student.model, config.iterations) == (
        "mine",
        "T",
        "S",
        2,
    )
    assert config.evaluate.benchmarks == ["gsm8k", "math500"] and config.generate.engine.name == "vllm"
    text = Path("mine.yaml").read_text()
    assert "# peak learning rate\n  # learning_rate: 1e-05" in text
    untouched = load_config("mine.yaml", ["data.train.path=''", "name=run"])
    assert untouched.train == RunConfig().train, "what is commented out is the default"
    assert main(words) == 2 and "exists already" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0


def test_init_asks_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", Terminal("org/name\n\n\n\nT\nS\n\n\n")
    )  # an empty answer to what must be given is asked again
    assert len(QUESTIONS) == 7
    assert main(["init", str(tmp_path / "my.yaml")]) == 0
    config = load_config(str(tmp_path / "my.yaml"))
    assert config.data.train.hub == "org/name" and config.teacher.model == "T" and config.student.model == "S"


def test_init_writes_nothing_that_would_not_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    path = tmp_path / "my.yaml"
    assert main(["init", str(path), "--teacher", "T"]) == 2
    assert "missing: --data --student" in capsys.readouterr().err
    assert (
        main(["init", str(path), "--data", "x/y", "--teacher", "T", "--student", "S", "--engine", "vlm"]) == 2
    )
    assert f"{path}, line" in (said := capsys.readouterr().err) and "did you mean 'vllm'" in said
    assert main(["init", "my", "--data", "x/y", "--teacher", "T", "--student", "S"]) == 2
    assert list(tmp_path.iterdir()) == []
