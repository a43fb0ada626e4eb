"""The plan: every problem in just one shard whatever their number, slices that cover, seeds that hang on nothing else."""

import itertools
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.cutting import EvaluationSlice, cut_evenly, pack_slices, slice_sets
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import (
    IterationPlan,
    TargetsFile,
    build_graph,
    choose_shards,
    plan_iteration,
    request_seed,
)
from undo_hpc.pipeline.workload import Measured, estimate


@given(lengths=st.lists(st.integers(0, 500), max_size=60), shards=st.integers(1, 20))
def test_shards_lose_and_double_nothing_and_none_is_empty(lengths: list[int], shards: int) -> None:
    bounds = cut_evenly(lengths, shards)
    assert len(bounds) == shards + 1 and bounds[0] == 0 and bounds[-1] == len(lengths)
    sizes = [b - a for a, b in itertools.pairwise(bounds)]
    assert min(sizes) >= (1 if len(lengths) >= shards else 0)


@given(lengths=st.lists(st.integers(0, 500), min_size=40, max_size=200), shards=st.integers(1, 10))
def test_shards_take_about_equally_long(lengths: list[int], shards: int) -> None:
    each = max(1, sum(lengths) // len(lengths))
    costs = [each + length for length in lengths]
    bounds = cut_evenly(lengths, shards)
    for start, stop in itertools.pairwise(bounds):
        assert abs(sum(costs[start:stop]) - sum(costs) / shards) <= max(costs)


def test_sorted_lengths_leave_no_shard_with_all_the_long_ones() -> None:
    bounds = cut_evenly([10] * 500 + [100] * 500, 10)
    sizes = [b - a for a, b in itertools.pairwise(bounds)]
    assert max(sizes) <= 2.5 * min(sizes) and sizes[0] > sizes[-1]


@given(
    sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 5000), min_size=1),
    per_task=st.integers(1, 700),
)
def test_slices_cover_each_set_once(sizes: dict[str, int], per_task: int) -> None:
    slices = slice_sets(sizes, per_task)
    for name, size in sizes.items():
        mine = [s for s in slices if s.problem_set == name]
        assert [s.shard for s in mine] == list(range(len(mine)))
        assert mine[0].start == 0 and mine[-1].stop == size
        assert all(a.stop == b.start for a, b in itertools.pairwise(mine))
        assert all(s.stop - s.start <= per_task for s in mine)


@given(
    sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 500), min_size=1),
    per_task=st.integers(1, 700),
)
def test_packing_keeps_every_slice_and_the_limit(sizes: dict[str, int], per_task: int) -> None:
    slices = slice_sets(sizes, per_task)
    tasks = pack_slices(slices, per_task)
    assert [part for parts in tasks for part in parts] == list(slices)
    assert all(sum(part.stop - part.start for part in parts) <= per_task for parts in tasks)


def test_seeds_differ_by_each_part_and_fit_31_bits() -> None:
    base = request_seed(0, 0, "p", 0, "teacher")
    others = [
        request_seed(1, 0, "p", 0, "teacher"),
        request_seed(0, 1, "p", 0, "teacher"),
        request_seed(0, 0, "q", 0, "teacher"),
        request_seed(0, 0, "p", 1, "teacher"),
        request_seed(0, 0, "p", 0, "student"),
    ]
    assert base not in others and len(set(others)) == 5
    assert all(0 <= seed < 2**31 for seed in others)


def test_a_plan_survives_its_file() -> None:
    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"gsm8k": 5000, "validation": 3})
    plan = replace(
        plan,
        targets=(
            TargetsFile(sha256="ab", bytes=7, rows=1, first=0),
            TargetsFile(sha256="cd", bytes=0, rows=0, first=None),
        ),
        inputs={"splits": "s"},
    )
    assert IterationPlan.from_dict(orjson.loads(orjson.dumps(plan.to_dict()))) == plan
    assert {s.problem_set for s in plan.slices("evaluate")} == {"gsm8k", "validation"}


