"""Parts alone: what the verbs and the reference's flags mean as keys, and how `--until` cuts a run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.cli import main
from undo_hpc.cli.parts import short, source_sets
from undo_hpc.cli.reference import student_config, student_parser, teacher_config, teacher_parser
from undo_hpc.cli.run_iteration import build_parser, read_config
from undo_hpc.cli.verbs import evaluate, generate, train
from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.layout import Layout
from undo_hpc.storage.atomic import write_json


def asked_of(verb: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> RunConfig:
    """The configuration that a verb would run."""
    found: list[RunConfig] = []
    monkeypatch.setattr(
        "undo_hpc.cli.parts.run_part", lambda arguments, config, console: found.append(config) or 0
    )
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    verb.run(parser.parse_args(words), None)
    return found[0]


def test_generate_is_a_run_that_ends_behind_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked_of(generate, monkeypatch, "me/teacher", "me/problems", "--limit", "7", "--set", "seed=3")
    assert (config.until, config.iterations, config.seed) == ("merge", 1, 3)
    assert (config.teacher.model, config.data.train.hub, config.data.train.sample) == (
        "me/teacher",
        "me/problems",
        7,
    )
    assert config.data.validation == config.data.diagnosis == 0 and not config.evaluate.baseline
    assert config.name == "generate-teacher-problems"


def test_a_part_of_a_configuration_keeps_its_splits_and_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked_of(generate, monkeypatch, "--config", "tiny")
    assert (config.name, config.data.validation, config.until) == ("tiny", 200, "merge")


def test_train_takes_problems_and_rationales_of_one_file_or_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    config = asked_of(train, monkeypatch, "tiny:student", str(rows))
    assert config.data.train.path == config.data.rationales.path == str(rows)
    assert (config.until, config.student.prompt, config.teacher.model) == ("train", "tiny", "")
    write_json(Layout(tmp_path / "run").config, {})
    config = asked_of(train, monkeypatch, "me/student", str(tmp_path / "run"))
    assert config.data.rationales.run == str(tmp_path / "run")
    assert config.data.train.path == str(Layout(tmp_path / "run").split("train"))


def test_evaluate_asks_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked_of(
        evaluate, monkeypatch, "me/m", "--benchmarks", "gsm8k, math500", "--limit", "9", "--samples", "4", "--temperature", "0.6"
    )  # fmt: skip
    assert config.until == "baseline" and config.evaluate.benchmarks == ["gsm8k", "math500"]
    assert (config.evaluate.limit, config.evaluate.samples, config.evaluate.sampling.temperature) == (
        9,
        4,
        0.6,
    )


@pytest.mark.parametrize(
    ("source", "key"),
    [("tiny:train", "tiny"), ("me/data", "hub"), ("rows.jsonl", "path"), ("data/part-*.parquet", "path")],
)
def test_a_source_is_a_path_an_id_or_the_tiny_world(source: str, key: str) -> None:
    assert source_sets("data.train", source)[0].startswith(f"data.train.{key}=")


def test_names_are_one_component_of_a_path() -> None:
    assert short("org/Model-1.5B", "/a b/rows.v2.jsonl", None) == "Model-1-rows"


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--dataset", "100k"], "data.train.sample", 100000),
        (["--dataset", "10k"], "data.train.draw", "datasets"),
        (["--iter", "3"], "iterations", 3),
        (["--output", "/o.jsonl"], "display.rows_file", "/o.jsonl"),
        (["--hf_repo", "me/d"], "hub.dataset_repo", "me/d"),
        (["--hf_private"], "hub.private", True),
        (["--hf_repo", "me/d", "--push_every_min", "15"], "hub.push_every_min", 15.0),
        (["--cont", "400"], "until", "merge"),
    ],
)
def test_each_flag_of_the_teacher_is_a_key(words: list[str], key: str, value: Any) -> None:
    assert value_at(teacher_config(teacher_parser().parse_args(words)), key) == value


def test_own_problems_of_the_teacher_have_their_own_columns_and_all_rows(tmp_path: Path) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text("{}\n")
    train = teacher_config(teacher_parser().parse_args(["--dataset", str(rows)])).data.train
    assert (train.path, train.sample, train.answer_from) == (str(rows), None, "auto")
    assert train.fields.answer == RunConfig().data.train.fields.answer


TRAIN = ["--mode", "train", "--dataset", "rows.jsonl"]
TEST = ["--mode", "test", "--dataset", "gsm8k"]


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (TRAIN, "data.rationales.path", "rows.jsonl"),
        (TRAIN, "until", ""),
        (TRAIN, "evaluate.train_predictions", True),
        ([*TRAIN, "--train_epochs", "2"], "train.epochs", 2.0),
        ([*TRAIN, "--lr", "1e-5"], "train.learning_rate", 1e-5),
        ([*TRAIN, "--per_device_train_batch_size", "4"], "train.micro_batch_tokens", 8192),
        ([*TRAIN, "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "8"], "train.tokens_per_batch", 65536),
        ([*TRAIN, "--hf_save", "--hf_model_repo", "me/s"], "hub.model_repo", "me/s"),
        ([*TRAIN, "--hf_save", "--hf_model_repo", "me/s"], "hub.push_at_end", True),
        ([*TRAIN, "--hf_model_private"], "hub.private", True),
        ([*TRAIN, "--hf_path_in_repo", "x"], "hub.dataset_repo", ""),
        ([*TRAIN, "--debug_mode"], "data.train.sample", 32),
        ([*TRAIN, "--model_path", "me/m"], "student.model", "me/m"),
        (TEST, "evaluate.benchmarks", ["gsm8k"]),
        (TEST, "until", "baseline"),
        ([*TEST, "--debug_mode"], "evaluate.limit", 32),
    ],
)  # fmt: skip
def test_each_flag_of_the_student_is_a_key(words: list[str], key: str, value: Any) -> None:
    assert value_at(student_config(student_parser().parse_args(words)), key) == value


def value_at(config: RunConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_an_unknown_flag_of_the_reference_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    from undo_hpc.cli.reference import student

    with pytest.raises(SystemExit) as ended:
        student([*TRAIN, "--train_epoch", "2"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        student([*TRAIN, "--learn_rate", "2"])
    assert ended.value.code == 2 and "unrecognized arguments: --learn_rate" in capsys.readouterr().err


def test_until_cuts_the_iteration_at_work(tmp_path: Path) -> None:
    def asked(*words: str) -> RunConfig:
        return read_config(
            build_parser().parse_args(["--config", "tiny", "--run-dir", str(tmp_path), *words])
        )

    assert (asked("--until", "train").until, asked("--until", "train").iterations) == ("train", 1)
    assert asked("--until", "merge", "--iterations", "2").iterations == 2
    at = Layout(tmp_path).iteration
    for iteration in (0, 1):
        write_json(at(iteration).plan, {})
    write_json(at(0).metrics, {"sets": {}})
    assert asked("--until", "merge").iterations == 2
    write_json(at(1).metrics, {"sets": {}, "until": "merge"})
    assert asked("--until", "train").iterations == 2
    assert (asked("--until", "all").until, asked("--until", "all").iterations) == ("", 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "tiny:student"], "evaluate MODEL --benchmarks A,B"),
        (["generate"], "generate MODEL PROBLEMS"),
        (["run", "--config", "tiny", "--until", "marge"], "did you mean 'merge'?"),
        (["run", "--config", "tiny", "--until", "advance"], "there is no stage 'advance'"),
        (["train", "tiny:student", "{folder}"], "holds no data file"),
    ],
)
def test_wrong_words_end_with_2_and_write_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    words = [word.replace("{folder}", str(tmp_path / "empty")) for word in words]
    assert main([*words, "--run-dir", "new"]) == 2
    assert message in capsys.readouterr().err and not Path("new").exists()


def test_a_dry_run_of_a_part_shows_its_stages_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    made = [
        {"problem": f"What is {k}+{k}?", "gt": str(2 * k), "teacher_solution": f"\\boxed{{{2 * k}}}"}
        for k in range(1, 9)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    assert main(["train", "tiny:student", str(rows), "--run-dir", str(tmp_path / "new"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "no teacher -> student tiny:student" in shown and "8 of 8 rows, for 8 training problems" in shown
    assert "train: 1 task" in shown and "evaluate:" not in shown and "baseline:" not in shown
