"""Each key alone: setting one changes that one and no other, whatever defaults its section has from its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from undo_hpc.cluster.profile import Profile
from undo_hpc.config.fields import merged
from undo_hpc.config.load import all_keys, load_config, override
from undo_hpc.config.schema import EvaluateConfig, RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.run import leaves

# Values of the right type that differ from the default, tried in turn until the section accepts one. None: an empty section.
CANDIDATES: tuple[Any, ...] = (
    True, False, 1, 2, 7, 64, 300, 0.5, 0.25, "x", ["x"], [1.0, 0.5], {"x": "y"}, {"x": 1}, {1: 5}, {"generate": {}},
    {"generate": {"kind": "quorum", "value": 2.0}}, {"count": {}}, "vllm", "bfloat16", "plain", "number", "off", "blind",
    "diagnosis", "all", "previous", "add", "keep", "slurm", "rich", "truncate", "linear", "fp32", "optimizer", "sdpa",
    ["wandb"], "pyxis", "none", "2024-07-26", "strip", "step", "validation", "soft", "wrong", "warn",
    "policy_gradient", "merge", "datasets", {"extra": {"benchmark": "gsm8k"}},
)  # fmt: skip
PRESETS = ("method.preset",)  # set other keys by their purpose (test_load.py says which)


def dumped(model: BaseModel) -> dict[str, Any]:
    return dict(leaves(model.model_dump(mode="json")))


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def accepted(model: type[BaseModel], key: str) -> Iterator[tuple[Any, BaseModel]]:
    """The values of the candidates that the key takes and that are not its default."""
    default = dumped(model())
    for value in CANDIDATES:
        try:
            made = model.model_validate(nested(key, value))
        except ValidationError:
            continue
        if dumped(made) != default:
            yield value, made


def test_an_added_set_has_no_name_of_a_benchmark() -> None:
    """It would be frozen in the place of that benchmark, and the students to come be asked as it says."""
    added = {"gsm8k": {"benchmark": "gsm8k", "limit": 5, "temperature": 1.0}}
    for benchmark in ("gsm8k", "mine/gsm8k.yaml"):
        with pytest.raises(ValidationError, match="a benchmark of the run has this name already"):
            RunConfig.model_validate({"evaluate": {"benchmarks": [benchmark], "added": added}})
    assert RunConfig.model_validate({"evaluate": {"benchmarks": ["tiny"], "added": added}})


@pytest.mark.parametrize("model", [RunConfig, Profile], ids=lambda m: m.__name__)
def test_a_key_alone_changes_no_other(model: type[BaseModel]) -> None:
    default = dumped(model())
    tried, alone = 0, []
    for key in (key for key in all_keys(model) if key not in PRESETS):
        for value, made in accepted(model, key):
            tried += 1
            now = dumped(made)
            others = {k for k in now.keys() | default.keys() if now.get(k) != default.get(k)}
            assert {k for k in others if k != key and not k.startswith(f"{key}.")} == set(), (key, value)
            break
        else:
            alone.append(key)
    # what only goes with another key: temperature 0 wants one attempt, a selection several samples, a judge its model...
    assert len(alone) <= 11, alone
    assert tried > 20


@pytest.mark.parametrize("model", [RunConfig, Profile], ids=lambda m: m.__name__)
def test_an_empty_section_is_all_default(model: type[BaseModel]) -> None:
    sections = {key.rpartition(".")[0] for key in all_keys(model)} - {""}
    sections |= {section.rpartition(".")[0] for section in sections} - {""}
    for section in sections:
        for empty in ({}, None):
            assert model.model_validate(nested(section, empty)) == model(), section


def test_greedy_evaluation_stays_greedy_at_every_entry(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("evaluate:\n  sampling:\n    top_k: 5\n")
    for config in (
        load_config(str(tmp_path / "c.yaml")),
        override(RunConfig(), ["evaluate.sampling.top_k=5"]),
        override(RunConfig(), ["evaluate={sampling: {top_k: 5}}"]),
        RunConfig(evaluate=EvaluateConfig.model_validate({"sampling": {"top_k": 5}})),
    ):
        assert (config.evaluate.sampling.temperature, config.evaluate.sampling.top_k) == (0.0, 5)


def test_a_mapping_of_set_goes_over_the_files_section_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "evaluate": {
                    "sampling": {"temperature": 0.3},
                    "overrides": {"gsm8k": {"path": "a", "split": "b"}},
                },
                "generate": {"engine": {"vllm": {"extra": {"a": 1}}}},
            }
        )
    )
    config = load_config(
        str(tmp_path / "c.yaml"),
        [
            "evaluate.sampling={top_k: 5}",
            "evaluate.overrides.gsm8k.path=c",
            "generate.engine.vllm.extra={b: 2}",
        ],
    )
    assert (config.evaluate.sampling.temperature, config.evaluate.sampling.top_k) == (0.3, 5)
    assert (config.evaluate.overrides["gsm8k"].path, config.evaluate.overrides["gsm8k"].split) == ("c", "b")
    assert config.generate.engine.vllm.extra == {"b": 2}, "a mapping with free keys is one value"


def defaults_of_places(model: type[BaseModel]) -> Iterator[Mapping[str, Any]]:
    for info in model.model_fields.values():
        if isinstance(info.default, BaseModel):
            yield info.default.model_dump(exclude_unset=True)
            yield from defaults_of_places(type(info.default))


def test_there_is_a_section_with_defaults_of_its_place() -> None:
    """Else the tests above would show nothing."""
    assert any(given for given in defaults_of_places(RunConfig))


ACCEPTED = {key: next(accepted(RunConfig, key), None) for key in all_keys(RunConfig) if key not in PRESETS}


@given(st.sets(st.sampled_from([key for key, found in ACCEPTED.items() if found]), max_size=12))
def test_any_keys_together_change_no_other(keys: set[str]) -> None:
    asked: dict[str, Any] = {}
    expected = dumped(RunConfig())
    for key in keys:
        found = ACCEPTED[key]
        assert found is not None
        asked = merged(asked, nested(key, found[0]))
        alone = dumped(found[1])
        expected = {k: v for k, v in expected.items() if k != key and not k.startswith(f"{key}.")}
        expected |= {k: v for k, v in alone.items() if k == key or k.startswith(f"{key}.")}
    try:
        made = RunConfig.model_validate(asked)
    except ValidationError as error:  # some values exclude each other
        assert all(item["type"] in ("value_error", "wrong_key") for item in error.errors()), error
        assume(False)
    assert dumped(made) == expected


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["method.select=shortest"], "generate.samples above 1"),
        (["method.pass_rate_max=0.9"], "generate.samples above 1"),
        (["generate.samples=4", "method.select=shortest"], "a selection keeps fewer"),
        (["generate.samples=4", "method.keep=5"], "of generate.samples 4"),
        (
            ["generate.samples=4", "method.pass_rate_min=0.9", "method.pass_rate_max=0.1"],
            "is above pass_rate_max",
        ),
    ],
)
def test_a_selection_without_a_choice_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("numina10k_qwen", sets)


def test_a_selection_among_several_rationales() -> None:
    method = load_config(
        "numina10k_qwen",
        ["generate.samples=4", "method.select=shortest", "method.keep=1", "method.pass_rate_max=0.75"],
    ).method
    assert (method.select, method.keep, method.pass_rate_max) == ("shortest", 1, 0.75)
