"""The loop ends by validation alone, and the best iteration is the first highest."""

import random

from undo_hpc.config.schema import StopConfig
from undo_hpc.method.decision import decide, decide_by_sets


def action(values: list[float], most: int = 10, **stop: float) -> tuple[str, int]:
    decision = decide(values, StopConfig(**stop), most)  # type: ignore[arg-type]
    return decision.action, decision.best_iteration


def test_gains_go_on() -> None:
    assert action([0.3]) == ("continue", 0)
    assert action([0.3, 0.4]) == ("continue", 1)


def test_patience_and_epsilon() -> None:
    assert action([0.3, 0.3]) == ("converged", 0)
    assert action([0.3, 0.31], epsilon=0.02) == ("converged", 1)
    assert action([0.06, 0.07], epsilon=0.01) == (
        "converged",
        1,
    )  # just epsilon, whatever floating point makes of it
    assert action([0.3, 0.2], patience=2) == ("continue", 0)
    assert action([0.3, 0.2, 0.25], patience=2) == ("converged", 0)
    assert action([0.3, 0.2, 0.35], patience=2) == ("continue", 2)


def test_the_most_iterations_end_it() -> None:
    assert action([0.1, 0.2, 0.3], most=3) == ("finished", 2)
    assert action([0.3, 0.2], enabled=False) == ("continue", 0)


def test_without_validation_nothing_converges_and_the_last_is_the_best() -> None:
    sets = [{"gsm8k": {"accuracy": a}} for a in (0.5, 0.4, 0.3)]
    stop = StopConfig(patience=1)
    assert decide_by_sets(sets[:2], stop, 3).action == "continue"
    end = decide_by_sets(sets, stop, 3)
    assert (end.action, end.best_iteration) == ("finished", 2) and "no validation split" in end.why


def test_a_validation_that_nobody_answered_is_no_accuracy_of_0() -> None:
    """By a policy for evaluate: it was told as 0.0 %, and counted as an iteration without gain."""
    sets = [
        {"validation": {"accuracy": 0.4}},
        {"gsm8k": {"accuracy": 0.9}},
        {"validation": {"accuracy": 0.3}},
    ]
    found = decide_by_sets(sets[:2], StopConfig(patience=1), 9)
    assert (found.action, found.best_iteration) == ("continue", 0)
    assert found.why == "validation was not answered; the best so far is 40.0 % of iteration 0"
    assert decide_by_sets(sets, StopConfig(patience=1), 9).action == "converged"
    assert decide_by_sets(sets[1:], StopConfig(), 9).best_iteration == 1


def test_no_benchmark_changes_the_decision() -> None:
    rng = random.Random(4)
    for _ in range(200):
        validation = [rng.random() for _ in range(rng.randint(1, 6))]
        stop = StopConfig(patience=rng.randint(1, 3), epsilon=rng.choice((0.0, 0.05)))
        decisions = {
            decide_by_sets(
                [{"gsm8k": {"accuracy": rng.random()}, "validation": {"accuracy": a}} for a in validation],
                stop,
                6,
            )
            for _ in range(3)
        }
        assert len(decisions) == 1
