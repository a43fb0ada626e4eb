"""Order, steps and packing are pure functions: what must hold of them holds for any lengths."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from undo_hpc.config.train import TrainConfig
from undo_hpc.method.metrics import NOT_REACHED
from undo_hpc.training.packing import (
    StepPlan,
    best_fit_decreasing,
    cut_steps,
    epoch_order,
    pack,
    pad_bins,
    passes,
)
from undo_hpc.training.schedule import learning_rate

LENGTHS = st.lists(st.integers(1, 500), max_size=80)


@given(LENGTHS, st.integers(1, 600), st.integers(1, 9))
@example([68, 68, 68, 69, 69, 205], 204, 1)  # one item over the capacity does not widen the other bins
def test_packing_loses_and_doubles_nothing_and_keeps_the_capacity(
    lengths: list[int], capacity: int, ranks: int
) -> None:
    for split in (pack, pad_bins):
        bins = split(lengths, capacity, ranks)
        assert Counter(i for b in bins for i in b) == Counter(range(len(lengths)))
        assert len(bins) % ranks == 0
        for b in bins:
            cost = (
                sum(lengths[i] for i in b)
                if split is pack
                else max((lengths[i] for i in b), default=0) * len(b)
            )
            assert cost <= capacity or len(b) == 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(100, 400))
def test_best_fit_is_near_the_least_number_of_bins(lengths: list[int], capacity: int) -> None:
    bins = best_fit_decreasing(lengths, capacity)
    least = -(-sum(lengths) // capacity)
    assert len(bins) <= 11 / 9 * least + 1 + (max(lengths) > capacity / 2) * len(
        [n for n in lengths if n > capacity / 2]
    )
    loads = sorted(sum(lengths[i] for i in b) for b in bins)
    assert all(a + b > capacity for a, b in pairwise(loads))  # no two bins could have been one


def test_ranks_get_about_the_same_load() -> None:
    rng = np.random.default_rng(0)
    lengths = [int(n) for n in rng.integers(50, 1500, 200)]
    bins = pack(lengths, 16384, 8)
    loads = [sum(lengths[i] for i in b) for b in bins]
    assert max(loads) - min(loads) < 0.02 * max(loads)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=100), st.integers(1, 900))
def test_steps_cut_the_order_without_gaps_within_the_budget(lengths: list[int], budget: int) -> None:
    cuts = cut_steps(np.asarray(lengths), budget)
    assert cuts[0] == 0 and cuts[-1] == len(lengths) and (np.diff(cuts) > 0).all()
    for a, b in pairwise(cuts):
        total = sum(lengths[a:b])
        assert total <= budget or b - a == 1
        assert b == len(lengths) or total + lengths[b] > budget  # it could not have held one more


@given(st.integers(1, 200), st.integers(0, 99), st.integers(0, 9))
def test_the_order_is_a_permutation_by_seed_and_epoch(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order) == list(range(count))
    assert (order == epoch_order(count, seed, epoch)).all()
    if count > 50:
        assert (order != epoch_order(count, seed, epoch + 1)).any() and (
            order != epoch_order(count, seed + 1, epoch)
        ).any()


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=60),
    st.sampled_from([0.3, 1.0, 2.0, 2.5]),
    st.integers(0, 30),
)
def test_a_plan_goes_through_the_data_and_any_step_can_be_asked_for(
    lengths: list[int], epochs: float, max_steps: int
) -> None:
    def plan() -> StepPlan:
        return StepPlan(np.asarray(lengths), budget=100, epochs=epochs, max_steps=max_steps, seed=1)

    steps = list(plan().steps())
    assert len(steps) == plan().total and [s.number for s in steps] == list(range(len(steps)))
    if max_steps:
        assert len(steps) <= max_steps
    elif epochs >= 1:
        seen = Counter(int(i) for s in steps for i in s.examples)
        assert min(seen.get(i, 0) for i in range(len(lengths))) >= int(epochs)
        assert steps[-1].epoch == pytest.approx(epochs, abs=1.0)
    learned = {int(i) for s in steps for i in s.examples}
    left_out = {NOT_REACHED: len(lengths) - len(learned)} if len(learned) < len(lengths) else {}
    problems = np.asarray([str(i // 3) for i in range(len(lengths))])
    for before, own in ({"x": 3}, False), ({}, True), ({}, False):
        told = {"rows_given": 99, "rows_learned": len(lengths), "rows_left_out": before}
        distinct = {"problems_learned": len({i // 3 for i in learned})}
        assert plan().counted(told, problems, own_answers=own) == {
            "rows_given": 99,
            "rows_learned": len(learned),
            "rows_left_out": before | left_out,
            **(distinct if own or before or left_out else {}),
        }
    whole = StepPlan(np.asarray(lengths), budget=100, epochs=epochs, max_steps=0, seed=1)
    assert plan().epochs == (epochs if len(steps) == whole.total else pytest.approx(steps[-1].epoch))
    for number in {0, len(steps) // 2, len(steps) - 1}:
        assert (plan().step(number).examples == steps[number].examples).all()
    with pytest.raises(IndexError):
        plan().step(len(steps))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_then_falls_to_its_floor(schedule: str) -> None:
    config = TrainConfig(learning_rate=1.0, warmup_ratio=0.1, schedule=schedule, min_learning_rate_ratio=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert 0 < rates[0] < rates[9] < rates[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.1, abs=0.02)


def test_a_budget_of_tokens_gives_passes_and_their_tokens() -> None:
    lengths = np.array([30, 50, 20] * 40, dtype=np.int64)
    assert passes(3.0, 0, lengths) == 3.0 and passes(3.0, 10_000, lengths) == 2.5
    plan = StepPlan(lengths, budget=200, epochs=passes(3.0, 10_000, lengths), max_steps=0, seed=1)
    assert abs(plan.tokens() - 10_000) <= 200, "to within a step"
