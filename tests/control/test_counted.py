"""What an iteration was decided by stays, whatever makes its figures again: tasks that a policy gave up change nothing, however late they end."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.checkers.harsh import Harsh
from tests.observe.synthetic import RunBuilder, make_problem
from undo_hpc.config.load import override
from undo_hpc.config.schema import AddedEvaluation
from undo_hpc.control.added import add_evaluations, added_sets
from undo_hpc.control.finished import all_metrics
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import RunState, discard_stale
from undo_hpc.control.regrade import regrade
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.stages.answered_problems import counted_slices
from undo_hpc.stages.context import gate
from undo_hpc.storage.manifest import read_manifest, write_manifest

EVALUATE, BASELINE = 9, 7  # tasks, before a set is added
ENOUGH = "{kind: min_fraction, value: 0.5}"


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    """Two iterations; of the first, a shard of generate and two tasks of evaluate were given up, of the second a task of evaluate."""
    builder = RunBuilder(
        tmp_path / "run",
        problems=20,
        sets=["iterations=2", "display.report=false", "evaluate.problems_per_task=10", "evaluate.benchmarks=[gsm]",
              f"cluster.policy={{generate: {ENOUGH}, evaluate: {ENOUGH}}}"],
        benchmarks={"gsm": 12},
    )  # fmt: skip
    for number, left_out in enumerate([{1, 3}, {4}]):
        plan = builder.plan(number)
        builder.generate(plan, only=[0] if not number else None)
        if plan.baseline:
            builder.evaluate(plan, "baseline")
        builder.single(plan, "merge")
        builder.train(plan)
        builder.evaluate(plan, only=set(range(len(plan.evaluate))) - left_out)
        builder.single(plan, "advance")
    return builder


def add(built: RunBuilder, tmp_path: Path) -> Run:
    rows = [make_problem(900 + k, random.Random(k)) for k in range(5)]
    path = tmp_path / "extra.jsonl"
    path.write_text(
        "".join(json.dumps({"problem": p.problem, "answer": p.ground_truth}) + "\n" for p in rows)
    )
    config = override(built.run.config, added_sets(built.run, [AddedEvaluation(benchmark=str(path))]))
    built.run = create_or_open(config, built.root, command=[])
    add_evaluations(built.run)
    built.sets["extra"] = built.run.problems("extra")
    return built.run


def missing(state: RunState) -> list[tuple[str, int]]:
    return [(status.stage, status.index) for status in state.missing]


def made(run: Run, number: int) -> tuple[dict[str, Any], bytes]:
    """Metrics and feedback of an iteration."""
    at = run.layout.iteration(number)
    return json.loads(at.metrics.read_bytes()), at.feedback.read_bytes()


def same(run: Run, number: int, before: tuple[dict[str, Any], bytes]) -> None:
    """The same figures, decision and feedback, but for what was added."""
    metrics, feedback = made(run, number)
    for key in ("sets", "baseline"):
        metrics[key].pop("extra", None)
    assert feedback == before[1]
    assert {k: v for k, v in metrics.items() if k != "seal"} == {
        k: v for k, v in before[0].items() if k != "seal"
    }


def test_an_added_set_asks_for_nothing_that_was_given_up_and_changes_no_figure(
    built: RunBuilder, tmp_path: Path
) -> None:
    before = [made(built.run, number) for number in range(2)]
    assert len(built.plan_of(0).evaluate) == EVALUATE and len(built.plan_of(0).baseline) == BASELINE
    run = add(built, tmp_path)
    for number in range(2):
        state = current_state(run)
        assert state.iteration == number
        added = [("baseline", BASELINE)] if not number else []
        assert missing(state) == [*added, ("evaluate", EVALUATE), ("advance", 0)]
        parts = counted_slices(run, number, "evaluate")
        discard_stale(run, state)
        assert missing(current_state(run)) == missing(state), "after a launch that was killed"
        assert [p for p in counted_slices(run, number, "evaluate") if p.problem_set != "extra"] == parts
        assert len(all_metrics(run)) == 2
        plan = built.plan_of(number)
        if not number:
            built.evaluate(plan, "baseline", only=[BASELINE])
            built.generate(plan, only=[1])  # what was given up ends late
            built.evaluate(plan, only=[3])
        built.evaluate(plan, only=[EVALUATE])
        built.single(plan, "advance")
        same(run, number, before[number])
        assert made(run, number)[0]["sets"]["extra"]["n"] == 5
    assert current_state(run).ended


def test_a_task_that_ends_late_changes_nothing_when_the_metrics_are_lost(built: RunBuilder) -> None:
    run, before = built.run, made(built.run, 1)
    run.layout.iteration(1).metrics.unlink()
    state = current_state(run)
    assert state.iteration == 1 and missing(state) == [("advance", 0)]
    discard_stale(run, state)
    built.evaluate(built.plan_of(1), only=[4])
    built.single(built.plan_of(1), "advance")
    same(run, 1, before)


def test_a_damaged_distilled_set_is_made_again_from_the_same_shards(built: RunBuilder) -> None:
    run = built.run
    at, plan = run.layout.iteration(0), built.plan_of(0)
    run.layout.iteration(1).root.rename(run.layout.root / "moved")  # back to the first iteration
    learned = read_manifest(at.stage_manifest("merge"))
    at.distilled_card.unlink()
    state = current_state(run)
    assert state.iteration == 0 and ("generate", 1) not in missing(state)
    discard_stale(run, state)
    assert ("generate", 1) not in missing(current_state(run))
    built.generate(plan, only=[1])
    built.single(built.plan_of(0), "merge")
    again = read_manifest(at.stage_manifest("merge"))
    assert again is not None and learned is not None and again.digest == learned.digest
    assert again.details["generate_used"] == [0] and again.policy["missing"] == [1]


def test_what_was_counted_is_not_left_out_when_it_is_damaged(built: RunBuilder, tmp_path: Path) -> None:
    """The policy would be met without it: the figures would be of fewer problems."""
    before, run = made(built.run, 0), add(built, tmp_path)
    discard_stale(run, current_state(run))
    plan = built.plan_of(0)
    built.evaluate(plan, "baseline", only=[BASELINE])
    built.evaluate(plan, only=[EVALUATE])
    shard = run.layout.root / built.graph(plan)["evaluate"].tasks[0].outputs[0]
    data = shard.read_bytes()
    shard.write_bytes(data[:-2] + b"#\n")
    with pytest.raises(EvidenceError, match="of stage evaluate are not complete"):
        built.single(plan, "advance")
    shard.write_bytes(data)
    set_aside = next(path for path in run.layout.root.rglob("*damaged*") if path.is_file())
    at = run.layout.iteration(0)
    set_aside.replace(at.task_manifest("evaluate", 0))
    built.single(plan, "advance")
    same(run, 0, before)


def test_feedback_that_a_later_iteration_was_made_from_is_not_replaced(
    built: RunBuilder, tmp_path: Path
) -> None:
    """Counted again by a version that did not note what was counted, or with another student's answers."""
    before, run = made(built.run, 0), add(built, tmp_path)
    run.layout.iteration(0).stage_manifest("advance").unlink()
    plan = built.plan_of(0)
    built.evaluate(plan, only=[1, 3, EVALUATE])
    built.evaluate(plan, "baseline", only=[BASELINE])
    with pytest.raises(EvidenceError, match="iteration 1 was made from") as caught:
        built.single(plan, "advance")
    assert "iter_001" in str(caught.value.hint) and made(run, 0) == before


