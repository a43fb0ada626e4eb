"""A random search over chat templates: whatever one does to reasoning, the student learns the whole rationale or nothing of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from tests.search import examples
from undo_hpc.chat.reasoning import HARMONY_ANSWER, MARKS
from undo_hpc.chat.template import ChatTemplate, RenderError
from undo_hpc.chat.training_text import NotLearned, Turn, TurnWriter

# What templates do to the content of an answer.
_CONTENTS = st.sampled_from(
    [
        "{{ c }}",
        "{{ c | trim }}",
        " {{ c }}",
        "{{ c }}\n",
        "{{ c.split('</think>')[-1] }}",
        "{{ c.split('</think>')[-1].lstrip('\\n') }}",
        "{{ c.split('</think>')[0] }}",
        "<think>\n\n</think>\n\n{{ c }}",
        "<think>\n{{ m.reasoning_content }}\n</think>\n\n{{ c }}",
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ c }}",
        "{% if '<think>' in c and '</think>' in c %}{{ c }}{% else %}<think>\n\n</think>\n\n{{ c }}{% endif %}",
        "{{ c | replace('<think>', '') }}",
        "{{ c[:40] }}",
        "{{ c }}{{ c }}",
        "{{ c | upper }}",
        "{% if '<think>' in c %}{{ raise_exception('no') }}{% endif %}{{ c }}",
        "{{ raise_exception('no answers') }}",
        "{{ c.nothing.at.all }}",
        "",
        "[THINK]{{ m.thinking or '' }}[/THINK]{{ c }}",
        "<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant<|channel|>final<|message|>{{ c }}",
        "<|channel|>final<|message|>{{ c }}",
    ]
)
_ENDS = st.sampled_from(["<|eot|>", "<|eot|>\n", "{{ eos_token }}", "\n<|eot|>\n{{ eos_token }}", "", "\n"])
_PROMPT_ENDS = st.sampled_from(
    [
        "",
        "\n",
        "<think>",
        "<think>\n",
        "<think>\n\n</think>\n\n",
        "</think>",
        "[THINK]",
        "<|channel|>analysis<|message|>",
        " ",
    ]
)
_WORDS = st.text(st.sampled_from("ab 7+=\n.{}\\é"), max_size=24)
_PIECES = st.sampled_from(
    ["<think>", "</think>", "\n", "[THINK]", "[/THINK]", "<|channel|>final<|message|>", "Two.", "<|eot|>"]
)
_RATIONALES = st.one_of(
    _WORDS,
    st.builds("<think>\n{}\n</think>\n\n{}".format, _WORDS, _WORDS),
    st.builds("{}</think>{}".format, _WORDS, _WORDS),
    st.lists(st.one_of(_WORDS, _PIECES), max_size=6).map("".join),
)


def _template(content: str, end: str, prompt_end: str) -> ChatTemplate:
    source = (
        "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' %}<|assistant|>" + content + end
        + "{% else %}<|user|>{{ c }}<|eot|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>" + prompt_end
        + "{% endif %}"
    )  # fmt: skip
    return ChatTemplate(source, {"eos_token": "</s>"})


def _bare(text: str) -> str:
    """The words of a text: without marks of reasoning and white space. Written apart from the code under test."""
    marks = [re.escape(mark) for pair in MARKS for mark in pair]
    text = re.sub(r"<\|channel\|>\w+<\|message\|>|<\|end\|><\|start\|>assistant", "", text)
    return "".join(re.sub("|".join(marks), "", text).split())


@examples(400, suppress_health_check=[HealthCheck.too_slow])
@given(_CONTENTS, _ENDS, _PROMPT_ENDS, _RATIONALES, st.sampled_from(["keep", "strip", "drop"]))
@example("{{ c.split('</think>')[-1] }}", "<|eot|>", "", "<think>\nFirst 1+1=2.\n</think>\n\n2", "keep")
@example("{{ c.split('</think>')[-1] }}", "<|eot|>", "", "work 1</think>", "keep")
@example("{{ c }}", "<|eot|>", "<think>\n", "First 1+1=2.\n</think>\n\n2", "keep")
@example("{{ c }}", "<|eot|>", "", "7</think>[THINK]", "keep")
@example("{{ c }}", "<|eot|>", "<|channel|>analysis<|message|>", "<|channel|>final<|message|><think>", "keep")
@example("{{ c }}", "<|eot|>", "<|channel|>analysis<|message|>", "7", "keep")
def test_the_whole_rationale_is_learned_or_nothing_of_it(
    content: str, end: str, prompt_end: str, rationale: str, policy: str
) -> None:
    template = _template(content, end, prompt_end)
    writer = TurnWriter(
        template.render,
        source=template.source,
        eos_token="</s>",
        policy=policy,  # type: ignore[arg-type]
    )
    try:
        turn = writer.write("How many?", rationale)
    except NotLearned as error:
        assert str(error)
        return
    assert turn.prompt == template.render([{"role": "user", "content": "How many?"}], True)
    assert turn.target.endswith(writer.closing)
    learned = turn.target.removesuffix(writer.closing)
    wanted = rationale
    if policy == "strip" and "</think>" in rationale:
        wanted = rationale.rpartition("</think>")[2]
    if policy != "strip" or "</think>" in rationale or not re.search(r"\[/?THINK]|channel", rationale):
        assert _bare(learned) == _bare(wanted)
    # One block of reasoning at most, opened before it is closed, in the prompt and the learned text together.
    whole = turn.prompt.rpartition("<|assistant|>")[2] + learned
    for opening, closing in MARKS:
        assert whole.count(opening) <= 1 and whole.count(closing) <= 1
        if opening in whole:
            assert whole.find(opening) < whole.find(closing)
    assert whole.count(HARMONY_ANSWER) <= 1


def test_a_template_that_refuses_every_answer_is_trained_nevertheless() -> None:
    template = _template("{{ raise_exception('no answers here') }}", "", "\n")
    writer = TurnWriter(template.render, source=template.source, eos_token="</s>")
    assert writer.write("How many?", "It is 7.") == Turn(
        "<|user|>How many?<|eot|><|assistant|>\n", "It is 7.</s>", True
    )


def test_a_template_that_refuses_one_problem_costs_that_row() -> None:
    source = (
        "{% for m in messages %}{% if 'bad' in m.content %}{{ raise_exception('a bad word') }}{% endif %}<|{{ m.role }}|>"
        "{{ m.content }}<|eot|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    writer = TurnWriter(ChatTemplate(source).render, source=source, eos_token="</s>")
    assert writer.write("How many?", "7").target == "7<|eot|>"
    with pytest.raises(NotLearned, match=r"refuses its problem .*a bad word"):
        writer.write("A bad one", "7")


def test_a_template_that_cannot_render_a_prompt_is_no_writer() -> None:
    template = ChatTemplate("{{ raise_exception('never') }}")
    with pytest.raises(RenderError, match="never"):
        TurnWriter(template.render, source=template.source, eos_token="</s>")
