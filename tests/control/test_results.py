"""Results of finished iterations that are lost later are noticed, and what can be made again from evidence is made again."""

import shutil
from pathlib import Path

import pytest

from undo_hpc.cli.run_iteration import main
from undo_hpc.control.live import LiveTasks
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import discard_stale, read_state
from undo_hpc.control.results import require_results
from undo_hpc.errors import ExitCode, StorageError
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.manifest import DamagedManifest, read_manifest
from undo_hpc.system.guard import guard


def flip(path: Path) -> None:
    """One bit of a file, in its middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip", "tear", "delete", "empty"])
def test_damaged_metrics_of_the_last_iteration_are_made_again(copied: Path, how: str) -> None:
    run = open_run(copied)
    path = run.layout.iteration(2).metrics
    {
        "flip": lambda: flip(path),
        "tear": lambda: path.write_bytes(path.read_bytes()[:100]),
        "delete": path.unlink,
        "empty": lambda: path.write_bytes(b""),
    }[how]()
    state = current_state(run)
    assert not state.complete and {s.stage for s in state.missing} == {"advance"}
    assert discard_stale(run, state) == 1
    assert not run.layout.iteration(2).stage_manifest("advance").exists()


def test_damaged_metrics_of_an_earlier_iteration_are_named(copied: Path) -> None:
    run = open_run(copied)
    flip(run.layout.iteration(1).metrics)
    with pytest.raises(StorageError, match=r"iter_001/metrics\.json"):
        current_state(run)


def best_of(run: Run) -> int:
    state = read_state(run)
    assert state is not None and state.ended is not None and not state.damaged
    return state.ended.best_iteration


@pytest.mark.parametrize("how", ["deleted", "emptied", "flipped"])
@pytest.mark.parametrize("what", ["student", "distilled"])
def test_the_end_of_a_run_is_not_claimed_where_its_results_are_gone(
    copied: Path, what: str, how: str
) -> None:
    run = open_run(copied)
    best = best_of(run)
    require_results(run, 2, best)
    at = run.layout.iteration(best if what == "student" else 0)
    folder = at.student if what == "student" else at.distilled
    stage = "train" if what == "student" else "merge"
    manifest = read_manifest(at.stage_manifest(stage))
    assert manifest is not None
    file = run.layout.root / max(manifest.outputs, key=lambda name: manifest.outputs[name].bytes)
    if how == "deleted":
        shutil.rmtree(folder)
    elif how == "emptied":
        file.write_bytes(b"")
    else:
        flip(file)
    with pytest.raises(StorageError, match=rf"iter_00\d/{folder.name}") as caught:
        require_results(run, 2, best)
    assert "made again" in caught.value.hint
    if how != "flipped" and at.root.name != "iter_002":  # a look reads names and sizes
        assert any(f"/{folder.name}" in note for note in collect_status(run, live=LiveTasks()).notes)


def test_another_students_files_may_be_deleted_to_save_room(copied: Path) -> None:
    run = open_run(copied)
    best = best_of(run)
    other = next(k for k in (0, 1) if k != best)
    shutil.rmtree(run.layout.iteration(other).student, ignore_errors=True)
    require_results(run, 2, best)


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"{torn", b"[]", b"{}"])
def test_a_torn_manifest_is_told_from_one_of_another_version(copied: Path, content: bytes) -> None:
    path = open_run(copied).layout.iteration(0).stage_manifest("merge")
    path.write_bytes(content)
    with pytest.raises(DamagedManifest):
        read_manifest(path)
    state = read_state(open_run(copied))
    assert state is not None and any("merge.manifest.json" in problem for problem in state.damaged)


@pytest.mark.parametrize("how", ["flip", "delete"])
@pytest.mark.parametrize(
    "name",
    [
        "config.resolved.json",
        "splits/manifest.json",
        "splits/train.jsonl",
        "iter_000/metrics.json",
        "iter_000/merge.manifest.json",
        "iter_000/distilled/distilled-00000.parquet",
        "iter_001/advance.manifest.json",
        "iter_002/plan.json",
    ],
)
def test_incomplete_is_said_only_where_the_same_command_goes_on(copied: Path, name: str, how: str) -> None:
    """A loop over `while [ $? = 3 ]` ran for ever: some damage is undone by a person alone."""
    path = copied / name
    flip(path) if how == "flip" else path.unlink()
    codes = [ExitCode.INCOMPLETE]
    while codes[-1] == ExitCode.INCOMPLETE and len(codes) < 4:
        codes.append(ExitCode(guard(lambda: main(["--run-dir", str(copied)]))))
    assert codes[-1] in (ExitCode.COMPLETE, ExitCode.WRONG_INPUT), codes
