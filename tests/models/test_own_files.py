"""A model is loaded from its own files alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.models.build import complete
from undo_hpc.config.schema import ModelConfig
from undo_hpc.engines.chat import load_tokenizer
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.models.own_files import require_own_files
from undo_hpc.models.resolve import resolve_model
from undo_hpc.training import student


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("adapter_config.json", "{}", "owner/model: is a LoRA adapter, not a model, or holds one"),
        ("config.json", '{"speculators_config": {"verifier": {}}}', "the one that speculators_config"),
        ("config.json", '{"text_model_id": "/models/ours"}', "the one that text_model_id"),
        (
            "config.json",
            '{"attribute_map": {"a": "text_model_id"}, "a": "/models/ours"}',
            "the one that attribute_map",
        ),
        ("config.json", '{"audio_model_id": null}', ""),
        (
            "config.json",
            '{"_attn_implementation": "evil/kernel:f"}',
            "names code on the Hub, 'evil/kernel:f'",
        ),
        (
            "config.json",
            '{"text_config": {"attn_implementation": {"": "flash|evil/kernel@main"}}}',
            "names code on the Hub",
        ),
        (
            "config.json",
            '{"_attn_implementation": "sdpa", "attn_implementation": {"a": null, "b": "eager"}}',
            "",
        ),
        ("config.json", "[]", ""),
        ("tokenizer_config.json", '{"vocab": "/proc/self/environ"}', "sets vocab, by which a file outside"),
        (
            "tokenizer_config.json",
            '{"vocab": {"a": 0}, "vocab_file": "vocab.txt", "init_inputs": [], "fast_tokenizer_files": ["tokenizer.4.0.0.json"]}',
            "",
        ),
        (
            "special_tokens_map.json",
            '{"vocab_file": "/proc/self/environ"}',
            "special_tokens_map.json sets vocab_file",
        ),
        (
            "special_tokens_map.json",
            '{"eos_token": "a", "image_token": "b", "additional_special_tokens": ["c"]}',
            "",
        ),
    ],
)
def test_a_model_of_the_hub_names_no_vocabulary_and_no_weights_elsewhere(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers reads the files that it names: the student was published with their lines in tokenizer.json, or began from the weights
    of another folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--owner--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    (place / "snapshots" / ("a" * 40)).mkdir(parents=True)
    require_own_files("owner/model")
    (place / "snapshots" / ("a" * 40) / name).write_text(text)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *words, **named: "loaded")
    for load in (
        lambda: load_tokenizer("owner/model", ModelConfig(model="owner/model")),
        lambda: student.load_tokenizer(
            SimpleNamespace(model="owner/model", revision="", trust_remote_code=False)
        ),
    ):
        if message:
            with pytest.raises(DataError, match=message):
                load()
        else:
            assert load() == "loaded"


@pytest.mark.parametrize("where", ["absolute", "relative", "home", "address", "working folder"])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer_config.json",
        "other.safetensors.index.json",
        "video_preprocessor_config.json",
    ],
)
def test_no_setting_names_a_file_of_ours_by_whatever_key(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of a library reads new keys: what counts is that the value is a file, or a model, and none of this folder."""
    model, ours = complete(tmp_path / "models" / "m"), tmp_path / "private"
    (ours / "mine").mkdir(parents=True)
    (ours / "secret.bin").write_text("x")
    (ours / "mine" / "config.json").write_text("{}")
    (ours / "here").mkdir()
    monkeypatch.setenv("HOME", str(ours))
    monkeypatch.chdir(ours / "here")
    before = {
        "absolute": f"{ours}/",
        "relative": "../../private/",
        "home": "~/",
        "address": f"file://{ours}/",
        "working folder": "../",
    }[where]
    for end in ("secret.bin", "mine"):
        found = json.loads((model / name).read_text()) if (model / name).exists() else {}
        (model / name).write_text(json.dumps(found | {"some": [{"new_key": before + end}]}))
        with pytest.raises(DataError, match="a file outside of the model"):
            require_own_files(str(model))
        (model / name).write_text(json.dumps(found))
    require_own_files(str(model))


