"""The template language: braces of mathematics stay, values are put in once, sections come and go, mistakes are
named.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.errors import DataError
from undo_hpc.prompts.template import NAMES, Template


def test_braces_that_name_no_placeholder_are_text() -> None:
    text = r"Put {x} into \boxed{} or \boxed{answer}, {2}, {{problem}}, {a b}, {"
    assert Template(text).render({"problem": "P"}) == text.replace("{problem}", "P")


@given(st.dictionaries(st.sampled_from(NAMES), st.text(alphabet="{}#^/problemtuh \n", max_size=30)))
def test_values_are_never_looked_at_again(values: dict[str, str]) -> None:
    template = Template("|".join("{" + name + "}" for name in NAMES) + "|.")
    assert template.render(values) == "|".join(values.get(name, "") for name in NAMES).lstrip() + "|."


@pytest.mark.parametrize(
    ("truth", "expected"), [("7", "a\nT=7\nb"), ("", "a\nno T\nb"), (" \n", "a\nno T\nb")]
)
def test_a_section_tag_alone_on_its_line_takes_the_line_with_it(truth: str, expected: str) -> None:
    template = Template("a\n{#truth}\nT={truth}\n{/truth}\n  {^truth}\nno T\n{/truth}\nb\n")
    assert template.render({"truth": truth}) == expected


def test_sections_within_a_line_and_nested() -> None:
    template = Template("x{#truth} and {truth}{#verdict} ({verdict}){/verdict}{/truth}.")
    assert template.render({"truth": "7", "verdict": "wrong"}) == "x and 7 (wrong)."
    assert template.render({"truth": "7"}) == "x and 7."
    assert template.render({"verdict": "wrong"}) == "x."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ok\n{problm}", r"f.txt, line 2: no placeholder is called \{problm\}"),
        ("{#hint}x{/hint}", "no placeholder is called 'hint'"),
        ("\n{#truth}\nx", r"\{#truth\} is not closed"),
        ("{/truth}", "never opened"),
        ("{#truth}{#verdict}x{/truth}{/verdict}", r"expected \{/verdict\} first"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Template(text, where="f.txt")
