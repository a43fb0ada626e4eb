"""A model's files: damage is named before anything is loaded, and another model is told from a copy."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.models.build import complete
from undo_hpc.chat.template import ChatTemplate
from undo_hpc.config.schema import ModelConfig
from undo_hpc.errors import DataError
from undo_hpc.models.files import changed_files, damaged_files, fingerprint, missing_parts
from undo_hpc.models.resolve import context_of, resolve_model, text_settings

DAMAGED = {
    "empty": b"",
    "half": b'{"a": 1',
    "no object": b"[]",
    "null": b"null",
    "latin-1": b'{"a": "\xe4"}',
    "deep": b"[" * 10**5,
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
)
def test_a_damaged_file_of_a_model_is_named_before_anything_is_loaded(
    name: str, damage: str, tmp_path: Path
) -> None:
    model = complete(tmp_path / "model")
    assert not [said for said in damaged_files(model) if "json" in said]
    (model / name).write_bytes(DAMAGED[damage])
    assert any(name in said for said in damaged_files(model))
    with pytest.raises(DataError):  # it has no template, if no damaged file
        ChatTemplate.load(model)
    assert text_settings(ModelConfig(model=str(model))) == {}


def test_a_damaged_index_or_template_of_a_model_is_named(tmp_path: Path) -> None:
    model = complete(tmp_path / "model")
    (model / "chat_template.jinja").write_bytes(b"\xe4")
    with pytest.raises(DataError, match=r"chat_template.jinja is not UTF-8"):
        ChatTemplate.load(model)
    (model / "model.safetensors").unlink()
    for content in (*DAMAGED.values(), b'{"weight_map": 3}', b'{"weight_map": {"a": [1]}}'):
        (model / "model.safetensors.index.json").write_bytes(content)
        with pytest.raises(DataError, match=r"model.safetensors.index.json"):
            resolve_model(str(model))


def test_the_fingerprint_sees_changed_weights_and_not_a_copy(tmp_path: Path) -> None:
    model = complete(tmp_path / "model")
    weights = bytearray(random.Random(0).randbytes(3 * 2**20))
    (model / "model.safetensors").write_bytes(weights)
    (model / "README.md").write_text("words count for nothing")
    first = fingerprint(model)
    assert {name for name, told in first.items() if told} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert fingerprint(copy) == first
    for at in (0, len(weights) - 1):
        changed = bytearray(weights)
        changed[at] ^= 1
        (copy / "model.safetensors").write_bytes(changed)
        assert fingerprint(copy)["model.safetensors"] != first["model.safetensors"]
    other = bytes(
        byte ^ 1 for byte in weights[2**20 : 2 * 2**20]
    )  # a third of the weights, as a fine-tuned layer would be
    (copy / "model.safetensors").write_bytes(weights[: 2**20] + other + weights[2 * 2**20 :])
    assert fingerprint(copy)["model.safetensors"] != first["model.safetensors"]
    (copy / "model.safetensors").write_bytes(weights[:-1])
    assert fingerprint(copy)["model.safetensors"] != first["model.safetensors"]


def test_what_changed_in_a_model_is_named(tmp_path: Path) -> None:
    model = complete(tmp_path / "model")
    first = fingerprint(model)
    assert changed_files(first, fingerprint(model)) == []
    (model / "special_tokens_map.json").write_text('{"eos_token": "."}')
    (model / "tokenizer.json").write_text('{"version": "2"}')
    (model / "chat_template.jinja").write_text("{{ messages }}")
    now = fingerprint(model)
    assert changed_files(first, now) == ["chat_template.jinja", "special_tokens_map.json", "tokenizer.json"]
    of_0_1 = {name: told for name, told in first.items() if told}
    assert changed_files(of_0_1, fingerprint(model)) == ["chat_template.jinja", "tokenizer.json"]
    (model / "special_tokens_map.json").unlink()
    assert "special_tokens_map.json" in changed_files(now, fingerprint(model))


ODD = [
    8,
    True,
    "x",
    [1],
    1.5,
    None,
    {},
    {"factor": 1},
    10**400,
    math.inf,
    {"a": {"data_offsets": [0, math.inf]}},
    {"a": None},
]


@pytest.mark.parametrize("where", ["index", "index beside torch's", "header", "scaling", "context"])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:20])
def test_odd_values_in_a_model_are_told_and_end_no_command(tmp_path: Path, where: str, odd: Any) -> None:
    model = complete(tmp_path / "m")
    if where.startswith("index"):
        (model / "model.safetensors").unlink()
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": odd}))
        if where != "index":
            (model / "pytorch_model.bin").write_bytes(b"x")
    elif where == "header":
        header = json.dumps(odd).encode()
        (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    else:
        key = "rope_scaling" if where == "scaling" else "max_position_embeddings"
        (model / "config.json").write_text(json.dumps({key: odd}))
    told = missing_parts(model) + damaged_files(model)
    assert told or where in ("scaling", "context") or (where == "header" and odd == {})
    context_of(ModelConfig(model=str(model)))
    fingerprint(model)


def test_what_lies_beside_the_weights_is_nobodys_matter(tmp_path: Path) -> None:
    """A pointer of Git LFS where only the sharded weights were fetched, and what macOS puts beside each file."""
    model = complete(tmp_path / "m")
    header = b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
    whole = len(header).to_bytes(8, "little") + header + b"x"
    (model / "model.safetensors").write_bytes(whole)
    before = fingerprint(model)
    for name in ("consolidated.safetensors", "._model.safetensors", "ema.safetensors"):
        (model / name).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert damaged_files(model) == [] == missing_parts(model)
    (model / "model.safetensors").rename(model / "part.safetensors")
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part.safetensors"}}')
    assert damaged_files(model) == [] == missing_parts(model)
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "ema.safetensors"}}')
    assert "ema.safetensors" in missing_parts(model)[0] and damaged_files(model)
    assert changed_files(before | {"._model.safetensors": "1:a"}, before) == []
