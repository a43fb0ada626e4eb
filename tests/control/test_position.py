"""What is done is derived once: damaged evidence is done again, another version's is left alone, views write nothing."""

from pathlib import Path

import orjson
import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc import worker
from undo_hpc.control.live import LiveTasks
from undo_hpc.control.planning import current_state
from undo_hpc.control.position import discard_stale, read_state
from undo_hpc.errors import EvidenceError, StorageError
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.evidence import DAMAGED, gather_evidence
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import read_manifest, verify_outputs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    builder = RunBuilder(tmp_path / "run", sets=["generate.shards=4"])
    builder.generate(builder.plan(0))
    return builder.run


def manifest_of(run: Run, index: int) -> Path:
    at = run.layout.iteration(0)
    return at.manifest_of(at.shard("generate", index))


def states(run: Run, stage: str) -> list[str]:
    return [status.state for status in current_state(run).statuses if status.stage == stage]


def test_evidence_read_quickly_equals_evidence_read_strictly(copied: Path) -> None:
    run = open_run(copied)
    plan = run.plan(1)
    assert plan is not None
    stages = build_graph(run.config, run.layout, plan)
    (copied / stages[0].tasks[0].outputs[0]).write_bytes(b"shorter")
    (copied / stages[0].tasks[1].manifest).unlink()
    found = gather_evidence(copied, stages)
    seen = 0
    for stage in stages:
        for task in stage.tasks:
            manifest = read_manifest(copied / task.manifest)
            if manifest is None:
                assert (stage.name, task.index) not in found
                continue
            seen += 1
            evidence = found[stage.name, task.index]
            assert evidence.manifest == manifest
            assert evidence.problem == verify_outputs(copied, manifest, deep=False)
    assert seen == len(found) > 2


@pytest.mark.parametrize("content", [b"", b"{torn", b"\0" * 300, b"[]", b"{}", b'{"schema_version": "?"}'])
def test_a_damaged_manifest_is_removed_and_its_task_done_again(run: Run, content: bytes) -> None:
    manifest_of(run, 1).write_bytes(content)
    state = current_state(run)
    assert [s.state for s in state.statuses if s.stage == "generate"] == ["done", "stale", "done", "done"]
    assert discard_stale(run, state) == 1
    assert not manifest_of(run, 1).exists() and manifest_of(run, 0).exists()
    assert states(run, "generate") == ["done", "ready", "done", "done"]


def test_a_damaged_manifest_is_removed_before_its_task_can_start(copied: Path) -> None:
    run = open_run(copied)
    at = run.layout.iteration(2)
    at.stage_manifest("merge").unlink()
    at.stage_manifest("train").write_bytes(b"{torn")
    state = current_state(run)
    assert [(s.state, s.why) for s in state.statuses if s.stage == "train"] == [("blocked", DAMAGED)]
    discard_stale(run, state)
    assert not at.stage_manifest("train").exists(), "the job would refuse to start beside it"


def test_a_manifest_of_another_version_is_refused_and_kept(run: Run) -> None:
    path = manifest_of(run, 2)
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"schema_version": 99}))
    with pytest.raises(EvidenceError, match=r"generate 2 of iteration 0: .* schema version 99"):
        current_state(run)
    assert path.exists()
    assert "schema version 99" in str(read_state(run))


def test_a_view_shows_what_the_launcher_derives_and_writes_nothing(copied: Path) -> None:
    run = open_run(copied)
    run.layout.iteration(2).stage_manifest("train").unlink()
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    view, state = collect_status(run, live=LiveTasks()), current_state(run)
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before
    assert view.iteration == state.iteration == 2
    for stage in view.stages:
        done = sum(status.state == "done" for status in state.statuses if status.stage == stage.name)
        assert stage.done == done, stage.name


def test_metrics_that_are_lost_are_named(copied: Path) -> None:
    run = open_run(copied)
    run.layout.iteration(1).metrics.unlink()
    with pytest.raises(StorageError, match=r"iter_001/metrics\.json is missing, and iteration 2") as caught:
        current_state(run)
    assert "iter_002" in str(caught.value.hint)
    assert any("iter_001/metrics.json" in note for note in collect_status(run, live=LiveTasks()).notes)


@pytest.mark.parametrize("content", [b"", None])
def test_a_lost_manifest_of_an_earlier_iteration_is_named_and_its_figures_are_counted_again(
    copied: Path, content: bytes | None
) -> None:
    """It was told as lost metrics, which were there, and no command helped but one that made later iterations again."""
    run = open_run(copied)
    at = run.layout.iteration(0)
    path = at.stage_manifest("advance")
    before, feedback, manifest = at.metrics.read_bytes(), at.feedback.read_bytes(), read_manifest(path)
    path.unlink() if content is None else path.write_bytes(content)
    how = "missing" if content is None else "damaged"
    with pytest.raises(
        StorageError, match=rf"iter_000/advance\.manifest\.json is {how}, and iteration 1"
    ) as caught:
        current_state(run)
    assert "undo_hpc.worker" in caught.value.hint and "advance --iteration 0" in caught.value.hint
    assert any("advance.manifest.json" in note for note in collect_status(run, live=LiveTasks()).notes)
    assert worker.main([str(copied), "advance", "--iteration", "0"]) == 0
    again = read_manifest(path)
    assert (at.metrics.read_bytes(), at.feedback.read_bytes()) == (before, feedback)
    assert again is not None and manifest is not None and again.digest == manifest.digest
    assert not current_state(run).lost


def test_the_jobs_of_an_iteration_say_nothing_of_the_next(tmp_path: Path) -> None:
    run = RunBuilder(
        tmp_path / "run", sets=["display.report=false", "stop.enabled=false", "iterations=2"]
    ).play(1)
    state = current_state(run, {("generate", 0): ("running", "a shard that the policy did not wait for")})
    assert state.iteration == 1
    assert "running" not in {status.state for status in state.statuses}


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"iteration": 1', b"\0" * 300])
def test_a_damaged_plan_is_set_aside_and_made_again(damage: bytes, tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", problems=8, sets=["iterations=2"])
    builder.play(1)
    plan = current_state(builder.run).plan
    builder.generate(plan, only=[0])
    path = builder.run.layout.iteration(1).plan
    path.write_bytes(damage or path.read_bytes().replace(b'"shards": 2', b'"shards": 3'))
    with pytest.raises(StorageError):
        read_state(builder.run)
    state = current_state(builder.run)
    assert state.iteration == 1 and state.plan == plan
    assert [s.state for s in state.statuses if s.stage == "generate"] == ["done", "ready"]
    assert builder.run.layout.damaged(path).exists()
    assert any(event["kind"] == "set_aside" for event in read_events(builder.run.layout.events))
