"""Iteration 0 is taken over where it is the same, by digest, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.build import files_of, played
from tests.observe.synthetic import RunBuilder
from undo_hpc.campaign.shared import awaited, take_over
from undo_hpc.config.load import override
from undo_hpc.config.method import METHOD_PRESETS
from undo_hpc.config.schema import RunConfig
from undo_hpc.control import taking_over
from undo_hpc.control.planning import current_state
from undo_hpc.control.taking_over import first_work
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.events import read_events
from undo_hpc.storage.manifest import read_manifest


def fresh(root: Path, *sets: str, seed: int = 0) -> Run:
    """A run that is prepared and has not begun."""
    return RunBuilder(
        root, problems=24, sets=["iterations=2", f"seed={seed}", *sets], benchmarks={"gsm": 80}
    ).run


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return played(tmp_path_factory.mktemp("donor") / "run")


@pytest.mark.parametrize(
    "other",
    [
        ("method.preset=blind",),
        ("method.preset=on_policy", "distill.loss=fixed_advantage"),  # its first iteration learns text, too
    ],
)
def test_another_arm_takes_over_all_but_the_last_stage(
    tmp_path: Path, donor: Run, other: tuple[str, ...]
) -> None:
    before = files_of(donor.layout.root)
    run = fresh(tmp_path / "run", *other, "name=other")
    assert first_work(run.config) == first_work(donor.config)
    done = take_over(run, [donor])[donor.id]
    state = current_state(run)
    left = {(s.stage, s.state) for s in state.missing}
    assert left == {("advance", "ready")} and done == len(state.statuses) - 1
    mine, theirs = run.layout.iteration(0), donor.layout.iteration(0)
    assert files_of(mine.student) == files_of(theirs.student) and files_of(mine.distilled) == files_of(
        theirs.distilled
    )
    manifest = read_manifest(mine.stage_manifest("train"))
    assert manifest is not None and manifest.details["taken_over_from"] == donor.id
    assert manifest.inputs["config"] == run.config_digest != donor.config_digest
    assert [e["run_id"] for e in read_events(run.layout.events) if e["kind"] == "taken_over"] == [donor.id]
    assert not mine.metrics.exists() and not mine.feedback.exists()
    assert files_of(donor.layout.root) == before, "the donor is only read"


def test_a_run_that_has_begun_or_asks_for_something_else_takes_nothing(tmp_path: Path, donor: Run) -> None:
    others = {"seed": fresh(tmp_path / "seed", seed=1)}
    for name, run in others.items():
        assert not take_over(run, [donor]), name
        assert not run.layout.iterations(), name
    begun = fresh(tmp_path / "begun", "method.preset=blind")
    current_state(begun)
    assert not take_over(begun, [donor])
    unfinished = fresh(tmp_path / "unfinished")
    blind = fresh(tmp_path / "x", "method.preset=blind")
    assert not take_over(blind, [unfinished])
    current_state(unfinished)
    assert not take_over(blind, [unfinished])
    assert awaited(blind.config, [unfinished]) is unfinished and awaited(blind.config, [donor]) is None
    assert awaited(fresh(tmp_path / "y", seed=1).config, [unfinished]) is None


def test_what_comes_before_a_difference_is_taken_over(tmp_path: Path, donor: Run) -> None:
    """Another number of epochs: the rationales are the same, and the untrained student. Another teacher: only the latter."""
    longer = fresh(tmp_path / "longer", "train.epochs=9")
    assert take_over(longer, [donor])
    both = fresh(tmp_path / "both", "method.errors_from=both")
    assert take_over(both, [donor])
    left = {status.stage for status in current_state(both).missing}
    assert left == {"merge", "train", "evaluate", "advance"}, "other problems may be learned"
    dated = fresh(tmp_path / "dated", "student.date=2020-01-01")
    assert take_over(dated, [donor])
    left = {status.stage for status in current_state(dated).missing}
    assert left == {"baseline", "train", "evaluate", "advance"}, "a chat template may print another day"
    left = {status.stage for status in current_state(longer).missing}
    assert left == {"train", "evaluate", "advance"} and not longer.layout.iteration(0).student.exists()
    truth = fresh(tmp_path / "truth", "method.preset=ground_truth")
    assert take_over(truth, [donor])
    assert {s.stage for s in current_state(truth).missing} == {
        "generate",
        "merge",
        "train",
        "evaluate",
        "advance",
    }


def test_the_donor_with_most_equal_work_comes_first(tmp_path: Path, donor: Run) -> None:
    other = played(tmp_path / "other", "train.epochs=9")
    run = fresh(tmp_path / "run", "method.preset=blind", "train.epochs=9")
    taken = take_over(run, [donor, other])
    assert list(taken) == [other.id] and {s.stage for s in current_state(run).missing} == {"advance"}


def test_what_is_damaged_at_the_donor_is_not_taken_over(tmp_path: Path) -> None:
    donor = played(tmp_path / "donor")
    weights = donor.layout.iteration(0).student / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])  # as long as before: only its digest tells
    run = fresh(tmp_path / "run", "method.preset=blind")
    take_over(run, [donor])
    left = {s.stage for s in current_state(run).missing}
    assert "train" in left and "generate" not in left and "merge" not in left
    assert not (run.layout.iteration(0).student / "model.safetensors").exists()


def test_a_take_over_that_was_killed_is_done_again(
    tmp_path: Path, donor: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fresh(tmp_path / "run", "method.preset=blind")
    count = 0

    def killed(path: Path, manifest: object) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(path, manifest)

    write = taking_over.write_manifest
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(taking_over, "write_manifest", killed)
        take_over(run, [donor])
    assert take_over(run, [donor])[donor.id] > 3
    assert {s.stage for s in current_state(run).missing} == {"advance"}


@pytest.mark.parametrize("name", METHOD_PRESETS)
def test_presets_share_their_first_work_unless_they_ask_no_teacher(name: str) -> None:
    plain = override(RunConfig(), ["data.train.tiny=train"])
    assert (first_work(override(plain, [f"method.preset={name}"])) == first_work(plain)) == (
        name not in ("ground_truth", "soft")  # soft scores its first rationales, too
    )


def test_the_same_model_at_another_place_is_the_same(tmp_path: Path, donor: Run) -> None:
    """A job that continues a campaign has the embedded models in its copy of the code."""
    for name, change, left in (
        ("place", {"model": "/elsewhere"}, {"advance"}),
        ("files", {"files": {"config.json": "2:0"}}, {"generate", "merge", "train", "evaluate", "advance"}),
    ):
        run = fresh(tmp_path / name, "method.preset=blind")
        for each in (run, donor):
            manifest = read_json(each.layout.prepared)
            theirs = {"model": "/here", "files": {"config.json": "2:1"}}
            own = theirs | change if each is run else theirs
            manifest["details"]["models"] = {"teacher": own, "student": theirs}
            manifest["details"].pop("seal", None)
            write_json(each.layout.prepared, manifest)
        take_over(run, [donor])
        assert {s.stage for s in current_state(run).missing} >= left, name
        assert ("generate" in left) == ("generate" in {s.stage for s in current_state(run).missing})
