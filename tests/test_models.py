"""Finding and checking a model before anything is started."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from undo_hpc.chat.template import ChatTemplate
from undo_hpc.config.schema import ModelConfig
from undo_hpc.engines.chat import load_tokenizer
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.models import (
    check_hub_model,
    check_tokenizer,
    damaged_files,
    fingerprint,
    require_own_files,
    resolve_model,
    text_settings,
)
from undo_hpc.training import student


def complete(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def test_a_complete_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = complete(tmp_path / "here" / "model")
    assert resolve_model(str(model)) == str(model.resolve())
    monkeypatch.chdir(tmp_path)
    assert resolve_model("here/model") == str(model.resolve())


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
    assert set(first) == {"config.json", "tokenizer.json", "model.safetensors"}
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
        (_elsewhere("../weights.safetensors"), r"lacks weight files of its own .*\.\./weights"),
        (_elsewhere(""), "lacks weight files of its own"),
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


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("adapter_config.json", "{}", "owner/model: is a LoRA adapter, not a model, or holds one"),
        (
            "config.json",
            '{"speculators_config": {"verifier": {}}}',
            "vLLM loads the one that speculators_config",
        ),
        ("config.json", '{"text_model_id": "/models/ours"}', "vLLM loads the one that text_model_id"),
        (
            "config.json",
            '{"attribute_map": {"a": "text_model_id"}, "a": "/models/ours"}',
            "vLLM loads the one that attribute_map",
        ),
        ("config.json", '{"audio_model_id": null}', ""),
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


def test_a_complete_sharded_model_is_fine(tmp_path: Path) -> None:
    model = complete(tmp_path / "model")
    _sharded(model)
    for number in (2, 3):
        (model / f"model-{number}.safetensors").write_bytes(b"weights")
    assert resolve_model(str(model)) == str(model.resolve())


@pytest.fixture
def tokenizer() -> Any:
    from tests.engines.conftest import build_tokenizer

    return build_tokenizer()


class TestChatTemplate:
    def test_a_usable_template_passes(self, tokenizer) -> None:
        check_tokenizer(tokenizer, system_prompt="Be brief.", template_kwargs={"enable_thinking": False})

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            (None, "has no chat template"),
            (
                "{{ raise_exception('System role not supported') if messages[0]['role'] == 'system' else messages[0]['content'] }}",
                "System role not supported",
            ),
            ("{% for m in messages %}", "cannot be rendered"),
            ("hello", "drops the user's text"),
        ],
    )
    def test_an_unusable_one_is_refused_by_name(
        self, tokenizer, template: str | None, message: str, monkeypatch
    ) -> None:
        monkeypatch.setattr(tokenizer, "chat_template", template)
        with pytest.raises(DataError, match=message):
            check_tokenizer(tokenizer, name="some/model", system_prompt="Be brief.")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """A Hub that answers every request with the last (status, error code) of the list."""
    from huggingface_hub import constants

    answers: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status, code = answers[-1]
            self.send_response(status)
            for name, value in (
                ("X-Error-Code", code),
                ("X-Repo-Commit", "0" * 40),
                ("ETag", '"1"'),
                ("Content-Length", "2"),
            ):
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield answers
    server.shutdown()
    server.server_close()


def test_a_model_that_the_hub_does_not_have_is_refused_and_a_silent_hub_is_not_believed(
    hub: list[tuple[int, str]],
) -> None:
    hub.append((200, ""))
    check_hub_model("org/model")
    hub.append((503, ""))
    check_hub_model("org/model")
    for status, code, words in ((404, "RepoNotFound", "no model org/modle"), (404, "RevisionNotFound", "no revision 'v9'"),
                                (403, "GatedRepo", "gated"), (404, "EntryNotFound", r"no config\.json")):  # fmt: skip
        hub.append((status, code))
        with pytest.raises(DataError, match=words):
            check_hub_model("org/modle", "v9")
    with pytest.raises(DataError, match="nor an id"):
        check_hub_model("my model")


def test_without_a_network_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    check_hub_model("org/model")  # HF_HUB_OFFLINE is set in tests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check_hub_model("org/model")
