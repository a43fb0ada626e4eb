"""The configuration in words is YAML that loads again as the same configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undo_hpc.config.describe import commented_yaml, meaning, to_yaml
from undo_hpc.config.load import all_keys, load_config, preset_names
from undo_hpc.config.schema import RunConfig
from undo_hpc.config.yaml_text import parse_value

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(VALUES)
def test_a_value_is_read_back(value: object) -> None:
    assert parse_value(to_yaml(value)) == value


@pytest.mark.parametrize(
    "text", ["no", "Off", "010", "1e5", "1:30", "a: b", "#x", "- y", "\\boxed{3}", "é\n", "~", "null"]
)
def test_a_text_stays_a_text(text: str) -> None:
    assert parse_value(to_yaml(text)) == text


@pytest.mark.parametrize("name", preset_names())
def test_it_loads_as_the_same_configuration(name: str, tmp_path: Path) -> None:
    config, path = load_config(name), tmp_path / "again.yaml"
    for changed in (False, True):
        path.write_text(commented_yaml(config, width=60, changed=changed))
        assert load_config(str(path)) == config


def test_every_key_is_there_with_its_meaning() -> None:
    text = commented_yaml(RunConfig())
    for key in all_keys(RunConfig):
        assert f"{key.rpartition('.')[2]}: " in text, key
        assert " ".join(meaning(key).split()[:3]) in " ".join(text.replace("#", "").split()), key
