"""Hours from events: what was useful, lost, idle; estimates; the budget."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.config.load import override
from undo_hpc.control.budget import check_budget, estimate_next, require_budget
from undo_hpc.control.spent import (
    Hours,
    StageCost,
    Start,
    measure,
    rationale_cost,
    split_hours,
    starts_of,
    summarise,
)
from undo_hpc.control.taking_over import take_over
from undo_hpc.errors import Incomplete
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.events import EventLog, read_events
from undo_hpc.training.spec import TrainSpec


def event(kind: str, time: float, pid: int = 1, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": time, "pid": pid, "host": "n1", **fields}


def test_a_start_with_its_end() -> None:
    events = [
        event("start", 100, gpus=4, cpus=8),
        event("ready", 130),
        event("end", 3730, status="complete", seconds=3630),
    ]
    (start,) = starts_of(events)
    hours = split_hours(start, "generate", 10)
    assert (start.gpus, start.load_s, start.ended) == (4, 30, "complete")
    assert hours.useful == pytest.approx(1.0) and hours.idle == pytest.approx(30 / 3600) and hours.lost == 0


def test_a_preempted_start_worked_usefully_and_loading_again_is_lost() -> None:
    events = [
        event("start", 0, gpus=1), event("ready", 60), event("end", 660, status="requeue", seconds=660),
        event("start", 1000, pid=2, gpus=1), event("ready", 1060, pid=2), event("end", 1660, pid=2, status="complete", seconds=660),
    ]  # fmt: skip
    first, second = (split_hours(s, "generate", 10) for s in starts_of(events))
    assert (
        first.idle == pytest.approx(60 / 3600)
        and first.lost == 0
        and first.useful == pytest.approx(600 / 3600)
    )
    assert second.lost == pytest.approx(60 / 3600) and second.idle == 0


def test_a_killed_start_is_counted_to_its_last_sign_of_life_and_loses_an_interval() -> None:
    killed = [event("start", 0, gpus=1), event("ready", 60)]
    (start,) = starts_of(killed, last_sign=960)
    assert (start.seconds, start.ended) == (960, "killed")
    hours = split_hours(start, "train", 300)
    assert hours.lost == pytest.approx(300 / 3600) and hours.useful == pytest.approx(600 / 3600)
    again = [
        *killed,
        event("start", 500, pid=2, gpus=1),
        event("end", 600, pid=2, status="complete", seconds=100),
    ]
    assert starts_of(again, last_sign=600)[0].seconds == 60, (
        "a later start's progress is no sign of life of the first"
    )


def test_what_the_next_start_found_of_a_killed_one_is_its_last_sign_of_life() -> None:
    """Its progress is cleared away: of a training that was killed after ten hours nothing would be counted."""
    killed = [event("start", 0, gpus=1), event("ready", 60)]
    ends = event("end", 40_100, pid=2, status="complete", seconds=100)
    first, _ = starts_of(
        [*killed, event("start", 40_000, pid=2, gpus=1, alive=36_000), ends], last_sign=40_100
    )
    assert (first.seconds, first.ended) == (36_000, "killed")
    assert split_hours(first, "train", 600).useful == pytest.approx((36_000 - 60 - 600) / 3600)
    for alive in (0, 30, 50_000):  # none, older than its own events, of a clock ahead
        assert starts_of([*killed, event("start", 40_000, pid=2, alive=alive), ends])[0].seconds == 60
    behind = event("start", -500, pid=2, alive=36_000)  # the clock of its node, that is: it comes later
    found = starts_of([*killed, behind, event("progress", 0, pid=2)], last_sign=180_000)
    assert next(start for start in found if start.first).seconds == 60, (
        "signs of the next start are none of it"
    )


def test_a_start_that_failed_keeps_rows_where_they_are_kept() -> None:
    start = Start(0, 3600, 1, 1, 0, "failed", True)
    assert split_hours(start, "generate", 10).useful == 1
    assert split_hours(start, "merge", 10).lost == 1


def test_several_nodes_and_processes_count() -> None:
    (start,) = starts_of(
        [event("start", 0, gpus=4, cpus=8, nodes=2, tasks=8), event("end", 10, seconds=10, status="complete")]
    )
    assert (start.gpus, start.cpus) == (8, 64)


def test_energy_is_measured_where_counters_were_read() -> None:
    (start,) = starts_of(
        [event("start", 0, joules=1000.0), event("end", 10, seconds=10, status="complete", joules=3600.0)]
    )
    assert start.joules == 2600
    (wrapped,) = starts_of(
        [event("start", 0, joules=1000.0), event("end", 10, seconds=10, status="complete", joules=5.0)]
    )
    assert wrapped.joules is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "ready", "end", "other"]), st.floats(0, 1e6), st.integers(1, 3)),
        max_size=30,
    )
)
def test_any_order_of_events_gives_hours_that_are_not_negative(rows: list[tuple[str, float, int]]) -> None:
    events = [
        event(kind, time, pid, gpus=1, **({"seconds": 5.0, "status": "complete"} if kind == "end" else {}))
        for kind, time, pid in rows
    ]
    starts = starts_of(events, last_sign=5e5)
    assert len(starts) == sum(kind == "start" for kind, _, _ in rows)
    for start in starts:
        for stage in ("generate", "train", "merge"):
            hours = split_hours(start, stage, 30)
            assert min(hours.useful, hours.lost, hours.idle) >= 0
            assert hours.total == pytest.approx(start.seconds / 3600)


def test_a_clock_that_was_set_back_gives_no_negative_hours_and_loses_no_end() -> None:
    events = [
        event("start", 7200, gpus=1),
        event("ready", 3630),
        event("end", 4200, status="complete", seconds=600),
        event("start", 4300, pid=2, gpus=1),
        event("end", 4400, pid=2, status="complete", seconds=100),
    ]
    late, early = sorted(starts_of(events), key=lambda start: not start.first)
    assert (late.ended, late.seconds, late.load_s, late.first, early.first) == (
        "complete",
        600,
        0,
        True,
        False,
    )
    hours = split_hours(late, "generate", 10)
    assert (hours.useful, hours.idle, hours.lost) == (pytest.approx(600 / 3600), 0, 0)


def test_work_of_an_iteration_that_was_moved_away_is_paid_and_lost(copied: Path) -> None:
    run = open_run(copied)
    before = measure(run)
    mine = [c for c in before.stages if c.iteration == 2]
    place = run.layout.superseded(2, "20260101T000000")
    place.parent.mkdir()
    run.layout.iteration(2).root.rename(place)
    after = measure(run)
    (moved,) = (c for c in after.stages if c.stage == "superseded")
    assert after.gpu.total == pytest.approx(before.gpu.total) and after.kwh == pytest.approx(before.kwh)
    assert (moved.iteration, moved.gpu.useful, moved.starts) == (2, 0, sum(c.starts for c in mine))
    assert moved.gpu.lost == pytest.approx(sum(c.gpu.total for c in mine)) and moved.gpu.lost > 0
    assert after.per_rationale_s[1] == before.per_rationale_s[1] and 2 not in after.per_rationale_s


def test_seconds_that_have_changed_are_not_believed(copied: Path) -> None:
    """The start counts as one without an end: a lower bound, which is told."""
    run = open_run(copied)
    before, path = measure(run), run.layout.iteration(0).events("generate", 0)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"seconds":', b'"seconds":9', 1))
    after = measure(run)
    assert path.read_bytes() != data and after.gpu.total <= before.gpu.total
    assert sum(cost.open_ended for cost in after.stages) == 1 + sum(cost.open_ended for cost in before.stages)


def test_what_another_run_has_paid_for_has_no_price_here(tmp_path: Path) -> None:
    """It was free: 0 seconds for each rationale, and a point of accuracy for the hours of the rest."""
    sets = ["iterations=2", "display.report=false"]
    made = [RunBuilder(tmp_path / name, problems=20, sets=[*sets, *more], benchmarks={})
            for name, more in (("donor", []), ("fork", ["train.learning_rate=0.5"]))]  # fmt: skip
    donor, fork = made[0].play(2), made[1]
    assert measure(donor).per_rationale_s[0] and measure(donor).per_point_h
    taken = take_over(fork.run, [donor])
    plan = fork.plan(0)
    fork.train(plan)
    fork.evaluate(plan, skill=0.9)
    fork.single(plan, "advance")
    cost = measure(fork.run)
    assert cost.per_rationale_s == {0: None} and cost.per_point_h is None and cost.gpu.total > 0
    assert cost.taken_over == sum(taken.values()) > 0
    following = estimate_next(fork.run)
    own = sum(c.cpu.useful + c.cpu.idle for c in cost.stages)
    assert following.cpu_hours > own and "a guess: that work was taken over" in following.basis
    assert rationale_cost(cost) == [
        f"{cost.taken_over} tasks taken over from other runs: their hours are counted there"
    ]


def test_cost_of_a_run(finished: Path) -> None:
    cost = measure(open_run(finished))
    assert cost.device == "GPU" and not cost.kwh_measured
    train = [c for c in cost.stages if c.stage == "train"]
    assert [c.gpu.useful for c in train] == [pytest.approx(300 / 3600)] * 3
    assert cost.gpu.total == pytest.approx(sum(c.gpu.total for c in cost.stages))
    assert set(cost.per_rationale_s) == {0, 1, 2} and all(v and v > 0 for v in cost.per_rationale_s.values())
    assert cost.per_point_h and cost.per_point_h > 0


def test_the_servers_of_a_teacher_service_count_to_its_rationales() -> None:
    stages = [StageCost(0, "serve", gpu=Hours(useful=2.0)), StageCost(0, "generate", cpu=Hours(useful=1.0))]
    cost = summarise(stages, {0: 3600}, None)
    assert cost.per_rationale_s == {0: 2.0}
    assert rationale_cost(cost) == ["iteration 0: 2 GPU-seconds of generation for each rationale kept"]


def test_no_gain_has_no_price() -> None:
    assert summarise([], {}, 0.0).per_point_h is None and summarise([], {}, None).per_point_h is None


def test_the_estimate_scales_generation_with_the_problems(finished: Path, tmp_path: Path) -> None:
    run = open_run(finished)
    following = estimate_next(run)
    assert following.iteration == 3 and following.gpu_hours > 300 / 3600 and "iteration 2" in following.basis
    new = RunBuilder(tmp_path / "run").run
    guess = estimate_next(new)
    assert "guess" in guess.basis and guess.gpu_hours == 0
    (tmp_path / "profile.yaml").write_text("defaults: {gpus_per_node: 8}\n")
    moved = Run(
        new.layout,
        override(new.config, ["cluster.kind=slurm", f"cluster.profile={tmp_path / 'profile.yaml'}"]),
    )
    assert estimate_next(moved).gpu_hours == pytest.approx(8 * guess.cpu_hours), (
        "the GPUs of a task stand in the profile"
    )


def test_the_budget_stops_before_it_is_exceeded(finished: Path) -> None:
    run = open_run(finished)
    spent = measure(run).gpu.total
    assert check_budget(run) is None
    enough = override(run.config, [f"budget.gpu_hours={10 * spent}"])
    assert check_budget(run, enough) is None
    short = override(run.config, [f"budget.gpu_hours={spent * 1.01}"])
    said = check_budget(run, short)
    assert said and "iteration 3" in said and "budget.gpu_hours" in said


def test_the_verb(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(finished)]) == 0
    out = capsys.readouterr().out
    assert "CPU-minutes" in out or "GPU-minutes" in out, "a small run is not told in thousandths of an hour"
    assert "GPU-hours" in out and "an estimate from nominal power" in out and "next, iteration 3" in out


def test_the_budget_stops_a_new_iteration_and_lets_a_begun_one_end(copied: Path) -> None:
    run = open_run(copied)
    poor = Run(run.layout, override(run.config, ["budget.gpu_hours=0.001"]))
    require_budget(poor, 3, begun=True)
    require_budget(run, 3, begun=False)
    with pytest.raises(Incomplete, match="exceed the budget"):
        require_budget(poor, 3, begun=False)
    view = collect_status(poor)
    assert view.ended or any("exceed the budget" in note for note in view.notes)


def test_a_training_tells_when_its_loading_is_over(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("start", gpus=1)
    spec = TrainSpec({}, 0, "m", [], "w", "o", "r", events=str(log.path), events_pid=os.getpid())
    spec.tell_ready()  # from a rank: another process than the one that the events are of
    log.append("end", status="complete", seconds=100.0)
    (start,) = starts_of(
        row | {"time": row["time"] + 30 * (row["kind"] != "start")} for row in read_events(log.path)
    )
    assert start.load_s == pytest.approx(30, abs=5) and start.ended == "complete"
    TrainSpec({}, 0, "m", [], "w", "o", "r").tell_ready()  # a training without a run has no events


@pytest.mark.parametrize("odd", [None, "odd", [], {}, True, float("nan"), 10**400])
def test_odd_values_of_events_count_as_none(odd: Any) -> None:
    events = [
        event("start", 100, gpus=odd, cpus=odd, nodes=odd, tasks=odd, joules=odd),
        event("ready", 130, load_s=odd),
        event("end", 160, status=odd, seconds=odd, joules=odd),
    ]
    (start,) = starts_of(events)
    assert (start.gpus, start.cpus, start.seconds) == (0, 1, 0)
