"""What a fork takes over: each stage that the changed keys do not touch, iteration after iteration, and nothing that rests on other inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaign.build import files_of
from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.config.load import all_keys, override
from undo_hpc.config.schema import RunConfig
from undo_hpc.control import taking_over
from undo_hpc.control.planning import current_state
from undo_hpc.control.taking_over import _READS
from undo_hpc.errors import StorageError
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import combined_digest
from undo_hpc.storage.manifest import read_manifest

SETS = ["iterations=2", "display.report=false", "generate.samples=2"]


def builder(root: Path, *sets: str) -> RunBuilder:
    return RunBuilder(root, problems=24, sets=[*SETS, *sets], benchmarks={"gsm": 20})


def take_over(run: Run, donor: Run) -> dict[tuple[int, str], int]:
    """What a fork takes over: number of tasks by iteration and stage."""
    return {(k, stage): tasks for (_, k, stage), tasks in taking_over.take_over(run, [donor]).items()}


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return builder(tmp_path_factory.mktemp("donor") / "run").play(2)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("train.learning_rate=0.5", {"generate", "baseline", "merge"}),
        ("method.wrong_rationales=keep", {"generate", "baseline"}),
        ("method.combine=add", {"generate", "baseline", "merge", "train", "evaluate"}),  # with nothing yet
        ("method.keep=1", {"generate", "baseline"}),
        ("method.pass_rate_min=0.5", {"generate", "baseline"}),
        ("method.start_from=previous", {"generate", "baseline", "merge", "train", "evaluate"}),  # the same
        ("evaluate.sampling.max_new_tokens=9", {"generate", "merge", "train"}),
        ("method.preset=blind", {"generate", "baseline", "merge", "train", "evaluate"}),
        ("method.preset=ground_truth", {"baseline"}),
        ("generate.sampling.top_k=3", {"baseline"}),
        ("seed=5", set()),
    ],
)
def test_the_stages_that_a_key_does_not_touch(
    change: str, stages: set[str], tmp_path: Path, donor: Run
) -> None:
    before = files_of(donor.layout.root)
    run = builder(tmp_path / "run", change).run
    taken = take_over(run, donor)
    assert {stage for _, stage in taken} == stages and {k for k, _ in taken} <= {0}
    left = {status.stage for status in current_state(run).missing}
    assert not left & stages and "advance" in left
    assert files_of(donor.layout.root) == before, "the donor is only read"


def test_every_key_of_the_method_is_read_by_a_stage_or_changes_what_the_teacher_is_asked() -> None:
    """A key that is in neither list would be changed by a fork, and the old distilled set or student be taken over all the same."""
    asked = {
        "preset",
        "condition",
        "regenerate",
        "history",
        "show_score",
        "hint",
        "examples",
        "examples_from",
        "show_truth",
    }
    read = tuple(key for stage, keys in _READS.items() if stage != "advance" for key in keys)
    keys = [
        key for key in all_keys(RunConfig) if key.startswith("method.") and key.partition(".")[2] not in asked
    ]
    assert len(keys) >= 9 and [key for key in keys if not key.startswith(read)] == []


def test_scores_are_taken_over_with_the_rationales_that_they_are_of(tmp_path: Path) -> None:
    soft = ("method.preset=soft", "distill.shards=2")
    made = builder(tmp_path / "made", *soft)
    plan = made.plan(0)
    made.generate(plan)
    made.single(plan, "merge")
    at = made.run.layout.iteration(0)
    merged = read_manifest(at.stage_manifest("merge"))
    assert merged is not None
    for task in made.graph(plan)["score"].tasks:
        made.publish(made.graph(plan)["score"], task, [[]], {"merge": combined_digest([merged])})
    for change, scored in (("train.learning_rate=0.5", 2), ("distill.k=4", 0), ("train.max_length=99", 0)):
        run = builder(tmp_path / change.partition("=")[0], *soft, change).run
        taken = take_over(run, made.run)
        assert taken.get((0, "score"), 0) == scored and (0, "merge") in taken, change
    assert "train" in {status.stage for status in current_state(run).missing}


def test_another_stopping_rule_keeps_all_iterations_and_decides_by_itself(tmp_path: Path, donor: Run) -> None:
    run = builder(tmp_path / "run", "stop.patience=5", "iterations=4").run
    taken = take_over(run, donor)
    assert {k for k, stage in taken if stage == "advance"} == {0, 1}
    metrics = json.loads(run.layout.iteration(1).metrics.read_text())
    assert metrics["decision"]["action"] == "continue"
    assert json.loads(donor.layout.iteration(1).metrics.read_text())["decision"]["action"] == "finished"
    state = current_state(run)
    assert state.iteration == 2 and not state.lost and not state.damaged


@pytest.mark.parametrize("change", ["iterations=1", "stop.epsilon=0.9"])
def test_no_iteration_is_taken_over_behind_the_end_of_the_new_run(change: str, tmp_path: Path) -> None:
    """One iteration fewer, or a rule that ends earlier: what the donor has beyond would be told as the new run's own."""
    going_on = ("iterations=3", "stop.enabled=true", "stop.patience=3")
    donor = builder(tmp_path / "donor", *going_on).play(3)
    run = builder(tmp_path / "run", *going_on, "stop.patience=1", change).run
    taken = take_over(run, donor)
    last = 1 if change.startswith("stop") else 0
    assert {k for k, stage in taken if stage == "advance"} == set(range(last + 1))
    state = current_state(run)
    assert run.layout.iterations() == list(range(last + 1)) and not state.missing
    assert state.decision is not None and state.decision.action != "continue"
    assert state.decision.best_iteration <= last


