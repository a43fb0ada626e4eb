"""The chat side of a model: system prompt, template arguments, and where a completion ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from undo_hpc.config.schema import ModelConfig
from undo_hpc.engines.chat import Chat
from undo_hpc.errors import DataError


def test_ids_are_the_templates_own(tiny_model: Path) -> None:
    chat = Chat(ModelConfig(model=str(tiny_model)))
    text = [{"role": "user", "content": "7 + 8 = {x}"}]
    assert chat.encode("7 + 8 = {x}") == chat.tokenizer.apply_chat_template(
        text, add_generation_prompt=True, return_dict=False
    )
    assert chat.decode(chat.tokenizer("a  b . c 12", add_special_tokens=False)["input_ids"]) == "a  b . c 12"


def test_system_prompt_and_template_arguments_reach_the_model_and_the_record(tiny_model: Path) -> None:
    plain = Chat(ModelConfig(model=str(tiny_model)))
    chat = Chat(
        ModelConfig(
            model=str(tiny_model), system_prompt="Be brief.", chat_template_kwargs={"enable_thinking": False}
        )
    )
    text = chat.tokenizer.decode(chat.encode("Q"))
    assert "<|im_start|>system\nBe brief.<|im_end|>" in text and text.endswith("<think></think>")
    assert len(chat.encode("Q")) > len(plain.encode("Q"))
    described = chat.describe()
    assert described["system_prompt"] == "Be brief." and described["chat_template_kwargs"] == {
        "enable_thinking": False
    }
    assert described["template_sha"] == plain.describe()["template_sha"]


def test_the_templates_end_of_turn_ends_a_completion_even_where_eos_is_another(
    tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "model")
    chat = Chat(ModelConfig(model=str(tmp_path / "model")))
    assert chat.stop_ids >= {
        tokenizer.convert_tokens_to_ids("<|im_end|>"),
        tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }


def test_no_chat_template_is_said_before_anything_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(DataError, match="no chat template"):
        Chat(ModelConfig(model=str(tmp_path / "model")))
