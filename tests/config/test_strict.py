"""Values are taken as they stand or refused: nothing is converted silently, and each refusal names file, line and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.config.load import load_config
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.yaml_text import parse_value
from undo_hpc.errors import ConfigError


def load(tmp_path: Path, text: str, *sets: str) -> Any:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return load_config(str(path), sets)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("\ntrain:\n  learning_rate: true\n", "line 3: 'train.learning_rate'", "valid number"),
        ("\nseed: '3'\n", "line 2: 'seed'", "without quotes it is a number"),
        ("train: {learning_rate: '1e-5'}\n", "line 1: 'train.learning_rate'", "without quotes it is a number"),
        ("seed: 010\n", "line 1: 'seed'", "begins with a zero.*write 10"),
        ("train:\n  betas: [0.9, 00]\n", "line 2: 'train.betas'", "begins with a zero"),
        ("data: {train: {hub: 010}}\n", "line 1: 'data.train.hub'", "quote it where it is a text"),
        ("seed: 1:30\n", "line 1: 'seed'", "valid integer"),
        ("seed: 1.0\n", "line 1: 'seed'", "valid integer"),
        ("seed: true\n", "line 1: 'seed'", "valid integer"),
        ("data: {diagnosis: true}\n", "line 1: 'data.diagnosis'", "valid integer.*valid number"),
        ("train: {packing: 1}\n", "line 1: 'train.packing'", "valid boolean"),
        ("train: {packing: 'yes'}\n", "line 1: 'train.packing'", "valid boolean"),
        ("name: 12\n", "line 1: 'name'", "in quotes it is a text"),
        ("train: {weight_decay: .nan}\n", "line 1: 'train.weight_decay'", "finite"),
        ("train: {epochs: .inf}\n", "line 1: 'train.epochs'", "finite"),
        ("evaluate:\n  benchmarks: {gsm8k: 1}\n", "line 2: 'evaluate.benchmarks'", "valid list"),
        ("evaluate:\n  sampling: 3\n", "line 2: 'evaluate.sampling'", "is a section: give one of its keys"),
        ("cluster:\n  resources:\n    genrate: {minutes: 3}\n", "line 3: 'cluster.resources.genrate'", "did you mean 'generate'"),
        ("cluster:\n  policy:\n    merge: {}\n", "line 3: 'cluster.policy.merge'", "a policy is for"),
        ("stages:\n  count: {after: [merg]}\n", "line 2: 'stages.count.after'", "did you mean 'merge'"),
        ("stages:\n  a: {after: [b]}\n  b: {after: [a]}\n", "line 2: 'stages.a.after'", "wait for each other: a, b"),
        ("stages:\n  a: {after: [advance]}\n", "line 2: 'stages.a.after'", "no stage can follow advance"),
        ("stages:\n  train: {}\n", "line 2: 'stages.train'", "it is taken"),
        ("stages:\n  My-Stage: {}\n", "line 2: 'stages.My-Stage'", "small letters"),
        ("generate:\n  engine:\n    name: vlm\n", "line 3: 'generate.engine.name'", "did you mean 'vllm'"),
        ("generate:\n  engine:\n    options: {a: 1}\n", "line 3: 'generate.engine.options'", "engine of your own"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_with_its_place(
    tmp_path: Path, text: str, key: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"my\.yaml, {key}: .*{words}"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("2E3", 2000.0), ("1.", 1.0), (".5", 0.5), ("-3", -3), ("1_000", 1000), ("0", 0), ("0x10", 16),
        ("1:30", "1:30"), ("2026-11-29", "2026-11-29"), ("1e", "1e"), ("true", True), ("null", None), ("0.5e-3", 5e-4),
        ("'010'", "010"), ("v1.0", "v1.0"), ("1.2.3", "1.2.3"), ("deadbeef", "deadbeef"),
    ],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["0x" + "f" * 5000, "9" * 5000])
def test_a_number_that_python_writes_nowhere_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"a number of 5,00\d digits"):
        load(tmp_path, f"seed: {text}")


def test_a_leading_zero_of_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set seed=010: .*write 10"):
        load(tmp_path, "", "seed=010")
    assert load(tmp_path, "", "name='010'").name == "010"


def test_a_configuration_survives_json(tmp_path: Path) -> None:
    """JSON has neither tuples nor whole numbers as keys."""
    config = load(
        tmp_path,
        "train: {betas: [0.8, 0.9]}\ngenerate: {sampling: {max_new_tokens_by_iteration: {1: 50}}}\n"
        "stages: {count: {tasks: 2}}\ncluster: {resources: {count: {minutes: 5}}}\n",
    )
    assert RunConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\nb"])
def test_a_name_is_one_component_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="one component"):
        RunConfig(name=name)
