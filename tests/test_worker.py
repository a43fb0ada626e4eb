"""One task, one exit code: what lies there already is kept, done again where it is damaged, and left alone where it is another version's."""

import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from tests.stages.build import make_attempt, make_problems, make_run, write_shards
from undo_hpc import worker
from undo_hpc.errors import ExitCode
from undo_hpc.pipeline.run import open_run
from undo_hpc.stages.context import StageContext
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import Manifest, read_manifest, write_manifest
from undo_hpc.storage.progress import ProgressFile

PROBLEMS = make_problems(12)


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "run", PROBLEMS, 2)
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    assert merge(run.layout.root) == ExitCode.COMPLETE
    return run.layout.iteration(0).stage_manifest("merge")


def merge(root: Path) -> int:
    return worker.main([str(root), "merge", "--iteration", "0"])


@pytest.mark.parametrize("content", [b"{torn", b"", b"{}", b"\0" * 99])
def test_a_damaged_manifest_of_its_own_is_no_obstacle(
    merged: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(merged)
    merged.write_bytes(content)
    assert merge(merged.parents[1]) == ExitCode.COMPLETE
    after = read_manifest(merged)
    assert before is not None and after is not None and before.outputs == after.outputs
    said = capsys.readouterr().out
    assert " WARNING iter_000/merge.manifest.json: its manifest is damaged; the task is done again" in said


def test_a_start_notes_when_the_one_before_was_last_alive(merged: Path) -> None:
    run = open_run(merged.parents[1])
    at = run.layout.iteration(0)
    merged.unlink()
    ProgressFile(at.progress("merge", 0)).update(done=1, total=2)
    seen = orjson.loads(at.progress("merge", 0).read_bytes())["time"]
    assert merge(run.layout.root) == ExitCode.COMPLETE
    starts = [event for event in read_events(at.events("merge", 0)) if event["kind"] == "start"]
    assert [event["alive"] for event in starts] == [0, seen]


def test_a_clock_that_is_set_while_a_task_runs_costs_no_hours(
    merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(merged.parents[1])
    events = run.layout.iteration(0).events("merge", 0)
    real = time.time
    for jump in (36_000.0, -36_000.0):
        merged.unlink()

        def advance(ctx: StageContext, jump: float = jump) -> None:
            monkeypatch.setattr(time, "time", lambda: real() + jump)

        monkeypatch.setattr(worker, "load_stage", lambda config, name: advance)
        merge(run.layout.root)
        monkeypatch.setattr(time, "time", real)
        write_manifest(merged, Manifest("merge", 0, 0, {}, {}))
    ends = [event for event in read_events(events) if event["kind"] == "end"]
    assert len(ends) == 3 and all(0 <= event["seconds"] < 60 for event in ends)


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_task_does_not_work_in_a_folder_for_everybody(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """An id on the Hub was a folder there as soon as another user made one, behind the check that the model is the one of the start."""
    merged.unlink()
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    (scratch := tmp_path / "scratch").mkdir()
    scratch.chmod(mode)
    monkeypatch.chdir(scratch)
    seen: list[bool] = []

    def stage(ctx: StageContext) -> None:
        (scratch / "owner" / "model").mkdir(parents=True)
        seen.append(Path("owner/model").exists())

    monkeypatch.setattr(worker, "load_stage", lambda config, name: stage)
    merge(Path("../run"))
    assert seen == [mode == 0o755], "elsewhere commands and folders of the user are found as before"


def test_a_complete_task_is_not_done_again(merged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = merged.read_bytes()
    assert merge(merged.parents[1]) == ExitCode.COMPLETE
    assert (
        merged.read_bytes() == before
        and "INFO merge 0 of iteration 0 is complete already" in capsys.readouterr().out
    )


def test_a_manifest_of_another_version_is_not_overwritten(
    merged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = orjson.dumps(orjson.loads(merged.read_bytes()) | {"schema_version": 77})
    merged.write_bytes(content)
    assert merge(merged.parents[1]) not in (ExitCode.COMPLETE, ExitCode.REQUEUE)
    assert merged.read_bytes() == content
    said = capsys.readouterr().out
    assert (
        "ERROR EvidenceError" in said
        and "schema version 77" in said
        and "the version of undo-hpc that made it" in said
    )


@pytest.mark.parametrize("code", [(0,), (), ("a text",)])
def test_code_of_others_that_ends_the_process_is_no_success(
    code: tuple[object, ...],
    merged: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SLURM would see a task that is complete, the launcher one without a cause."""
    merged.unlink()

    def stage(context: object) -> None:
        raise SystemExit(*code)

    monkeypatch.setattr(worker, "load_stage", lambda config, name: stage)
    assert merge(merged.parents[1]) == ExitCode.FAILED
    said = capsys.readouterr().out
    assert "merge ended its own process (sys.exit(" in said and "-> an engine, a checker or a stage" in said


def test_run_as_a_program_it_speaks_in_the_tasks_log(merged: Path) -> None:
    """As jobs run it: there its module is called __main__, which is outside of the package's loggers."""
    command = [sys.executable, "-m", "undo_hpc.worker", str(merged.parents[1]), "merge", "--iteration", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "INFO merge 0 of iteration 0 is complete already" in done.stdout


def test_a_task_looks_at_the_folders_of_plug_ins_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The launcher looked days before: another user may have put a folder of theirs in place of it."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    run = make_run(tmp_path / "run", PROBLEMS, 2, plugins=[str(plugins)])
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    plugins.chmod(0o777)
    assert merge(run.layout.root) == ExitCode.WRONG_INPUT
    assert f"can write in the folder of plug-ins {plugins}" in capsys.readouterr().out
