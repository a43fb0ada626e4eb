"""Which problems are regenerated, and that the controls change only what they say."""

from __future__ import annotations

from typing import Any

from undo_hpc.config.schema import MethodConfig
from undo_hpc.method.targets import (
    choose_examples,
    first_target,
    is_chosen,
    learned_splits,
    partners,
    refine_target,
    shown_example,
    shuffle_group,
)
from undo_hpc.records import Feedback, Problem


def row(key: str, verdict: str = "wrong", split: str = "train", **more: object) -> dict[str, Any]:
    base = {
        "idx": int(key[1:]),
        "problem": f"problem {key}",
        "ground_truth": "1",
        "rationale": f"why {key}",
        "student_answer": f"mine {key}",
        "error_kind": "setup",
        "score": 0.0,
    }
    return Feedback(problem_id=key, split=split, verdict=verdict, **(base | more)).to_dict()  # type: ignore[arg-type]


PROBLEM = Problem("p1", "problem p1", "1", 1, solution="1 is 1", options=("1", "2")).to_dict()
ROWS = [
    row("p0", "correct"),
    row("p1"),
    row("p2", "no_answer"),
    row("p3", "correct", unstable=True),
    row("v7", split="validation"),
    row("d9", split="diagnosis"),
]


def chosen(**method: object) -> list[str]:
    return [r["problem_id"] for r in ROWS if is_chosen(r, MethodConfig(**method))]  # type: ignore[arg-type]


def test_which_problems() -> None:
    assert chosen(errors_from="train") == ["p1", "p2"]
    assert chosen(errors_from="both") == ["p1", "p2", "d9"]
    assert chosen(errors_from="diagnosis") == ["d9"]
    assert chosen(errors_from="train", regenerate="wrong_and_unstable") == ["p1", "p2", "p3"]
    assert chosen(errors_from="train", regenerate="all") == ["p0", "p1", "p2", "p3"]


def test_validation_problems_are_never_trained_on() -> None:
    assert "v7" not in chosen(errors_from="both", regenerate="all")
    for errors_from in ("train", "diagnosis", "both"):
        assert "validation" not in learned_splits(MethodConfig(errors_from=errors_from), 1)
        assert learned_splits(MethodConfig(errors_from=errors_from), 0) == ("train",)


def test_a_first_rationale_is_asked_for_plainly() -> None:
    target = first_target(PROBLEM, MethodConfig())
    assert target.style == "plain" and target.options == ("1", "2") and target.ground_truth == "1"
    assert not any(
        (target.rationale, target.student_answer, target.verdict, target.shown_ground_truth, target.solution)
    )
    assert first_target(PROBLEM, MethodConfig(condition="ground_truth")).solution == "1 is 1"


def test_blind_takes_the_attempt_away_and_nothing_else() -> None:
    undo = refine_target(PROBLEM, ROWS[1], ROWS[1], MethodConfig()).to_dict()
    blind = refine_target(PROBLEM, ROWS[1], ROWS[1], MethodConfig(condition="blind")).to_dict()
    assert (
        undo["student_answer"] == "mine p1"
        and undo["rationale"] == "why p1"
        and not undo["shown_ground_truth"]
    )
    assert blind == undo | {"student_answer": "", "verdict": ""}
    assert refine_target(PROBLEM, ROWS[1], ROWS[1], MethodConfig(show_truth=True)).shown_ground_truth == "1"


def test_a_problem_is_no_example_of_itself() -> None:
    method = MethodConfig(examples=2)
    shown = tuple(shown_example(r, method) for r in ROWS[1:3])
    assert [e.problem_id for e in refine_target(PROBLEM, ROWS[1], ROWS[1], method, shown).examples] == ["p2"]


def test_right_answers_get_no_hint() -> None:
    right = row("p1", "correct", student_answer="1+1=3, so 1", error_kind="")
    assert refine_target(PROBLEM, right, right, MethodConfig(hint="step")).failed_step == ""
    wrong = row("p1", student_answer="1+1=3, so 3")
    assert refine_target(PROBLEM, wrong, wrong, MethodConfig(hint="step")).failed_step == "1+1=3"
    assert refine_target(PROBLEM, wrong, wrong, MethodConfig(hint="kind")).error_kind == "setup"
    assert (
        refine_target(PROBLEM, wrong, wrong, MethodConfig(hint="step", condition="blind")).failed_step == ""
    )


def test_shuffled_gives_each_problem_a_foreign_attempt() -> None:
    groups = [shuffle_group(row(f"p{k}", student_answer="x = " * (k % 2))) for k in range(20)]
    mixed = partners(groups, seed=3)
    assert sorted(mixed) == list(range(20)) and mixed == partners(groups, seed=3) != partners(groups, seed=4)
    assert all(other != mine and groups[other] == groups[mine] for mine, other in enumerate(mixed))
    assert partners([*groups, ("format", 0)], seed=3)[-1] != 20, "nor does one that has no like keep its own"
    assert partners([("a", 0), ("b", 0), ("c", 1)], seed=3) in ([1, 2, 0], [2, 0, 1])
    assert partners([], seed=3) == []


def test_examples_are_wrong_ones_first() -> None:
    assert choose_examples([True, False, True], 1, 0) == [1]
    assert sorted(choose_examples([True, False, True], 5, 0)) == [0, 1, 2]
    assert choose_examples([True, False], 0, 0) == []
    assert len({tuple(choose_examples([False] * 50, 3, seed)) for seed in range(5)}) > 1
