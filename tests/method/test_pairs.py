"""Preference pairs: a right text against a wrong one of the same problem, and nothing that nobody is sure of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.method.pairs import Left, Pair, make_pairs
from undo_hpc.records import Attempt


def attempt(text: str, verdict: str = "wrong", finish: str = "stop", key: str = "p") -> Attempt:
    return Attempt(key, 0, 0, "plain", text, verdict, "", "", finish, 1, 1, 0, 0.0)  # type: ignore[arg-type]


def pairs(
    teacher: Iterable[Attempt] = (), student: Iterable[Attempt] = (), learned: Iterable[str] = ()
) -> tuple[list[Pair], dict[str, int]]:
    left = Left()
    found = list(make_pairs(["p"], {"p": list(teacher)}, {"p": list(student)}, {"p": list(learned)}, left))
    return found, dict(left.reasons)


def test_the_rationale_that_is_learned_stands_against_each_wrong_answer_once() -> None:
    found, left = pairs([attempt("t")], [attempt("s"), attempt("s"), attempt("ok", "correct")], ["good"])
    assert (
        found == [Pair("p", "good", "s", "teacher", "student"), Pair("p", "good", "t", "teacher", "teacher")]
        and not left
    )


def test_a_right_answer_of_the_student_is_chosen_where_the_teacher_has_none() -> None:
    found, _ = pairs([attempt("t")], [attempt("mine", "correct"), attempt("s")])
    assert [(p.chosen, p.chosen_from) for p in found] == [("mine", "student")] * 2
    found, _ = pairs([attempt("right", "correct")], [attempt("mine", "correct"), attempt("s")])
    assert [(p.chosen, p.chosen_from, p.rejected) for p in found] == [("right", "teacher", "s")]


def test_what_the_distilled_set_refuses_is_not_preferred_either() -> None:
    cut, leaking = attempt("cut", "correct", "length"), replace(attempt("leak", "correct"), flags=("leak",))
    assert pairs([cut, leaking, attempt("t")]) == ([], {"no right answer": 1})
    found, _ = pairs(
        [cut, leaking, attempt("t")], [attempt("off", "correct", "length"), attempt("mine", "correct")]
    )
    assert found == [Pair("p", "mine", "t", "student", "teacher")]


def test_what_is_not_surely_wrong_is_in_no_pair_and_counted() -> None:
    doubtful = [
        attempt("a", "timeout"),
        attempt("b", "unparsed"),
        attempt("c", finish="length"),
        attempt("d", finish="error"),
        attempt(" "),
    ]
    found, left = pairs([], doubtful, ["good"])
    assert not found and left == {"not decided": 2, "cut off": 1, "failed": 1, "empty": 1}
    assert pairs([attempt("t")], [attempt("s")]) == ([], {"no right answer": 2})
    assert pairs([], [attempt("good")], ["good"])[0] == [], "the same text is not preferred to itself"


TEXTS = st.sampled_from(["a", "b", "c", ""])
ATTEMPTS = st.lists(
    st.builds(
        attempt,
        TEXTS,
        st.sampled_from(["correct", "wrong", "no_answer", "timeout"]),
        st.sampled_from(["stop", "length"]),
    ),
    max_size=5,
)


@given(ATTEMPTS, ATTEMPTS, st.lists(TEXTS.filter(bool), max_size=2))
def test_a_pair_is_right_against_wrong(
    teacher: list[Attempt], student: list[Attempt], learned: list[str]
) -> None:
    correct = [row for row in (*teacher, *student) if row.verdict == "correct"]
    right = {*learned, *(row.text for row in correct)}
    whole = {*learned, *(row.text for row in correct if row.finish_reason == "stop")}
    wrong = {
        row.text
        for row in (*teacher, *student)
        if row.verdict in ("wrong", "no_answer") and row.finish_reason == "stop"
    }
    found, _ = pairs(teacher, student, learned)
    assert all(p.chosen in whole and p.rejected in wrong - right and p.rejected.strip() for p in found)
    assert len({p.rejected for p in found}) == len(found)
    assert {p.rejected for p in found} == {text for text in wrong - right if text.strip() and whole}
