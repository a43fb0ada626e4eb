"""Reasoning in the forms that models write it in, split and brought into one form."""

from __future__ import annotations

import time

import pytest

from undo_hpc.chat.reasoning import (
    HARMONY_ANSWER,
    HARMONY_REASONING,
    MARKS,
    join,
    normal_form,
    opened_by,
    split,
    turned_off_by,
)

NORMAL = "<think>\nSix and six.\n</think>\n\nThat is 12."
CHANNELS = "<|channel|>analysis<|message|>Six and six.<|end|><|start|>assistant<|channel|>final<|message|>That is 12."


@pytest.mark.parametrize("marks", MARKS, ids=lambda pair: pair[0])
def test_every_pair_of_marks_is_read_and_brought_into_the_normal_form(marks: tuple[str, str]) -> None:
    opening, closing = marks
    text = f"{opening}\nSix and six.\n{closing}\n\nThat is 12."
    assert split(text) == split(NORMAL) and not split(text).flaw
    assert normal_form(text) == NORMAL
    half = text.removeprefix(opening)
    assert split(half) == split(NORMAL), "the prompt held the opening mark"
    assert normal_form(half, opened=f"{opening}") == NORMAL == normal_form(half)
    assert opened_by(f"<|assistant|>{opening}\n") == f"{opening}\n"
    assert turned_off_by(f"<|assistant|>{opening}\n\n{closing}\n\n") and not turned_off_by(
        f"<|assistant|>{opening}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        CHANNELS,
        f"{CHANNELS}<|return|>",
        f"<|start|>assistant{CHANNELS}<|end|>",
        CHANNELS.replace("analysis<|message|>", "analysis <|constrain|>json<|message|>"),
        "analysisSix and six.assistantfinalThat is 12.",
        "<|begin_of_thought|>Six and six.<|end_of_thought|><|begin_of_solution|>That is 12.<|end_of_solution|>",
        "<|START_THINKING|>Six and six.<|END_THINKING|><|START_RESPONSE|>That is 12.<|END_RESPONSE|>",
    ],
)
def test_channels_and_marked_answers(text: str) -> None:
    assert split(text) == split(NORMAL) and not split(text).flaw
    assert normal_form(text) == NORMAL


def test_several_channels_of_reasoning_are_one() -> None:
    text = CHANNELS.replace(
        "<|start|>", "<|start|>assistant<|channel|>commentary<|message|>Sure?<|end|><|start|>"
    )
    assert split(text).reasoning == "Six and six.\n\nSure?" and split(text).answer == "That is 12."


@pytest.mark.parametrize(
    "text",
    [
        "That is 12.",
        "  6+6=12\n",
        "x < y > z and [T] </b>",
        NORMAL,
        "<think>\nSix and",
        "I think that is 12.",
    ],
)
def test_what_needs_no_change_stays_byte_for_byte(text: str) -> None:
    assert normal_form(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>Six and six", "no end"),
        (CHANNELS.partition("<|start|>")[0], "no end"),
        ("<think>a</think>b<think>c</think>d", "one block"),
        ("<think>a<think>b</think>c", "one block"),
        ("a</think>b</think>c", "one block"),
        ("Well. <think>a</think>b", "behind other text"),
        ("It is 12. <think>", "behind other text"),
        (f"So: {CHANNELS}", "outside of its channels"),
    ],
)
def test_what_is_not_one_block_and_an_answer_is_said_so(text: str, reason: str) -> None:
    assert reason in split(text).flaw


def test_a_completion_that_is_cut_inside_its_reasoning_says_so_in_the_normal_form() -> None:
    assert normal_form("Six and", opened="<think>\n") == "<think>\nSix and"
    assert normal_form("[THINK]Six and") == "<think>\nSix and"
    assert normal_form(f"{HARMONY_REASONING}Six and") == "<think>\nSix and"
    assert normal_form("Six and", opened=HARMONY_REASONING) == "<think>\nSix and"


def test_prompts_that_open_a_block_or_turn_thinking_off() -> None:
    assert opened_by("<think> is a mark.<|assistant|>\n") == ""
    assert opened_by(f"<|start|>assistant{HARMONY_REASONING}") == HARMONY_REASONING
    assert turned_off_by(f"<|start|>assistant{HARMONY_ANSWER}")
    assert not turned_off_by("What does </think> mean?<|assistant|>\n")


def test_joining_is_the_way_back() -> None:
    for marks in MARKS:
        assert split(join("Six and six.", "That is 12.", marks)) == split(NORMAL)
    assert join("", "That is 12.") == "That is 12."


@pytest.mark.parametrize(
    "text",
    ["<|channel|>" + "a" * 60_000, "analysis" + "assistantcommentary" * 12_000],
    ids=["channel", "bare"],
)
def test_a_text_that_never_comes_to_its_answer_is_read_in_linear_time(text: str) -> None:
    """Each completion is: a model in a loop, or a hostile server, would hold up a task for hours."""
    start = time.process_time()
    split(text)
    assert time.process_time() - start < 1.5
