"""What a configuration calls a model: found and whole, or refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.models.build import complete
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.models.resolve import resolve_model


def test_a_complete_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = complete(tmp_path / "here" / "model")
    assert resolve_model(str(model)) == str(model.resolve())
    monkeypatch.chdir(tmp_path)
    assert resolve_model("here/model") == str(model.resolve())


def test_an_id_on_the_hub_passes_through() -> None:
    assert resolve_model("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"


@pytest.mark.parametrize("ref", ["/no/such/dir", "./model", "~/nowhere/model", "a/b/c", "models/"])
def test_a_path_that_does_not_exist_is_not_taken_for_an_id(ref: str) -> None:
    with pytest.raises(DataError, match="no such model directory"):
        resolve_model(ref)


def test_an_empty_name_is_a_matter_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="no model is named"):
        resolve_model("")


def _without(name: str):
    def change(model: Path) -> None:
        (model / name).unlink()

    return change


def _sharded(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-3.safetensors"}
    }
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def _bad_index(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text("{")


def _pointer(model: Path) -> None:
    (model / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )


def _empty(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")


def _adapter(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "adapter_config.json").write_text("{}")


def _pipe(model: Path) -> None:
    os.mkfifo(model / "generation_config.json")  # whoever opened it would wait for ever


def _device(model: Path) -> None:
    (model / "special_tokens_map.json").symlink_to("/dev/zero")


def _elsewhere(name: str):
    def change(model: Path) -> None:
        (model / "model.safetensors").rename(model.parent / "weights.safetensors")
        place = name or str(model.parent / "weights.safetensors")
        (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))

    return change


def _adapter_beside_weights(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "another/model"}')


def _vocabulary_elsewhere(**named: object):
    def change(model: Path) -> None:
        (model / "tokenizer_config.json").write_text(json.dumps(named))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_vocabulary_elsewhere(vocab="/proc/self/environ"), "sets vocab, by which a file outside"),
        (_vocabulary_elsewhere(merges=".env"), "sets merges"),
        (_vocabulary_elsewhere(init_inputs=["/etc/hostname"]), "sets init_inputs"),
        (_vocabulary_elsewhere(gguf_file="../other.gguf"), "sets gguf_file"),
        (_vocabulary_elsewhere(fast_tokenizer_files=["../tokenizer.4.0.json"]), "sets fast_tokenizer_files"),
        (_pipe, r"generation_config\.json is a pipe or a device"),
        (_device, r"special_tokens_map\.json is a pipe or a device"),
        (
            _elsewhere("../weights.safetensors"),
            r"names '\.\./weights\.safetensors', a file outside of the model",
        ),
        (_elsewhere("../nothing.safetensors"), r"lacks weight files of its own .*\.\./nothing"),
        (_elsewhere(""), "index.json names '/.*, a file outside of the model"),
        (_elsewhere("/nothing.safetensors"), "lacks weight files of its own"),
        # links are sought in neither
        (_elsewhere(".hidden/weights.safetensors"), "lacks weight files of its own"),
        (_elsewhere("a/b/weights.safetensors"), "lacks weight files of its own"),
        (_without("config.json"), r"lacks config\.json"),
        (_without("tokenizer.json"), "lacks tokenizer files"),
        (_without("model.safetensors"), "lacks weights"),
        (_sharded, r"2 of 3 weight files .*model-2"),
        (_bad_index, r"a readable model\.safetensors\.index\.json"),
        (_pointer, "Git LFS pointer"),
        (_empty, "the file is empty"),
        (_adapter, "is a LoRA adapter"),
        (_adapter_beside_weights, "or holds one: transformers loads the base"),
    ],
)
def test_an_incomplete_directory_says_what_is_missing(tmp_path: Path, change, message: str) -> None:
    model = complete(tmp_path / "model")
    change(model)
    with pytest.raises(DataError, match=message):
        resolve_model(str(model))


def test_a_complete_sharded_model_is_fine(tmp_path: Path) -> None:
    model = complete(tmp_path / "model")
    _sharded(model)
    for number in (2, 3):
        (model / f"model-{number}.safetensors").write_bytes(b"weights")
    assert resolve_model(str(model)) == str(model.resolve())
