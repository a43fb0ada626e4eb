"""The template language: braces of mathematics stay, values are put in once, sections come and go, mistakes are
named before anything is sent.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.errors import ConfigError
from undo_hpc.prompts.template import NAMES, Template


def test_braces_of_mathematics_are_text() -> None:
    text = (
        r"Put {x} into \boxed{} or \boxed{answer}, {2}, {a b}, {, \frac{\text{cm}}{time}, x_{max}^{min}, {}: "
    )
    assert Template(text + "{{ problem }}").render({"problem": "P"}) == text + "P"


@given(st.dictionaries(st.sampled_from(NAMES), st.text(alphabet="{}%#^/problemtuh \n\\", max_size=30)))
def test_values_are_never_looked_at_again(values: dict[str, str]) -> None:
    shown = [value if (value := values.get(name, "")).strip() else "" for name in NAMES]
    for form in ("{{{{ {} }}}}", "{{{}}}"):
        template = Template(".|" + "|".join(form.format(name) for name in NAMES) + "|.")
        assert template.render(values) == ".|" + "|".join(shown) + "|."


NEW = "a\n{% if truth %}\nT={{ truth }}\n{% endif %}\n  {% if not truth %}\nno T\n{% endif %}\nb\n"
OLD = "a\n{#truth}\nT={truth}\n{/truth}\n  {^truth}\nno T\n{/truth}\nb\n"


@pytest.mark.parametrize("text", [NEW, OLD])
@pytest.mark.parametrize(
    ("truth", "expected"), [("7", "a\nT=7\nb"), ("", "a\nno T\nb"), (" \n", "a\nno T\nb")]
)
def test_a_section_tag_alone_on_its_line_takes_the_line_with_it(text: str, truth: str, expected: str) -> None:
    assert Template(text).render({"truth": truth}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "x{% if truth %} and {{ truth }}{% if verdict %} ({{ verdict }}){% endif %}{% endif +%}\n.",
        "x{#truth} and {truth}{#verdict} ({verdict}){/verdict}{/truth}\n.",
    ],
)
def test_sections_within_a_line_and_nested(text: str) -> None:
    template = Template(text)
    assert template.render({"truth": "7", "verdict": "wrong"}) == "x and 7 (wrong)\n."
    assert template.render({"truth": "7"}) == "x and 7\n."
    assert template.render({"verdict": "wrong"}) == "x\n."
    assert template.names == {"truth", "verdict"}


def test_it_is_known_which_syntax_a_template_has() -> None:
    assert Template(OLD).old_syntax and not Template(NEW).old_syntax


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ok\n{{ problm }}", r"f.txt, line 2: no placeholder is called 'problm'\n.*did you mean 'problem'"),
        (
            "ok\n\n{problem} {points}",
            r"line 3: no placeholder is called 'points'\n.*There are: problem, rationale",
        ),
        ("{{ points }}", "no placeholder is called 'points'"),
        ("{% if points %}x{% endif %}", "no placeholder is called 'points'"),
        ("{% for k in range(9) %}x{% endfor %}", "no placeholder is called 'range'"),
        ("{#hint}x{/hint}", "no placeholder is called 'hint'"),
        ("{Problem}", "did you mean 'problem'"),
        ("\n{#truth}\nx", "f.txt, line .*endif"),
        ("{% if truth %}\nx", "f.txt, line .*endif"),
        ("{/truth}", "endif"),
        ("{#truth}x{/verdict}{/truth}", "endif"),
        (r"\frac{{1}}{2}", "line 1: double braces around no placeholder"),
        (r"\frac{{x}}{2}", "no placeholder is called 'x'"),
        (r"{{x}^{2}}", "f.txt, line 1: "),
        (r"\boxed{{truth}}", r"no braces left for \\boxed\n.*write \\boxed\{ \{\{ truth \}\} \}"),
        ("{# open", "comment"),
        ("{% include 'other.txt' %}", "f.txt: cannot be rendered"),
        ("{{ problem.nothing }}", "f.txt: cannot be rendered"),
        ("{{ problem.__class__.__mro__ }}", "f.txt: cannot be rendered"),
        ("{{ problem | nofilter }}", "f.txt, line 1: No filter"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Template(text, where="f.txt")


@pytest.mark.parametrize("text", ["{points}", "{{ points }}", r"\boxed{{truth}}", "{#truth}", "{{1}}", "{%"])
def test_anything_can_be_said_literally(text: str) -> None:
    assert Template("{% raw %}" + text + "{% endraw %}").render({}) == text


PIECES = ["{", "}", "%", "#", "/", "^", "{{", "}}", "{%", "%}", "problem", "truth", "points", "if", "endif", "raw", "endraw", "for", " ", "\n",
          "\\frac", "\\", "_", "1", "x", "|", ".", "[", "(", "'"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_any_text_is_a_template_or_refused_with_its_file(text: str) -> None:
    """Never another error, and never a placeholder in single braces that reaches a model as it stands."""
    try:
        template = Template(text, where="f.txt")
    except ConfigError as error:
        assert error.message.startswith("f.txt") and error.hint
    else:
        shown = template.render(dict.fromkeys(NAMES, "V"))
        assert "raw" in text or not any("{" + name + "}" in shown for name in NAMES)
