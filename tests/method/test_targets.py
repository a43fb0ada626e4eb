"""Which problems are regenerated, and that the controls change only what they say."""

from undo_hpc.config.schema import MethodConfig
from undo_hpc.method.targets import choose_targets, example_rows, shuffle_errors
from undo_hpc.records import Feedback, Problem


def row(key: str, verdict: str = "wrong", split: str = "train", **more: object) -> Feedback:
    base = {
        "idx": int(key[1:]),
        "problem": f"problem {key}",
        "ground_truth": "1",
        "rationale": f"why {key}",
        "student_answer": f"mine {key}",
        "error_kind": "setup",
        "score": 0.0,
    }
    return Feedback(problem_id=key, split=split, verdict=verdict, **(base | more))  # type: ignore[arg-type]


TRAIN = [Problem(f"p{k}", f"problem p{k}", "1", k) for k in range(6)]
HELD = [Problem("d9", "problem d9", "1", 9)]
ROWS = [
    row("p0", "correct"),
    row("p1"),
    row("p2", "no_answer"),
    row("p3", "correct", unstable=True),
    row("d9", split="diagnosis"),
    row("v7", split="validation"),
]


def chosen(**method: object) -> list[str]:
    return [t.problem.problem_id for t in choose_targets(1, TRAIN, HELD, ROWS, MethodConfig(**method), 0)]  # type: ignore[arg-type]


def test_iteration_0_asks_for_everything_plainly() -> None:
    targets = choose_targets(0, TRAIN, HELD, [], MethodConfig(), 0)
    assert [t.problem.problem_id for t in targets] == [p.problem_id for p in TRAIN]
    assert {t.style for t in targets} == {"plain"}


def test_which_problems() -> None:
    assert chosen(errors_from="train") == ["p1", "p2"]
    assert chosen(errors_from="both") == ["p1", "p2", "d9"]
    assert chosen(errors_from="diagnosis") == ["d9"]
    assert chosen(errors_from="train", regenerate="wrong_and_unstable") == ["p1", "p2", "p3"]
    assert chosen(errors_from="train", regenerate="all") == ["p0", "p1", "p2", "p3"]


def test_validation_problems_are_never_trained_on() -> None:
    assert "v7" not in chosen(errors_from="both", regenerate="all")


def test_blind_takes_the_attempt_away_and_nothing_else() -> None:
    undo = choose_targets(1, TRAIN, HELD, ROWS, MethodConfig(), 0)
    blind = choose_targets(1, TRAIN, HELD, ROWS, MethodConfig(condition="blind"), 0)
    assert [t.problem for t in blind] == [t.problem for t in undo]
    assert all(t.feedback and t.feedback.student_answer == "" and t.feedback.rationale for t in blind)


def test_shuffled_gives_each_problem_a_foreign_attempt() -> None:
    rows = [row(f"p{k}") for k in range(20)]
    mixed = shuffle_errors(rows, seed=3)
    assert [r.problem_id for r in mixed] == [r.problem_id for r in rows]
    assert all(r.student_answer != f"mine {r.problem_id}" for r in mixed)
    assert sorted(r.student_answer for r in mixed) == sorted(r.student_answer for r in rows)
    assert mixed == shuffle_errors(rows, seed=3)
    (alone,) = shuffle_errors([*rows, row("p20", error_kind="format")], seed=3)[-1:]
    assert alone.student_answer != "mine p20", "nor does one that has no like keep its own"


def test_examples_come_from_validation_wrong_first() -> None:
    rows = [row("v1", "correct", "validation"), row("v2", "wrong", "validation"), row("p1")]
    assert [r.problem_id for r in example_rows(rows, 2, 0)] == ["v2", "v1"]
    assert example_rows(rows, 0, 0) == []
