"""The plan: every problem in just one shard whatever their number, slices that cover, seeds that hang on nothing else."""

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from undo_hpc.config.schema import RunConfig
from undo_hpc.layout import Layout
from undo_hpc.plan import (
    IterationPlan,
    build_graph,
    choose_shards,
    deal,
    pack_slices,
    plan_iteration,
    request_seed,
    slice_sets,
)
from undo_hpc.records import Problem


def problems(count: int) -> list[Problem]:
    return [Problem(f"id{k}", "x" * (k * 7 % 50), "1", k) for k in range(count)]


@given(count=st.integers(0, 60), shards=st.integers(1, 20))
def test_dealing_loses_and_doubles_nothing_and_is_even(count: int, shards: int) -> None:
    parts = [deal(problems(count), shards, k) for k in range(shards)]
    assert sorted(p.id for part in parts for p in part) == sorted(p.id for p in problems(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_long_problems_are_spread() -> None:
    parts = [deal(problems(60), 4, k) for k in range(4)]
    sizes = [sum(len(p.problem) for p in part) for part in parts]
    assert max(sizes) - min(sizes) <= 50


@given(
    sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 5000), min_size=1), per_task=st.integers(1, 700)
)
def test_slices_cover_each_set_once(sizes: dict[str, int], per_task: int) -> None:
    slices = slice_sets(sizes, per_task)
    for group, size in sizes.items():
        mine = [s for s in slices if s.group == group]
        assert [s.shard for s in mine] == list(range(len(mine)))
        assert mine[0].start == 0 and mine[-1].stop == size
        assert all(a.stop == b.start for a, b in itertools.pairwise(mine))
        assert all(s.stop - s.start <= per_task for s in mine)


@given(sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 500), min_size=1), per_task=st.integers(1, 700))
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
    assert IterationPlan.from_dict(plan.to_dict()) == plan
    assert {s.group for s in plan.slices("evaluate")} == {"gsm8k", "validation"}


def test_the_graph_is_in_an_order_that_can_run(tmp_path_factory: object) -> None:
    from pathlib import Path

    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"train": 10, "validation": 3})
    seen: set[str] = set()
    for stage in build_graph(RunConfig(), Layout(Path("/r")), plan):
        assert set(stage.after) <= seen
        seen.add(stage.name)
    assert seen == {"generate", "baseline", "merge", "train", "evaluate", "advance"}
    assert {s.group for s in plan.slices("baseline")} == {"validation"}


def test_shards_follow_the_measured_speed() -> None:
    config = RunConfig.model_validate({"generate": {"target_minutes": 10, "sampling": {"max_tokens": 1000}}})
    slow, fast = choose_shards(config, 10_000, 100.0), choose_shards(config, 10_000, 1000.0)
    assert slow == 84 and fast == 9
    assert choose_shards(RunConfig.model_validate({"generate": {"shards": 50}}), 20) == 20


def test_where_nobody_is_asked_advance_waits_for_the_training() -> None:
    config = RunConfig.model_validate({"evaluate": {"baseline": False}})
    plan = plan_iteration(config, 0, problems=5, sets={})
    stages = {s.name: s for s in build_graph(config, Layout(Path("/r")), plan)}
    assert stages["evaluate"].tasks == () and stages["advance"].after == ("train",)
