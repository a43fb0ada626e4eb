"""Evaluations that are added to a run: only their answers are missing, and what is there stays as it is."""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkers.harsh import Harsh
from tests.observe.synthetic import RunBuilder, make_problem
from undo_hpc.cli.verbs.evaluate import with_more
from undo_hpc.config.load import override
from undo_hpc.config.schema import AddedEvaluation
from undo_hpc.control.added import add_evaluations, added_sets, name_added, with_new_benchmarks
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import discard_stale
from undo_hpc.control.regrade import regrade
from undo_hpc.errors import ConfigError, EvidenceError
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.storage.manifest import read_manifest, write_manifest


@pytest.fixture
def built(tmp_path: Path) -> RunBuilder:
    builder = RunBuilder(
        tmp_path / "run",
        problems=20,
        sets=["iterations=2", "display.report=false", "evaluate.benchmarks=[gsm]"],
        benchmarks={"gsm": 12},
    )
    builder.play(2)
    return builder


@pytest.fixture
def extra(tmp_path: Path, built: RunBuilder) -> Path:
    problems = [*(make_problem(900 + k, random.Random(k)) for k in range(5)), built.sets["train"][0]]
    rows = [{"problem": problem.problem, "answer": problem.ground_truth} for problem in problems]
    path = tmp_path / "extra.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def add(built: RunBuilder, *evaluations: AddedEvaluation) -> tuple[Run, list[str]]:
    config = override(built.run.config, added_sets(built.run, evaluations))
    built.run = create_or_open(config, built.root, command=[])
    return built.run, add_evaluations(built.run)


def answer(built: RunBuilder) -> tuple[int, set[tuple[str, int]]]:
    """Makes what the iteration at work lacks, as its tasks would; returns the iteration and the tasks."""
    run = built.run
    state = current_state(run)
    missing = {(status.stage, status.index) for status in state.missing}
    discard_stale(run, state)
    for name in run.config.evaluate.added:
        built.sets[name] = run.problems(name)
    for stage in ("baseline", "evaluate"):
        if only := [index for name, index in sorted(missing) if name == stage]:
            built.evaluate(state.plan, stage, only=only)
    built.single(state.plan, "advance")
    return state.iteration, missing


def test_a_benchmark_is_added_to_each_iteration_and_nothing_else_is_done_again(
    built: RunBuilder, extra: Path
) -> None:
    layout = built.run.layout
    before = {k: layout.iteration(k).feedback.read_bytes() for k in (0, 1)}
    digest = built.run.config_digest
    run, notes = add(built, AddedEvaluation(benchmark=str(extra)))
    assert run.config_digest == digest
    assert len(notes) == 1 and "stand in it; they were learned from" in notes[0]
    first, tasks = answer(built)
    assert (
        first == 0
        and {stage for stage, _ in tasks} == {"baseline", "evaluate", "advance"}
        and len(tasks) == 3
    )
    second, tasks = answer(built)
    assert second == 1 and {stage for stage, _ in tasks} == {"evaluate", "advance"} and len(tasks) == 2
    state = current_state(run)
    assert state.ended is not None and not state.damaged
    for number in (0, 1):
        metrics = json.loads(layout.iteration(number).metrics.read_text())
        assert metrics["sets"]["extra"]["n"] == 6 and metrics["sets"]["gsm"]["n"] == 12
        assert layout.iteration(number).feedback.read_bytes() == before[number]
    assert json.loads(layout.iteration(0).metrics.read_text())["baseline"]["extra"]["n"] == 6
    assert add_evaluations(run) == [], "the same again does nothing"
    assert current_state(run).ended is not None


def test_rows_of_an_added_set_that_cannot_be_used_are_listed(built: RunBuilder, extra: Path) -> None:
    with extra.open("a") as file:
        file.write('{"problem": "No answer?"}\n' + extra.read_text().splitlines()[0] + "\n")
    run, notes = add(built, AddedEvaluation(benchmark=str(extra)))
    path = run.layout.rejected_of("extra")
    assert any(note == f"extra: 2 rows not used, see {path}" for note in notes)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["set"], row["row"], row["reason"]) for row in rows] == [
        ("extra", 6, "answer ('answer') is missing"),
        ("extra", 7, "duplicate of row 0"),
    ]
    manifest = read_manifest(run.layout.added_manifest("extra"))
    assert manifest is not None and run.layout.relative(path) in manifest.outputs
    assert len(run.problems("extra")) == 6 and add_evaluations(run) == []


def test_a_second_set_is_added_while_the_first_is_half_answered(built: RunBuilder, extra: Path) -> None:
    """A launch that was stopped before all students had answered: no file was deleted, and no student is left out."""
    first = AddedEvaluation(benchmark=str(extra))
    run, notes = add(built, first)
    assert not any("deleted" in note for note in notes)
    assert add_evaluations(run) == [], "the same command again"
    iteration, _ = answer(built)
    run, notes = add(built, first, AddedEvaluation(benchmark=str(extra), limit=3))
    assert iteration == 0 and not any("deleted" in note for note in notes)
    plans = [run.plan(number) for number in range(2)]
    assert [sorted(plan.added) for plan in plans if plan] == [["extra", "extra-first3"]] * 2


