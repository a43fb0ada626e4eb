"""The train stage, without a training: what it publishes is what the run's configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.config.load import override
from undo_hpc.errors import ExitCode, Requeue
from undo_hpc.pipeline.run import create_or_open, open_run
from undo_hpc.stages import train
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.training.spec import RECORD


def test_a_student_whose_reasoning_was_changed_meanwhile_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher may change it while a job trains: the configuration would say of the student what it never was."""
    made = RunBuilder(tmp_path / "run", problems=9, benchmarks={})
    plan = made.plan(0)
    made.generate(plan)
    made.single(plan, "merge")
    stage = made.graph(plan)["train"]

    def trained(ctx: Any, spec: Path, ranks: int) -> int:
        config = override(made.run.config, ["student.reasoning=strip"])
        create_or_open(config, made.root, command=[])
        write_json(ctx.at.student / RECORD, {"steps": 2, "tokens": 20})
        return int(ExitCode.COMPLETE)

    monkeypatch.setattr(train, "_run", trained)
    manifest = made.run.layout.iteration(0).stage_manifest("train")
    ctx = made.context(plan, stage, stage.tasks[0])
    with ctx.lease, pytest.raises(Requeue, match="was changed while the student was trained"):
        train.run_stage(ctx)
    assert read_manifest(manifest) is None
    made.run = open_run(made.root)
    ctx = made.context(plan, stage, stage.tasks[0])
    with ctx.lease:
        train.run_stage(ctx)
    found = read_manifest(manifest)
    assert found is not None and found.details["reasoning"] == "strip"
