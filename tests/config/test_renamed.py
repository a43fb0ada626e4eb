"""Old names of keys are read everywhere with a note that names the new one; other programs' words, too."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from undo_hpc.config import renamed
from undo_hpc.config.load import all_keys, load_config, preset_names
from undo_hpc.config.renamed import ALIASES, HINTS, RENAMED
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError

KEYS = set(all_keys(RunConfig))
VALUES = {
    "prompt": "tiny",
    "instruction": "say it",
    "flush_rows": 3,
    "flush_seconds": 2.5,
    "max_tokens": 99,
    "max_tokens_by_iteration": {1: 50},
    "validation_examples": 2,
    "clip": 0.5,
    "sinks": ["wandb"],
}


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_noted", set())


def value_of(config: RunConfig, key: str) -> object:
    found: object = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_read_with_one_note(
    old: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new, value = RENAMED[old], VALUES[old.rpartition(".")[2]]
    assert new in KEYS and old not in KEYS
    path = tmp_path / "my.yaml"
    *sections, last = old.split(".")
    indented = [f"{'  ' * depth}{part}:" for depth, part in enumerate(sections)]
    path.write_text("\n".join([*indented, f"{'  ' * len(sections)}{last}: {value}"]) + "\n")
    with caplog.at_level(logging.WARNING):
        config = load_config(str(path))
        again = load_config("tiny", [f"{old}={value}"])
        inside = load_config("tiny", [f"{'.'.join(sections)}={{{last}: {value}}}"])
    assert value_of(config, new) == value_of(again, new) == value_of(inside, new) == value
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 1
    assert f"{path}, line {len(sections) + 1}: '{old}' is now '{new}'" in notes[0]


@pytest.mark.parametrize("old", RENAMED)
def test_both_names_are_refused(old: str, tmp_path: Path) -> None:
    new, value = RENAMED[old], VALUES[old.rpartition(".")[2]]
    with pytest.raises(ConfigError, match=f"'{old}' is the old name of '{new}', and both are given"):
        load_config("tiny", [f"{old}={value}", f"{new}={value}"])


def test_both_names_in_a_file_are_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("student: {prompt: tiny}\nevaluate:\n  prompt: tiny\n")
    with pytest.raises(
        ConfigError, match=r"my\.yaml, line 3: 'evaluate\.prompt' is the old name of 'student\.prompt'"
    ):
        load_config(str(path))


def test_set_wins_over_the_file_whatever_the_names(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("evaluate: {prompt: tiny}\nteacher: {prompt: tiny}\n")
    config = load_config(str(path), ["student.prompt=default", "generate.prompt=default"])
    assert (config.student.prompt, config.teacher.prompt) == ("default", "default")


def test_a_mistake_under_an_old_name_still_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("\ngenerate:\n  flush_rows: many\n")
    with pytest.raises(ConfigError, match=r"line 3: 'storage\.flush_rows': should be a valid integer"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lr: 0.001", {"train.learning_rate": 0.001}),
        ("train: {lr: 0.001}", {"train.learning_rate": 0.001}),
        ("epochs: 2", {"train.epochs": 2.0}),
        ("train: {epochs: 2}", {"train.epochs": 2.0}),
        ("batch_size: 8", {"train.tokens_per_batch": 8 * 4096}),
        ("train: {batch_size: 8, max_length: 100}", {"train.tokens_per_batch": 800}),
        ("max_new_tokens: 8", {"generate.sampling.max_new_tokens": 8, "evaluate.sampling.max_new_tokens": 8}),
        (
            "evaluate: {max_new_tokens: 8}",
            {"generate.sampling.max_new_tokens": 2048, "evaluate.sampling.max_new_tokens": 8},
        ),
        ("generate: {max_tokens: 8}", {"generate.sampling.max_new_tokens": 8}),
        ("temperature: 0.3", {"generate.sampling.temperature": 0.3, "evaluate.sampling.temperature": 0.0}),
        (
            "evaluate: {temperature: 0.3}",
            {"generate.sampling.temperature": 0.7, "evaluate.sampling.temperature": 0.3},
        ),
        ("model: x", {"teacher.model": "x", "student.model": "x"}),
        ("student: {model_name_or_path: x}", {"teacher.model": "", "student.model": "x"}),
        ("engine: vllm", {"generate.engine.name": "vllm", "evaluate.engine.name": "vllm"}),
        (
            "generate: {engine: vllm}",
            {"generate.engine.name": "vllm", "evaluate.engine.name": "transformers"},
        ),
        ("dataset: org/name", {"data.train.hub": "org/name"}),
        ("benchmarks: gsm8k", {"evaluate.benchmarks": ["gsm8k"]}),
        ("evaluate: {benchmarks: 'gsm8k, math500'}", {"evaluate.benchmarks": ["gsm8k", "math500"]}),
        ("report_to: wandb", {"train.trackers": ["wandb"]}),
    ],
)
def test_words_of_other_programs_are_read_with_a_note(
    text: str, meant: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text + "\n")
    config = load_config(str(path))
    assert {key: value_of(config, key) for key in meant} == meant
    if not text.startswith(("train: {epochs", "evaluate: {benchmarks")):  # our own keys
        assert f"{path}, line 1: '" in caplog.text and "is read as" in caplog.text
    word = text.partition(":")[0] if "{" not in text else ""
    if word:  # the same on the command line, over a file that says otherwise
        assert load_config("tiny", [f"{word}={text.partition(': ')[2]}"]) == load_config(
            "tiny", [f"{key}={value if not isinstance(value, list) else value[0]}" for key, value in meant.items()
                     if key != "evaluate.sampling.temperature" and key != "train.tokens_per_batch"]
            + [f"train.tokens_per_batch={8 * 512}"] * (word == "batch_size")
        )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "lr: 1\ntrain: {learning_rate: 2}",
        "model: x\nteacher: {model: y}",
        "lr: 1\ntrain: {lr: 2}",
        "lr: 1\ntrain: 5",
    ],
)
def test_a_word_beside_the_key_that_it_means_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"line [12]: '(lr|model|train.lr)'"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="both are given"):
        load_config("tiny", ["lr=1", "train.learning_rate=2"])


@pytest.mark.parametrize("word", HINTS)
def test_words_without_a_counterpart_are_answered(word: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"{word}: 1\n")
    with pytest.raises(ConfigError, match="unknown key") as raised:
        load_config(str(path))
    assert re.search(rf"did you mean '{re.escape(HINTS[word][0])}'", raised.value.hint), raised.value.hint


def test_every_alias_leads_to_a_key() -> None:
    for targets in (ALIASES | HINTS).values():
        for target in targets:
            assert target in KEYS or target.endswith(".engine") or "STAGE" in target or " " in target, target


@pytest.mark.parametrize("name", preset_names())
def test_presets_use_the_new_names(name: str, caplog: pytest.LogCaptureFixture) -> None:
    load_config(name)
    assert not caplog.records