def test_what_is_made_again_after_a_regrade_is_not_told_as_deleted(
    built: RunBuilder, extra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = AddedEvaluation(benchmark=str(extra)), AddedEvaluation(benchmark=str(extra), limit=2)
    run, _ = add(built, first)
    assert [answer(built)[0] for _ in range(2)] == [0, 1]
    monkeypatch.setattr("undo_hpc.stages.checker.Checker", Harsh)
    assert regrade(run, apply=True).again
    assert {status.state for status in current_state(run).statuses} >= {"stale", "done"}
    assert not any("deleted" in note for note in add_evaluations(run))
    run, notes = add(built, first, second)
    plan = run.plan(0)
    assert not any("deleted" in note for note in notes) and plan is not None and len(plan.added) == 2


def test_an_added_set_that_is_frozen_again_holds_what_was_answered(built: RunBuilder, extra: Path) -> None:
    """Its frozen problems are damaged, and the source was edited since: earlier students would have answered other problems."""
    evaluation = AddedEvaluation(benchmark=str(extra))
    run, _ = add(built, evaluation)
    answer(built)
    before, source = run.layout.benchmark("extra").read_bytes(), extra.read_text()
    run.layout.benchmark("extra").write_bytes(b"")
    extra.write_text("".join(source.splitlines(keepends=True)[1:]))
    with pytest.raises(EvidenceError, match="extra is not the one that the students have answered"):
        add_evaluations(run)
    extra.write_text(source)
    run.layout.added_manifest("extra").unlink()
    assert not any("deleted" in note for note in add_evaluations(run))
    assert run.layout.benchmark("extra").read_bytes() == before
    assert answer(built)[0] == 1


def test_where_the_rows_lay_that_were_not_used_makes_no_other_set(built: RunBuilder, extra: Path) -> None:
    """Frozen by an earlier version, which listed none, or read from a cache in another place: the problems are the same."""
    extra.write_text(extra.read_text() + '{"problem": "No answer?"}\n')
    run, _ = add(built, AddedEvaluation(benchmark=str(extra)))
    answer(built)
    path, listed = run.layout.added_manifest("extra"), run.layout.rejected_of("extra")
    manifest = read_manifest(path)
    assert manifest is not None and run.layout.relative(listed) in manifest.outputs
    problems = run.layout.relative(run.layout.benchmark("extra"))
    write_manifest(path, replace(manifest, outputs={problems: manifest.outputs[problems]}))
    assert add_evaluations(run) == []
    path.unlink()
    add_evaluations(run)
    assert answer(built)[0] == 1, "iteration 0 stands as it was answered"


def test_an_added_set_is_not_asked_otherwise_under_its_name(built: RunBuilder, extra: Path) -> None:
    """Its answers stay, and status and cards would tell another temperature of them."""
    run, _ = add(built, AddedEvaluation(benchmark=str(extra), samples=2, temperature=0.5))
    warmer = override(run.config, ['evaluate.added={"extra": {"temperature": 0.9}}'])
    assert warmer.evaluate.added["extra"].temperature == 0.9
    with pytest.raises(ConfigError, match=r"the set extra of .* was added with"):
        create_or_open(warmer, built.root, command=[])
    open_run(built.root)
    path = run.layout.config
    path.write_text(path.read_text().replace('"temperature": 0.5', '"temperature": 0.9'))
    with pytest.raises(ConfigError, match=r"'temperature': 0.5.*now asked for.*'temperature': 0.9"):
        open_run(built.root)


def test_a_student_whose_weights_were_deleted_is_not_trained_again(built: RunBuilder, extra: Path) -> None:
    next(path for path in built.run.layout.iteration(0).student.iterdir() if path.is_file()).unlink()
    _, notes = add(built, AddedEvaluation(benchmark=str(extra)))
    assert "iteration 0: files of it were deleted; its student does not answer what was added" in notes
    iteration, tasks = answer(built)
    assert iteration == 1 and {stage for stage, _ in tasks} == {"evaluate", "advance"}


def test_an_iteration_that_is_planned_later_has_the_added_set_from_the_start(
    built: RunBuilder, extra: Path
) -> None:
    add(built, AddedEvaluation(benchmark=str(extra)))
    answer(built)
    answer(built)
    config = override(built.run.config, ["iterations=3"])
    run = create_or_open(config, built.root, command=[])
    state = current_state(run)
    assert state.iteration == 2 and "extra" in {part.problem_set for part in state.plan.slices("evaluate")}


def test_each_evaluation_has_a_name_and_the_same_again_is_the_same(built: RunBuilder, extra: Path) -> None:
    run = built.run
    assert name_added(run, AddedEvaluation(benchmark="gsm")) == ""
    assert name_added(run, AddedEvaluation(benchmark="gsm", limit=5)) == "gsm-first5"
    assert name_added(run, AddedEvaluation(benchmark="gsm", samples=4, temperature=0.7)) == "gsm-all-x4-t0.7"
    run, _ = add(built, AddedEvaluation(benchmark=str(extra), limit=2))
    assert name_added(run, AddedEvaluation(benchmark=str(extra), limit=2)) == "extra"
    assert name_added(run, AddedEvaluation(benchmark=str(extra))) == "extra-all"
    words = argparse.Namespace(
        run_dir=built.root, benchmarks=str(extra), limit=2, samples=None, temperature=None,
        sets=[], profile=None, cluster=None,
    )  # fmt: skip
    assert with_more(words) == run.config
    words.samples = 4
    with pytest.raises(ConfigError, match="temperature 0 are all the same"):
        with_more(words)


def test_a_longer_list_of_benchmarks_adds_the_new_ones(
    built: RunBuilder, extra: Path, tmp_path: Path
) -> None:
    def asked(*names: str) -> dict[str, AddedEvaluation]:
        config = override(built.run.config, [f"evaluate.benchmarks={json.dumps(['gsm', *names])}"])
        return dict(with_new_benchmarks(config, built.root).evaluate.added)

    assert asked(str(extra)) == {"extra": AddedEvaluation(benchmark=str(extra))}
    assert asked() == {}
    manifest = read_manifest(built.run.layout.prepared)
    assert manifest is not None and "extra" not in manifest.details["benchmarks"]
