"""Every reason to drop a rationale: when it applies, when it does not, and that the configuration decides."""

from __future__ import annotations

from typing import Any

import pytest

from undo_hpc.config.schema import QualityConfig
from undo_hpc.method.quality import REASONS, assess, leaks, repeated_share

GOOD = "Ann has 17 cakes.\nShe buys 7 more: 17 + 7 = 24.\nThe answer is \\boxed{24}."


def reasons(
    text: str, verdict: Any = "correct", finish_reason: Any = "stop", problem: str = "", **config: Any
) -> tuple[str, ...]:
    return assess(
        text, verdict=verdict, finish_reason=finish_reason, config=QualityConfig(**config), problem=problem
    )


def test_a_good_rationale_is_kept() -> None:
    assert reasons(GOOD) == ()


@pytest.mark.parametrize("verdict", ["wrong", "no_answer", "unparsed", "timeout"])
def test_only_the_verdict_correct_is_right(verdict: str) -> None:
    assert reasons(GOOD, verdict=verdict) == ("wrong",)


def test_an_engine_error_is_the_only_reason_named() -> None:
    assert reasons("", verdict="no_answer", finish_reason="error") == ("error",)


def test_truncation_can_be_allowed() -> None:
    assert reasons(GOOD, finish_reason="length") == ("truncated",)
    assert reasons(GOOD, finish_reason="length", drop_truncated=False) == ()


@pytest.mark.parametrize(
    "token", ["<|im_end|>\n<|im_start|>user", "<end_of_turn>", "<|eot_id|>", "[INST]", "</s>"]
)
def test_a_control_token_of_a_model_is_no_part_of_a_rationale(token: str) -> None:
    assert reasons(f"{GOOD}{token}") == ("control_token",)
    assert reasons(f"{GOOD}{token}", drop_control_tokens=False) == ()
    assert reasons(f"{GOOD}{token}", problem=f"What does {token} mean?") == ()


def test_the_marks_of_reasoning_are_no_control_tokens() -> None:
    assert reasons(f"<think>\n17 + 7\n</think>\n\n{GOOD}") == ()
    assert (
        reasons(
            f"<|channel|>analysis<|message|>17 + 7<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}"
        )
        == ()
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "This agrees with the given answer.",
        "THE\nGIVEN   ANSWER is 24.",
        "Since the correct answer is given, we stop.",
        "The student forgot to carry.",
        "the student's attempt fails at step 2",
        "As the previous solution says, 17 + 7 = 24.",
        "We compare with the ground truth.",
        "The expected answer is 24.",
        "The attempt goes wrong in the second line.",
    ],
)
def test_speaking_of_what_only_the_teacher_saw_is_a_leak(sentence: str) -> None:
    assert reasons(f"{GOOD} {sentence}") == ("leak",)
    assert reasons(f"{GOOD} {sentence}", drop_leaks=False) == ()


@pytest.mark.parametrize(
    "sentence",
    [
        "The answer is 24.",
        "The given equation has two solutions.",
        "Students who pass: 12.",
        "An original price of 12 falls by 3.",
        "The solution set is given by x > 2.",
        "He attempted 4 questions.",
    ],
)
def test_ordinary_mathematics_is_no_leak(sentence: str) -> None:
    assert reasons(f"{GOOD} {sentence}") == ()


def test_a_word_of_the_problem_is_no_leak() -> None:
    text = "The student reads 5 pages a day, so 10 in two days."
    assert leaks(text)
    assert not leaks(text, problem="How many pages has the student read after two days?")
    assert leaks(text + " The given answer is 10.", problem="How many pages has the student read?")


def test_further_phrases_are_plain_text() -> None:
    assert reasons(GOOD + " See (*) there.", leak_phrases=["see (*)"]) == ("leak",)
    assert reasons(GOOD, leak_phrases=[".*", " "]) == ()


def test_length_limits_count_characters() -> None:
    assert reasons("24", min_chars=3) == ("too_short",)
    assert reasons("  \n ", min_chars=1) == ("too_short",)
    assert reasons("12345", max_chars=4) == ("too_long",)
    assert reasons("1234", max_chars=4) == ()


def test_a_loop_is_a_repetition_with_and_without_line_breaks() -> None:
    assert reasons("So x = 2.\n" * 20) == ("repetition",)
    assert reasons("Wait, let me check again. " * 20) == ("repetition",)
    assert reasons("So x = 2.\n" * 20, max_repeated_lines=1.0) == ()
    assert repeated_share("a\nb\na\nb") == 0.5
    assert repeated_share("") == 0.0


def test_all_reasons_are_named_in_their_order() -> None:
    found = reasons("the student\n" * 9, verdict="wrong", finish_reason="length", max_chars=5)
    assert found == ("wrong", "truncated", "leak", "too_long", "repetition")
    assert set(found) <= set(REASONS)
