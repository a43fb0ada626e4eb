"""Contamination: a benchmark's text inside the training problems."""

from __future__ import annotations

from dataclasses import dataclass

from undo_hpc.data import contamination
from undo_hpc.records import Problem, content_id


@dataclass(frozen=True)
class Named:
    name: str
    problems: list[Problem]


def problem(text: str) -> Problem:
    return Problem(content_id(text), text, "1", 0)


LONG = "A farmer counts seventeen red hens, four grey geese and nine small ducks in the yard at dawn. How many birds are there?"


def test_a_test_problem_inside_train_is_found() -> None:
    bench = Named("b", [problem(LONG), problem("What is 3+4?")])
    train = [
        problem(
            "  a FARMER counts seventeen red hens, four grey geese and nine small ducks\nin the yard at dawn. How many birds are there?"
        ),
        problem(
            "Yesterday a farmer counts seventeen red hens, four grey geese and nine small ducks, then leaves. How many legs?"
        ),
        problem("What is  3+4?"),
        problem("What is 3-4?"),
        problem(
            "A farmer counts seventeen red hens, five grey geese and ten large ducks in the barn at night. How many?"
        ),
    ]
    found = {(o.problem_id, o.kind, o.benchmark_problem_id) for o in contamination(train, [bench], 13)}
    assert found == {
        (train[0].problem_id, "exact", bench.problems[0].problem_id),
        (train[1].problem_id, "ngram", bench.problems[0].problem_id),
        (train[2].problem_id, "exact", bench.problems[1].problem_id),
    }
    assert len(contamination(train, [bench], 6)) == 4, "shorter runs catch more"


def test_each_benchmark_is_named() -> None:
    first, second = Named("first", [problem(LONG)]), Named("second", [problem("Also: " + LONG)])
    found = contamination([problem(LONG)], [first, second], 13)
    assert [(o.benchmark, o.kind) for o in found] == [("first", "exact"), ("second", "ngram")]


def test_boilerplate_shared_by_all_stays_linear() -> None:
    """A run of words in each of m benchmark problems and each of n training problems gives n overlaps, not n * m."""
    common = "express your answer as a common fraction in lowest terms and put it within a box please"
    bench = Named("b", [problem(f"{i} {common}") for i in range(300)])
    assert len(contamination([problem(f"t{i} {common}") for i in range(300)], [bench], 13)) == 300


def test_nothing_to_find() -> None:
    assert contamination([], [Named("b", [problem(LONG)])], 13) == []
    assert contamination([problem(LONG)], [], 13) == []
    assert contamination([problem("one two three")], [Named("b", [problem("one two three four")])], 13) == []


def test_a_run_of_more_words_than_any_text_has_costs_nothing() -> None:
    """It was cut out of each problem word by word: with 100,000 a dry run took minutes."""
    assert contamination([problem("a b c")], [Named("b", [problem("a b c d")])], 10**15) == []
