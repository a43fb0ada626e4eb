"""What is told of the student on a login node, before the first rationale is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.training.chat_families import FAMILIES, OFF, make_tokenizer
from undo_hpc.config.load import load_config
from undo_hpc.config.schema import ModelConfig, RunConfig
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.training.student_check import check_lengths, check_student, student_notes, tokenizer_files


def student(tmp_path: Path, template: str, **settings: Any) -> RunConfig:
    """A run whose student has this template. Its weights are never read."""
    tokenizer = make_tokenizer(FAMILIES["Qwen2.5"])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    sets = [f"student.model={tmp_path}", *(f"student.{key}={value}" for key, value in settings.items())]
    return load_config("tiny", sets)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_families_can_be_trained_and_what_is_not_obvious_is_told(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    kwargs = {key: str(value).lower() for key, value in family.template_kwargs.items()}
    config = student(tmp_path, family.template, chat_template_kwargs=str(kwargs).replace("'", ""))
    notes = " ".join(check_student(config, date="2026-02-03"))
    assert ("will be left out" in notes) == (family.reasoning == OFF)
    assert ("writes such turns itself" in notes) == family.composed
    assert ("which is 2026-02-03 throughout the run" in notes) == ("strftime_now" in family.template)
    strip = config.model_copy(update={"student": config.student.model_copy(update={"reasoning": "strip"})})
    assert "left out" not in " ".join(check_student(strip))


@pytest.mark.parametrize(
    ("settings", "flaw"),
    [
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "caps its attention's scores"),
        ({"model_type": "a", "text_config": {"attn_logit_softcapping": 50.0}}, "caps its attention's scores"),
        ({"model_type": "gpt_oss"}, "has attention sinks"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": None}, ""),
        ([], ""),
    ],
)
def test_an_attention_that_leaves_out_a_part_of_the_student_is_refused_before_anything_is_paid_for(
    tmp_path: Path, settings: Any, flaw: str
) -> None:
    config = student(tmp_path, FAMILIES["Qwen2.5"].template)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    for attention in ("auto", "eager", "sdpa", "varlen"):
        train = config.train.model_copy(update={"attention": attention})
        chosen = config.model_copy(update={"train": train})
        if flaw and attention in ("sdpa", "varlen"):
            with pytest.raises(ConfigError, match=f"{attention}.*{flaw}"):
                check_student(chosen)
        else:
            check_student(chosen)


def test_the_shipped_student_has_nothing_to_tell() -> None:
    assert check_student(load_config("tiny", [])) == []


@pytest.mark.parametrize(
    ("template", "settings", "message", "hint"),
    [
        (
            "{{ raise_exception('never') }}",
            {},
            "cannot be rendered: TemplateError: never",
            "chat_template.jinja",
        ),
        ("{{ nothing.at.all }}", {}, "cannot be rendered: UndefinedError", "chat_template.jinja"),
        ("{% if %}", {}, "cannot be rendered: TemplateSyntaxError", "chat_template.jinja"),
        (
            FAMILIES["Gemma 2"].template,
            {"system_prompt": "Brief."},
            "System role not supported",
            "system_prompt",
        ),
        ("<|im_start|>assistant", {}, "drops the user's text", "chat_template.jinja"),
    ],
)
def test_templates_that_cannot_be_trained_are_refused(
    tmp_path: Path, template: str, settings: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_student(student(tmp_path, template, **settings))
    assert hint in caught.value.hint


def test_rationales_that_can_be_longer_than_training_takes_are_told(tmp_path: Path) -> None:
    config = load_config("tiny", ["generate.sampling.max_new_tokens=160", "train.max_length=40"])
    turns = ["How many cakes has Ann?", "Ann has 17 cakes. Ann buys 7 more. How many cakes has Ann now?"]
    told = check_lengths(config, turns)
    assert "train.max_length is 40" in told and "160 tokens" in told and "left out of training" in told
    needed = int(told.rpartition("raise train.max_length to ")[2].split(",")[0])
    assert (
        check_lengths(
            load_config("tiny", ["generate.sampling.max_new_tokens=160", f"train.max_length={needed}"]), turns
        )
        == ""
    )
    short = load_config(
        "tiny",
        ["generate.sampling.max_new_tokens=160", f"train.max_length={needed - 1}", "train.too_long=truncate"],
    )
    assert "cut at their end" in check_lengths(short, turns)


def test_the_measured_prompt_is_what_training_makes_of_it(trainings: Any) -> None:
    from tests.training import tiny_student
    from undo_hpc.prompts import load_prompts
    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.student import load_tokenizer

    spec = trainings.spec()
    data = encode_spec(spec, load_tokenizer(spec))
    turns = [load_prompts("default").student(row["problem"], "") for row in tiny_student.rows(60)]
    sets = [f"student.model={spec.model}", "generate.sampling.max_new_tokens=100", "train.max_length=100"]
    longest = int(data.prompts.max())
    assert f"behind a prompt of {longest}:" in check_lengths(load_config("tiny", sets), turns)


def test_a_launch_is_told_both(tmp_path: Path) -> None:
    config = student(tmp_path, FAMILIES["Llama 3.1"].template)
    config = config.model_copy(update={"train": config.train.model_copy(update={"max_length": 50})})
    date, lengths = student_notes(config, ["How many?", "How many cakes has Ann?"], date="2026-02-03")
    assert "2026-02-03" in date and "train.max_length is 50" in lengths
    assert student_notes(load_config("tiny", []), ["How many?"]) == []


def test_later_limits_of_the_teacher_count() -> None:
    sets = [
        "generate.sampling.max_new_tokens=100",
        "generate.sampling.max_new_tokens_by_iteration={1: 5000}",
        "train.max_length=4096",
    ]
    assert "5,000 tokens" in check_lengths(load_config("tiny", sets))


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try took half a minute: the dry run of two models on a node without a network took minutes."""
    asked: list[bool] = []

    def download(repo: str, name: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("undo_hpc.training.student_check._without_hub", [])
    for model in ("owner/teacher", "owner/student", "owner/student"):
        assert tokenizer_files(ModelConfig(model=model)) is None
    assert asked == [False, True, True]