def test_settings_may_say_where_a_model_was_and_name_its_own_files(tmp_path: Path) -> None:
    model, before = complete(tmp_path / "m"), complete(tmp_path / "before")
    link = tmp_path / "link"
    link.symlink_to(model)
    config = json.loads((model / "config.json").read_text()) | {"_name_or_path": str(before)}
    tokens = [
        "/",
        "//",
        "..",
        "~",
        "</s>",
        "owner/model",
        "./config.json",
        f"{model}/config.json",
        "a\0/b",
        "/" * 9000,
    ]
    (model / "config.json").write_text(json.dumps(config | {"tokens": tokens}))
    said = {"special_tokens_map_file": f"{before}/config.json", "name_or_path": str(before)}
    (model / "tokenizer_config.json").write_text(json.dumps(said))
    for folder in (model, link):
        require_own_files(str(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_a_link_that_another_user_puts_there_while_a_model_is_loaded_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, secret = complete(tmp_path / "model"), tmp_path / "secret.json"
    secret.write_text("{}")

    def swap(*words: object, **named: object) -> str:
        (model / "generation_config.json").symlink_to(secret)
        os.chown(model / "generation_config.json", 54321, -1, follow_symlinks=False)
        return "loaded"

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", swap)
    assert resolve_model(str(model))
    with pytest.raises(ConfigError, match=r"generation_config\.json is a link of another user"):
        load_tokenizer(str(model), ModelConfig(model=str(model)))


def _link(at: Path, end: Path) -> None:
    end.parent.mkdir(parents=True, exist_ok=True)
    if not end.exists():
        end.write_bytes((at if at.exists() else Path(__file__)).read_bytes())
    at.unlink(missing_ok=True)
    at.symlink_to(end)


KEY = "SHA256E-s120--" + "d" * 64 + ".safetensors"


def test_links_that_people_and_tools_lay_are_no_reason_to_refuse_a_model(tmp_path: Path) -> None:
    """Of older versions of the Hub's library, of a cache on a larger disk, of DVC's shared cache, of git-annex in a submodule."""
    blob = tmp_path / "hub/models--o--m/blobs" / ("a" * 64)
    _link(complete(tmp_path / "local_dir") / "model.safetensors", blob)
    _link(
        complete(tmp_path / "dvc/model") / "model.safetensors", tmp_path / "shared/files/md5/ab" / ("c" * 30)
    )
    snapshot = complete(tmp_path / "hub/models--o--n/snapshots/revision")
    (tmp_path / "big").mkdir()
    (snapshot.parents[1] / "blobs").symlink_to(tmp_path / "big")
    _link(snapshot / "model.safetensors", snapshot.parents[1] / "blobs" / ("b" * 40))
    annexed = complete(tmp_path / "above/sub/model")
    (tmp_path / "above/.git/modules/sub").mkdir(parents=True)
    (tmp_path / "above/sub/.git").symlink_to("../.git/modules/sub")
    _link(annexed / "model.safetensors", tmp_path / "above/sub/.git/annex/objects/x" / KEY / KEY)
    other = complete(tmp_path / "other")
    _link(other / "README.md", tmp_path / "texts/licence")
    (other / "checkpoint-last").symlink_to(tmp_path / "local_dir")
    for model in (tmp_path / "local_dir", tmp_path / "dvc/model", snapshot, annexed, other):
        require_own_files(str(model))


def test_weights_in_a_folder_that_an_index_names_are_looked_at(tmp_path: Path) -> None:
    model, private = complete(tmp_path / "m"), complete(tmp_path / "private")
    (model / "sub").symlink_to(private)
    require_own_files(str(model))
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "sub/model.safetensors"}}')
    with pytest.raises(ConfigError, match="is a link to a file outside of the model"):
        require_own_files(str(model))


@pytest.mark.parametrize(
    "name",
    [
        "sub//w.safetensors",
        "sub/./w.safetensors",
        "a/b/w.safetensors",
        ".h/w.safetensors",
        "weights.log",
        "to/../w.safetensors",
    ],
)
def test_weights_that_an_index_names_are_looked_at_however_it_spells_them(tmp_path: Path, name: str) -> None:
    """Private weights became the student: the look went by names and endings, and the library opens what the index says."""
    model, private = complete(tmp_path / "m"), complete(tmp_path / "private/model").parent
    (private / "w.safetensors").write_bytes((private / "model/model.safetensors").read_bytes())
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    if name.startswith("to/"):
        (model / "to").symlink_to(
            private / "model"
        )  # the library's `to/..` is the folder above the model that it leads to
        (model / "w.safetensors").write_bytes(b"")
    else:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).symlink_to(private / "model/model.safetensors")
    with pytest.raises((ConfigError, DataError), match="outside of the model"):
        require_own_files(str(model))


def test_paths_that_tools_leave_in_settings_are_no_reason_to_refuse_a_model(tmp_path: Path) -> None:
    """They are still there on the machine where the model was made."""
    model, base = complete(tmp_path / "m"), complete(tmp_path / "base")
    config = json.loads((model / "config.json").read_text())
    quantized = {"quant_method": "gptq", "model_name_or_path": str(base), "tokenizer": str(base)}
    (model / "config.json").write_text(
        json.dumps(config | {"quantization_config": quantized, "base_model": str(base)})
    )
    (model / "training_config.json").write_text(json.dumps({"data": str(base / "config.json")}))
    (model / "tokenizer_config.json").write_text(json.dumps({"vocab_file": str(base / "config.json")}))
    require_own_files(str(model))
    tokens = {"1": {"content": "../"}}
    (model / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": tokens, "vocab_file": str(base / "config.json")})
    )
    require_own_files(str(model))
    (model / "tokenizer.json").unlink()  # then some tokenizers are made of it
    (model / "vocab.txt").write_text("a")
    with pytest.raises(DataError, match="a file outside of the model"):
        require_own_files(str(model))
