"""Pruned students: the evidence knows of them, nothing is made again by itself, and whoever needs one is told how."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import undo_hpc
from tests.observe.synthetic import RunBuilder
from undo_hpc import worker
from undo_hpc.cli import main
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import read_state
from undo_hpc.control.prune import prune, usage
from undo_hpc.control.results import require_results
from undo_hpc.errors import ConfigError, ExitCode, Incomplete, StorageError
from undo_hpc.hub.contents import packages
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.stages.context import Pruned
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, write_manifest
from undo_hpc.storage.scores import binary_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prune") / "run"
    run = RunBuilder(root, problems=12, sets=["display.report=false", "hub.model_repo=me/model"]).play(3)
    for k in range(3):
        write_bytes(run.layout.iteration(k).checkpoints / "step-1" / "state.pt", b"x" * 100)
        write_bytes(run.layout.iteration(k).train / "encoded-a.npz", b"x" * 10)
    return root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return open_run(Path(shutil.copytree(made, tmp_path / "run")))


def weights(run: Run) -> list[bool]:
    return [(run.layout.iteration(k).student / "model.safetensors").exists() for k in range(3)]


def test_weights_that_are_not_kept_and_all_checkpoints_go(run: Run) -> None:
    looked = prune(run, ["0"], apply=False)
    assert weights(run) == [True] * 3 and looked.removed == [1, 2] and looked.bytes > 3 * 110
    done = prune(run, ["0"], apply=True)
    assert done == looked and weights(run) == [True, False, False]
    assert [(u.iteration, u.checkpoints, u.pruned) for u in usage(run)] == [
        (0, 0, False),
        (1, 0, True),
        (2, 0, True),
    ]
    assert (run.layout.iteration(1).student / "config.json").exists(), "small files stay"
    assert undo_hpc.students(run).keys() == {0}
    assert prune(run, ["0"], apply=True).files == {}, "a second time there is nothing left"


def test_nothing_is_made_again_by_itself_and_the_state_is_pruned(run: Run) -> None:
    before = read_state(run)
    prune(run, ["0"], apply=True)
    state = current_state(run)
    assert before is not None and state.ended == before.ended and not state.missing and not state.damaged
    require_results(run, state.iteration, 2)
    view = collect_status(run)
    train = next(s for s in view.stages if s.name == "train")
    assert train.states == {"pruned": 1} and train.done == 1 and "pruned: iteration 1, 2" in view.disk


def test_scores_go_with_the_checkpoints_and_are_not_made_again(run: Run) -> None:
    at = run.layout.iteration(2)
    plan = run.plan(2)
    assert plan is not None
    write_json(at.plan, replace(plan, score=1).to_dict())
    shard = at.shard("score", 0)
    for path in (shard, binary_of(shard)):
        write_bytes(path, b"{}\n")
    outputs = {run.layout.relative(path): describe_output(path) for path in (shard, binary_of(shard))}
    inputs = {"config": run.config_digest}
    write_manifest(at.manifest_of(shard), Manifest("score", 2, 0, inputs, outputs))
    assert not current_state(run).missing
    assert binary_of(shard) in prune(run, ["all"], apply=True).files
    assert not binary_of(shard).exists() and shard.exists()
    assert not current_state(run).missing


def test_what_needs_a_pruned_student_says_how_to_make_it(run: Run) -> None:
    state = read_state(run)
    assert state is not None and state.decision is not None
    best = state.decision.best_iteration
    prune(run, [str(next(k for k in range(3) if k != best))], apply=True)
    with pytest.raises(Pruned, match="was pruned") as found:
        packages(run)
    assert f"train --iteration {best}" in found.value.hint and "-m undo_hpc.worker" in found.value.hint
    prune(run, ["0"], apply=True)
    (run.layout.iteration(2).answers("evaluate") / "task-00000.manifest.json").unlink()
    with pytest.raises(Pruned, match="train of iteration 2"):
        current_state(run)


def test_the_oldest_pruned_student_is_made_again_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command for the last one alone failed, and took that student's manifest with it."""
    built = RunBuilder(
        tmp_path / "run",
        problems=12,
        sets=["display.report=false", "method.start_from=previous", "stop.enabled=false"],
    )
    run = built.play(3)
    prune(run, ["0"], apply=True)
    path = run.layout.iteration(2).stage_manifest("train")
    before, manifest = path.read_bytes(), read_manifest(path)
    assert manifest is not None
    hint = Pruned(run, manifest, "it was pruned").hint
    first, second = (f"train --iteration {number}" for number in (1, 2))
    assert 0 < hint.index(first) < hint.index(second) and "train --iteration 0" not in hint
    assert worker.main([str(run.layout.root), "train", "--iteration", "2"]) == ExitCode.WRONG_INPUT
    assert first in capsys.readouterr().out and path.read_bytes() == before


