"""A value that work rests on is not changed behind it: the configuration would say of a student what it never was."""

from __future__ import annotations

from pathlib import Path

import pytest

from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.run import Run, create_or_open, open_run
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.manifest import Manifest, write_manifest


def launch(run: Run, reasoning: str) -> str:
    """What the configuration says after the run is launched with a value."""
    config = override(run.config, [f"student.reasoning={reasoning}"])
    create_or_open(config, run.layout.root, command=[])
    return open_run(run.layout.root).config.student.reasoning


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = create_or_open(RunConfig(), tmp_path / "run", command=[])
    write_manifest(made.layout.prepared, Manifest("prepare", 0, 0, {"config": made.config_digest}, {}))
    return made


def planned(run: Run, iteration: int) -> None:
    write_json(run.layout.iteration(iteration).plan, {})


def learned(run: Run, iteration: int, details: dict[str, str]) -> None:
    planned(run, iteration)
    path = run.layout.iteration(iteration).stage_manifest("train")
    write_manifest(path, Manifest("train", iteration, 0, {}, {}, details=details))


def test_what_is_learned_of_reasoning_is_fixed_by_the_first_student(run: Run) -> None:
    assert launch(run, "strip") == "strip", "nothing is learned yet"
    learned(run, 0, {"reasoning": "strip"})
    for other in ("keep", "drop"):
        with pytest.raises(ConfigError, match=f"is 'strip', now asked for '{other}'") as error:
            launch(open_run(run.layout.root), other)
        assert f"fork {run.layout.root} NEW_RUN --set student.reasoning={other}" in error.value.hint
    assert launch(run, "strip") == "strip"


def test_a_value_that_was_changed_behind_the_students_may_be_put_back(run: Run) -> None:
    """Earlier versions let it change behind them; a run in which it was changed between two students stays as it is."""
    assert launch(run, "strip") == "strip"
    learned(run, 0, {"reasoning": "keep"})
    assert launch(open_run(run.layout.root), "keep") == "keep"
    learned(run, 1, {"reasoning": "strip"})
    with pytest.raises(ConfigError, match="a student has learned by it"):
        launch(open_run(run.layout.root), "strip")
    assert launch(open_run(run.layout.root), "keep") == "keep"


@pytest.mark.parametrize("stage", ["likelihood", "score"])
def test_texts_that_were_scored_in_the_tokens_of_one_value_are_not_learned_by_another(
    stage: str, run: Run
) -> None:
    at = run.layout.iteration(0)
    path = at.manifest_of(at.shard(stage, 3))
    planned(run, 0)
    write_manifest(path, Manifest(stage, 0, 3, {}, {}))
    with pytest.raises(ConfigError, match="texts were scored for one"):
        launch(run, "strip")
    path.unlink()
    assert launch(run, "strip") == "strip"