def test_files_are_links_and_other_inputs_are_not_taken(tmp_path: Path, donor: Run) -> None:
    run = builder(tmp_path / "run", "train.epochs=9").run
    take_over(run, donor)
    shard = "generate/shard-00000.jsonl"
    assert (run.layout.iteration(0).root / shard).samefile(donor.layout.iteration(0).root / shard)
    damaged = builder(tmp_path / "damaged").play(1)
    path = damaged.layout.iteration(0).root / shard
    path.write_bytes(path.read_bytes()[::-1])  # as long as before: only its digest tells
    taken = take_over(builder(tmp_path / "other", "train.epochs=9").run, damaged)
    assert taken[0, "generate"] == 1 and (0, "merge") not in taken, (
        "one of two shards, and nothing that rests on both"
    )


def test_a_fork_of_a_run_at_work_and_onto_another_run_is_refused(
    tmp_path: Path, donor: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    from undo_hpc.storage.lease import Lease

    with Lease(donor.layout.lease, "the run"):
        assert main(["fork", str(donor.layout.root), str(tmp_path / "new")]) == 2
    assert "is at work (process" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert main(["fork", str(donor.layout.root), str(donor.layout.root)]) == 2
    assert "is a run already" in capsys.readouterr().err
    assert main(["fork", str(tmp_path), str(tmp_path / "new")]) == 2
    assert override(donor.config, []).name == donor.config.name


def test_a_fork_that_was_interrupted_is_completed_by_the_same_command(
    tmp_path: Path, donor: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, manifest: object) -> None:
        raise StorageError(f"cannot write {path}: no space left on device", hint="make room")

    new = tmp_path / "new"
    command = ["fork", str(donor.layout.root), str(new), "--set", "train.epochs=9"]
    dates = [f"{role}.date={donor.model(role).date}" for role in ("teacher", "student")]
    run = builder(new, "train.epochs=9", "name=new", *dates).run
    with monkeypatch.context() as patch:
        patch.setattr(taking_over, "write_manifest", full)
        with pytest.raises(StorageError):
            take_over(run, donor)
    monkeypatch.setattr("undo_hpc.control.checks.require", lambda *_: None)  # its problems were made
    monkeypatch.setattr("undo_hpc.stages.prepare.prepare", lambda *_: None)
    assert main(command) == 0
    assert "taken over generate (2 tasks)" in capsys.readouterr().out
    shard = "iter_000/generate/shard-00000.jsonl"
    assert (new / shard).samefile(donor.layout.root / shard)
    assert main(command) == 2 and "is a run already" in capsys.readouterr().err, "nothing is left to complete"
