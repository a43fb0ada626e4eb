"""Templates rendered without transformers give what transformers gives, and their clock can stand still."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.chat_families import FAMILIES, make_tokenizer
from undo_hpc.chat.template import ChatTemplate, RenderError, clock_of, rendered, with_fixed_date
from undo_hpc.errors import DataError

CHATS = [
    [{"role": "user", "content": "What is 2+3?\n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<b> & é {{ x }}"}],
    [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "<think>\nR\n</think>\n\nA"}],
    [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "thinking": "R", "reasoning_content": "R"},
    ],
]


@pytest.mark.parametrize("name", FAMILIES)
def test_it_renders_what_transformers_renders(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    tokenizer = make_tokenizer(family)
    tokenizer.save_pretrained(tmp_path)
    template = ChatTemplate.load(tmp_path, kwargs=family.template_kwargs, date="2026-02-03")
    assert template.eos_token == family.eos
    for chat in CHATS:
        for prompt in (True, False):
            try:
                theirs = rendered(
                    lambda chat=chat, prompt=prompt: tokenizer.apply_chat_template(  # type: ignore[misc]
                        chat,
                        tokenize=False,
                        add_generation_prompt=prompt,
                        **clock_of("2026-02-03"),
                        **family.template_kwargs,
                    )
                )
            except RenderError:
                with pytest.raises(RenderError):
                    template.render(chat, prompt)
            else:
                assert template.render(chat, prompt) == theirs
                assert "strftime_now" not in template.source or "2026" in theirs


def test_templates_in_the_configuration_file_and_under_names(tmp_path: Path) -> None:
    settings = {
        "eos_token": {"content": "</s>", "special": True},
        "chat_template": "{{ messages[0].content }}{{ eos_token }}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert ChatTemplate.load(tmp_path).render([{"role": "user", "content": "Hi"}], True) == "Hi</s>"
    settings["chat_template"] = [  # type: ignore[assignment]
        {"name": "tool_use", "template": "tools"},
        {
            "name": "default",
            "template": "{% generation %}{{ messages | length | tojson }}{% endgeneration %}",
        },
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert ChatTemplate.load(tmp_path).render([{"role": "user", "content": "Hi"}], True) == "1"
    (tmp_path / "chat_template.jinja").write_text("a file wins")
    assert ChatTemplate.load(tmp_path).source == "a file wins"


def test_a_model_without_a_template_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no chat template") as caught:
        ChatTemplate.load(tmp_path)
    assert "instruct model" in caught.value.hint
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        ChatTemplate.load(tmp_path)


def test_whatever_a_template_does_is_an_error_of_one_kind() -> None:
    for source in (
        "{{ 1 / 0 }}",
        "{{ x.y.z }}",
        "{% if %}",
        "{{ messages[7].content }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '\\ud800' }}",
    ):
        with pytest.raises(RenderError):
            ChatTemplate(source).render([], True)


def test_the_clock_stands_still_only_where_a_date_is_given() -> None:
    source = "{{ strftime_now('%Y') }}"
    assert ChatTemplate(source, date="1999-12-31").render([], True) == "1999"
    assert ChatTemplate(source).render([], True) >= "2025"


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if "strftime_now" in family.template]
)
def test_a_template_with_its_date_written_in_is_the_template_with_a_clock_that_stands_still(
    name: str,
) -> None:
    source = FAMILIES[name].template
    fixed = with_fixed_date(source, "2026-02-03")
    assert "strftime_now" not in fixed
    kwargs = FAMILIES[name].template_kwargs
    for chat in CHATS[:3:2]:
        wanted = ChatTemplate(source, kwargs=kwargs, date="2026-02-03").render(chat[:1], True)
        assert ChatTemplate(fixed, kwargs=kwargs).render(chat[:1], True) == wanted
    assert with_fixed_date(source, "") == source


def test_rendering_loads_no_heavy_package() -> None:
    code = (
        "import sys; from undo_hpc.training import student_check; from undo_hpc.config.load import load_config\n"
        "student_check.check_student(load_config('tiny', []))\n"
        "print([m for m in ('torch', 'transformers', 'deepspeed') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
