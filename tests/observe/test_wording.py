"""Settings and figures in words."""

from __future__ import annotations

import pytest

from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.observe.wording import accuracy, evaluation_settings, generation_settings, learned, percent


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([], "greedy (temperature 0), 1 sample a problem, at most 2,048 new tokens"),
        (
            ["evaluate.sampling.max_new_tokens=40"],
            "greedy (temperature 0), 1 sample a problem, at most 40 new tokens",
        ),
        (
            [
                "evaluate.sampling.temperature=0.6",
                "evaluate.sampling.top_p=1",
                "evaluate.sampling.top_k=20",
                "evaluate.samples=4",
            ],
            "temperature 0.6 (top_k 20), 4 samples a problem, at most 2,048 new tokens",
        ),
        (
            ["evaluate.limit=100", "evaluate.sampling.max_new_tokens_by_iteration={0: 512, 2: 1024}"],
            "greedy (temperature 0), 1 sample a problem, at most 512 new tokens, 1,024 from iteration 2, first 100 problems of each benchmark",
        ),
    ],
)
def test_how_the_student_answers(sets: list[str], words: str) -> None:
    assert evaluation_settings(override(RunConfig(), sets)) == words


def test_sets_that_are_asked_otherwise_are_named() -> None:
    added = (
        'evaluate.added={"all": {"benchmark": "gsm8k"}, "same": {"benchmark": "gsm8k", "limit": 100}, '
        '"few": {"benchmark": "math500", "limit": 9, "samples": 4, "temperature": 0.5}}'
    )
    words = evaluation_settings(override(RunConfig(), ["evaluate.limit=100", added]))
    usual, *others = words.split("; ")
    assert usual.endswith(
        "1 sample a problem, at most 2,048 new tokens, first 100 problems of each benchmark"
    )
    assert others == [
        "all: all problems",
        "few: temperature 0.5 (top_p 0.95), 4 samples a problem, first 9 problems",
    ]


def test_how_the_teacher_answers() -> None:
    sets = [
        "generate.samples=2",
        "generate.max_attempts=4",
        "generate.retry_temperature_step=0.1",
        "generate.sampling.top_p=1",
    ]
    assert generation_settings(override(RunConfig(), sets)) == (
        "temperature 0.7, 2 samples a problem, up to 4 attempts until one is right (temperature +0.1 with each), at most 2,048 new tokens"
    )


def test_rows_learned_and_why_not() -> None:
    assert learned({}, {"rows": 1}) == "1 row learned"
    assert learned({"rows_given": 38, "rows_learned": 38, "rows_left_out": {}}, {}) == "38 rows learned"
    left = {"longer than max_length (40)": 33, "the template drops it": 1}
    told = learned({"rows_given": 38, "rows_learned": 4, "rows_left_out": left}, {})
    assert told == "4 of 38 rows learned (33: longer than max_length (40); 1: the template drops it)"


def test_shares() -> None:
    assert percent(1, 8, 1) == "12.5 %" and percent(0, 0) == "0 %"
    assert accuracy({"accuracy": 0.45, "low": 0.3833, "high": 0.5188}) == "45.0 % [38.3, 51.9]"