def test_a_student_that_is_there_again_is_pruned_no_more(run: Run) -> None:
    at = run.layout.iteration(1)
    kept = (at.student / "model.safetensors").read_bytes()
    prune(run, ["0"], apply=True)
    manifest = read_manifest(at.stage_manifest("train"))
    assert manifest is not None and len(manifest.pruned) == 1
    write_bytes(at.student / "model.safetensors", kept)
    assert [u.pruned for u in usage(run)] == [False, False, True]


def test_what_is_at_work_keeps_its_student(made: Path, tmp_path: Path) -> None:
    run = open_run(Path(shutil.copytree(made, tmp_path / "run")))
    with Lease(run.layout.iteration(2).lease("evaluate", 0), "a task"):
        assert prune(run, ["0"], apply=False).at_work == [2]
        assert prune(run, ["0"], apply=False).removed == [1]
    with Lease(run.layout.iteration(1).lease("evaluate", 0), "a task"):
        assert prune(run, ["0"], apply=False).removed == [2]
    (run.layout.iteration(2).stage_manifest("advance")).unlink()
    assert prune(run, ["0"], apply=False).removed == [1], "an iteration that is not complete stays whole"


def test_the_parent_of_the_next_training_is_not_pruned(tmp_path: Path) -> None:
    built = RunBuilder(
        tmp_path / "run", problems=12, sets=["display.report=false", "method.start_from=previous"]
    )
    built.play(2)
    with pytest.raises(Incomplete, match="training of iteration 2 starts from it"):
        prune(built.run, ["0"], apply=True)
    built.plan(2)
    with pytest.raises(Incomplete, match="iteration 2 starts from it"):
        prune(built.run, ["0"], apply=True)
    assert prune(built.run, ["0", "1"], apply=True).removed == []


def test_wrong_words_are_refused_and_nothing_is_lost(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("first", "9", "", "-1"):
        with pytest.raises(ConfigError, match="--keep"):
            prune(run, [word], apply=True)
    assert main(["prune", str(run.layout.root), "--keep", "bets"]) == 2
    assert "best, last, all" in capsys.readouterr().err and all(weights(run))
    assert main(["prune", str(run.layout.root), "--keep", "best, last", "--dry-run"]) == 0
    assert "would be removed" in capsys.readouterr().out and all(weights(run))
    assert main(["prune", str(run.layout.root), "--keep", "all"]) == 0
    assert all(weights(run)) and not run.layout.iteration(0).checkpoints.exists()


@pytest.mark.parametrize("folder", ["train/checkpoints", "train", "student"])
def test_nothing_outside_of_the_run_is_removed(run: Run, tmp_path: Path, folder: str) -> None:
    """Who else may write in the run may have put a link there."""
    link = run.layout.iteration(1).root / folder
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    before = {path: path.stat().st_ino for path in sorted(tmp_path.rglob("*"))}
    for keep in ("0", "all") if folder != "student" else ("0",):
        with pytest.raises(StorageError, match="leads out of the run"):
            prune(run, [keep], apply=True)
    assert {path: path.stat().st_ino for path in sorted(tmp_path.rglob("*"))} == before
