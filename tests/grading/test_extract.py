"""Reading boxes, ground truths, and the answer in a whole text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.grading import grade, reasoning
from undo_hpc.grading.extract import after_hashes, extract_gold, find, last_boxed
from undo_hpc.grading.letters import find_letter
from undo_hpc.grading.reasoning import visible


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} is wrong. \boxed{2}", "2"),
        (r"\boxed{3} \boxed{}", "3"),
        (r"\boxed 7 metres", "7"),
        (r"\fbox{4}", "4"),
        (r"\boxed{\boxed{9}}", "9"),
        (r"\boxed{2}, \boxed{3} and $\boxed{5}$", "2, 3, 5"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{never closed", None),
        ("nothing here", None),
        ("", None),
    ],
)
def test_last_boxed(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("work\n#### 1,000", "1,000"),
        ("#### 1\n#### 2\n", "2"),
        ("a #### ", None),
        ("none", None),
        ("x\n#### 5\n####", "5"),
    ],
)
def test_after_hashes(text: str, answer: str | None) -> None:
    assert after_hashes(text) == answer


def test_extract_gold_by_mode() -> None:
    text = "We get \\boxed{3}.\n#### 4"
    assert extract_gold(text, "boxed") == "3"
    assert extract_gold(text, "hashes") == extract_gold(text) == "4"
    assert extract_gold(" 5 ", "plain") == "5"
    assert extract_gold("5", "boxed") is None
    assert extract_gold("  ") is None


def test_think_blocks_and_run_on_text_do_not_count() -> None:
    assert visible("<think>\\boxed{1}</think> it is 2") == " it is 2"
    assert visible("the steps are above</think>\\boxed{3}") == "\\boxed{3}"
    assert "9" not in visible("The answer is 4.<|im_end|>\n<|im_start|>user 9")
    assert "9" not in visible("#### 4\n\nQuestion: What else?\nAnswer: 9")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("Final Answer: The largest number is 34.", "34"),
        ("It follows that $x=3$. Therefore there are 12 ways.", "12"),
        ("The answer is not 7; it is 8.", "8"),
        ("First \\boxed{3}. On second thought, the final answer is 5.", "5"),
        ("\\boxed{3}. So our answer is correct.", "3"),
        ("<answer> 6 </answer>", "6"),
        ("x^2 + 1", "x^2 + 1"),
    ],
)
def test_where_the_answer_stands(text: str, answer: str) -> None:
    found = find(text, 0)
    assert found is not None
    assert found.text == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("It can't be A or B, so the answer is D.", "D"),
        ("\\boxed{\\text{(E)}}", "E"),
        ("I think the answer is (B)", "B"),
        ("Answer: **A**", "A"),
        ("The answer is forty.", "B"),
    ],
)
def test_find_letter(text: str, letter: str) -> None:
    found = find_letter(text, ("ten", "forty"))
    assert found is not None
    assert found.text == letter


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 1 if n is even and 2 if n is odd",
        "The answer is 1 if the number of players is even, otherwise 2.",
        "The answer is 1 if open(/a/file) else 2",
    ],
)
def test_an_answer_by_cases_is_none_of_its_values(text: str) -> None:
    assert not grade(text, "1").correct and not grade(text, "2").correct
    assert grade(f"{text[:14]} 1 if we count the empty set.", "1").correct


_PIECES = ("The answer is ", "4", "\\boxed{7}", "\n", "\nQ: ", "\nProblem 2: ", "\nUser: ", "\n### Instruction: ", "\nPut ", "**Problem x: ", "\n**Problem**:",
           "[Note", "[1, 2]", "a < b", "<|im_end|>", "</s>", "<think>", "</think>", "analysis",
           "[THINK]", "[/THINK]", "[asy]x[/asy]", "<<2+2=4>>", " ")  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_what_visible_does_not_search_holds_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = reasoning.visible(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reasoning, "_LINE", re.compile(""))  # each text is searched
        assert reasoning.visible(text) == found
    if "<" not in text and "[" not in text and not text.startswith("analysis"):
        assert reasoning._without_drawings(reasoning._behind_reasoning(text)) == text