def test_a_value_of_a_plan_that_has_changed_is_noticed_and_one_without_a_seal_is_read() -> None:
    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"gsm8k": 50, "validation": 3})
    data = orjson.loads(orjson.dumps(plan.to_dict()))  # as it stands in the file
    for key in data:
        for value in (None, 7, "odd", [], {"odd": 1}):
            if key != "seal" and data[key] != value:
                with pytest.raises((TypeError, ValueError)):
                    IterationPlan.from_dict(data | {key: value})
    assert IterationPlan.from_dict({key: value for key, value in data.items() if key != "seal"}) == plan


@pytest.mark.parametrize("stage", ["evaluate", "baseline", "sample"])
@pytest.mark.parametrize("name", ["../../../ours", "/home/ours", ".."])
def test_a_set_of_a_plan_is_no_file_outside_of_the_run(stage: str, name: str) -> None:
    """`show` and `report` read what lies there, and a run that was handed over may name any."""
    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"gsm8k": 50})
    changed = replace(plan, **{stage: ((EvaluationSlice(name, 0, 0, 1),),)})
    with pytest.raises(TypeError):
        IterationPlan.from_dict(orjson.loads(orjson.dumps(changed.to_dict())))


def test_the_graph_is_in_an_order_that_can_run(tmp_path_factory: object) -> None:
    from pathlib import Path

    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"train": 10, "validation": 3})
    seen: set[str] = set()
    for stage in build_graph(RunConfig(), Layout(Path("/r")), plan):
        assert set(stage.after) <= seen
        seen.add(stage.name)
    assert seen == {"generate", "baseline", "merge", "train", "evaluate", "advance"}
    assert {s.problem_set for s in plan.slices("baseline")} == {"validation"}


def test_shards_follow_the_measured_speed() -> None:
    def shards(speed: float, **more: object) -> int:
        generate = {"target_minutes": 10, "sampling": {"max_new_tokens": 1000}, "tokens_per_second": speed}
        config = RunConfig.model_validate({"generate": generate} | more)
        return choose_shards(config, 10_000, estimate(config, 0, 10_000))

    assert shards(100.0) == 84 and shards(1000.0) == 9
    limited = {"cluster": {"resources": {"generate": {"minutes": 5}}}}
    assert shards(1000.0, **limited) == 21, "a task ends well within its time limit"
    fixed = RunConfig.model_validate({"generate": {"shards": 50}})
    assert choose_shards(fixed, 20, estimate(fixed, 0, 20)) == 20


def test_the_workload_says_what_it_rests_on() -> None:
    config = RunConfig.model_validate(
        {
            "generate": {
                "samples": 2,
                "sampling": {"max_new_tokens": 1000, "max_new_tokens_by_iteration": {1: 400}},
            }
        }
    )
    guess = estimate(config, 0, 100, prompt_characters=350)
    assert (guess.prompt_tokens, guess.completion_tokens, guess.most_completion_tokens) == (
        20_000,
        100_000,
        400_000,
    )
    assert "A guess" in guess.basis and "guessed" in guess.basis
    told = {"rows": 150, "problems": 100, "completion_tokens": 45_000, "new_tokens": 45_000, "seconds": 90.0}
    measured = Measured.from_metrics({"iteration": 0, "generate": told})
    known = estimate(config, 1, 20, prompt_characters=350, measured=measured)
    assert (known.prompt_tokens, known.completion_tokens, known.tokens_per_second) == (3_000, 9_000, 500.0)
    assert known.most_completion_tokens == 20 * 4 * 400 and "as measured in iteration 0" in known.basis
    assert "18 seconds for 1 task at once" in known.in_words(1)
    assert Measured.from_metrics({"generate": {"rows": 0}}) is None


def test_where_nobody_is_asked_advance_waits_for_the_training() -> None:
    config = RunConfig.model_validate({"evaluate": {"baseline": False}})
    plan = plan_iteration(config, 0, problems=5, sets={})
    stages = {s.name: s for s in build_graph(config, Layout(Path("/r")), plan)}
    assert stages["evaluate"].tasks == () and stages["advance"].after == ("train",)
