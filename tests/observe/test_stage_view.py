"""What is said of a stage: rows, shares, speeds."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.observe.stage_view import StageView, _together
from undo_hpc.observe.status import collect_status
from undo_hpc.observe.status_view import _accuracy, figures
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.manifest import read_manifest, write_manifest
from undo_hpc.storage.progress import ProgressFile


def test_speeds_of_a_task_that_was_resumed_are_those_of_its_last_start(tmp_path: Path) -> None:
    """Its rows are all of its rows, its seconds and new tokens are of the last start: their quotient was a speed that never was."""
    builder = RunBuilder(tmp_path / "run", problems=40, benchmarks={})
    plan = builder.plan(0)
    builder.generate(plan)
    at = builder.run.layout.iteration(0)
    rows = tokens = 0
    for index in (0, 1):
        path = at.manifest_of(at.shard("generate", index))
        manifest = read_manifest(path)
        assert manifest is not None
        rows, tokens = rows + manifest.counts["rows"], tokens + manifest.counts["completion_tokens"]
        counts = manifest.counts | {"new_tokens": manifest.counts["completion_tokens"] // 10, "seconds": 5.0}
        write_manifest(path, replace(manifest, counts=counts))
    generate = next(s for s in collect_status(builder.run).stages if s.name == "generate")
    assert generate.tokens_per_s == pytest.approx(tokens / 10 / 10, rel=0.05)
    assert generate.rows_per_s == pytest.approx(rows / 10 / 10, rel=0.05)
    assert " tok/s a task" in figures(generate)


def test_a_stage_that_grades_nothing_tells_no_share_that_is_right() -> None:
    assert figures(StageView("likelihood", 2, {"done": 2}, rows=1200)) == "1,200 texts scored"
    assert figures(StageView("merge", 1, {"done": 1}, rows=2)) == "2 rows kept"
    assert figures(StageView("evaluate", 1, {"done": 1}, rows=4, right=0)) == "4 answers, 0 % right"
    assert figures(StageView("merge", 1, {"done": 1}, rows=2, seconds=-5.0)) == "2 rows kept, took 0:00"


def test_a_training_that_was_resumed_took_all_of_its_starts(tmp_path: Path) -> None:
    """Its manifest knows the last one; and its speed stands beside it."""
    builder = RunBuilder(tmp_path / "run", problems=40, benchmarks={})
    plan = builder.plan(0)
    builder.generate(plan)
    builder.single(plan, "merge")
    at, stage = builder.run.layout.iteration(0), builder.graph(plan)["train"]
    for ago, seconds, status in ((9000, 500, "complete"), (8000, 1000, "requeue"), (5000, 600, "failed")):
        builder.events(stage, stage.tasks[0], ago=ago, seconds=seconds, status=status)
    ProgressFile(at.progress("train", 0)).update(done=300, total=300, tokens_per_s=5000.0)
    builder.train(plan)
    path = at.stage_manifest("train")
    manifest = read_manifest(path)
    assert manifest is not None
    began = time.time() - 2000
    write_manifest(path, replace(manifest, started=began - 1, finished=began + 299))
    train = next(s for s in collect_status(builder.run).stages if s.name == "train")
    assert train.seconds == pytest.approx(1000 + 600 + 300, abs=5), (
        "what had been completed before is another training"
    )
    assert "5,000 tok/s, loss" in figures(train)


def test_of_equal_iterations_the_first_alone_is_the_best(finished: Path) -> None:
    view = collect_status(open_run(finished))
    equal = [item | {"accuracy": 0.9} for item in view.accuracy]
    text = _accuracy(replace(view, accuracy=equal))
    assert sum("green" in str(span.style) for span in text.spans) == 1


def test_a_stage_took_the_time_in_which_it_worked(tmp_path: Path) -> None:
    """A task of an evaluation that was added days later made it days."""
    builder = RunBuilder(tmp_path / "run", problems=40, benchmarks={})
    builder.generate(builder.plan(0))
    at = builder.run.layout.iteration(0)
    for index, (started, finished) in enumerate([(1000.0, 1060.0), (500_000.0, 500_030.0)]):
        path = at.manifest_of(at.shard("generate", index))
        manifest = read_manifest(path)
        assert manifest is not None
        write_manifest(path, replace(manifest, started=started, finished=finished))
    generate = next(s for s in collect_status(builder.run).stages if s.name == "generate")
    assert generate.seconds == 90
    assert _together([(0, 10), (5, 20), (6, 7), (30, 25)]) == 20