def test_an_iteration_that_others_rest_on_is_not_made_again_from_other_inputs(
    built: RunBuilder, tmp_path: Path
) -> None:
    run = add(built, tmp_path)
    path = run.layout.iteration(0).stage_manifest("train")
    manifest = read_manifest(path)
    assert manifest is not None
    (name, output), *rest = manifest.outputs.items()
    other = {name: type(output)("0" * 64, output.bytes)} | dict(rest)
    write_manifest(path, type(manifest)(**(vars(manifest) | {"outputs": other})))
    with pytest.raises(
        StorageError, match=r"stage train has other results now.*iteration 1 rests on"
    ) as caught:
        current_state(run)
    assert "iter_001" in str(caught.value.hint)


def test_after_a_regrade_all_is_counted_from_scratch(
    built: RunBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undo_hpc.stages.checker.Checker", Harsh)
    assert regrade(built.run, apply=True).again
    state = current_state(built.run)
    assert state.iteration == 0 and {("evaluate", 1), ("evaluate", 3), ("advance", 0)} <= set(missing(state))
    assert ("generate", 1) in missing(state)


def test_a_stage_of_ones_own_that_reads_answers_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    """It reads the added ones, too; the iteration before it, which others rest on, is not taken for a changed one."""
    sets = ["iterations=2", "display.report=false", "evaluate.problems_per_task=10", f"cluster.policy={{evaluate: {ENOUGH}}}",
            "stages={count: {module: my.count, after: [evaluate]}}"]  # fmt: skip
    builder = RunBuilder(tmp_path / "run", problems=20, sets=sets, benchmarks={})
    given_up = 1

    def count(number: int) -> None:
        stage = builder.graph(builder.plan_of(number))["count"]
        context = builder.context(builder.plan_of(number), stage, stage.tasks[0])
        with context.lease:
            context.publish({}, inputs=gate(context, "evaluate")[2])

    for number in range(2):
        plan = builder.plan(number)
        builder.generate(plan)
        if plan.baseline:
            builder.evaluate(plan, "baseline")
        builder.single(plan, "merge")
        builder.train(plan)
        builder.evaluate(plan, only=set(range(len(plan.evaluate))) - {given_up})
        count(number)
        builder.single(plan, "advance")
    before, own = made(builder.run, 0), len(builder.plan_of(0).evaluate)
    run = add(builder, tmp_path)
    discard_stale(run, current_state(run))
    builder.evaluate(builder.plan_of(0), "baseline", only=[len(builder.plan_of(0).baseline) - 1])
    builder.evaluate(builder.plan_of(0), only=[given_up, own])  # what was given up ends late
    state = current_state(run)
    assert state.iteration == 0 and ("advance", 0) in missing(state)
    assert {stage for stage, _ in missing(state)} <= {"count", "advance"}
    discard_stale(run, state)
    count(0)
    builder.single(builder.plan_of(0), "advance")
    same(run, 0, before)
    manifest = read_manifest(run.layout.iteration(0).stage_manifest("count"))
    assert manifest is not None and manifest.details["evaluate_used"] == [
        k for k in range(own + 1) if k != given_up
    ]
