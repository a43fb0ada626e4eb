"""A training that was killed, signalled, short of time or of disk goes on from its newest sound checkpoint to the same weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import figures
from tests.training.conftest import PATIENCE_S, Moment, Running, Trainings, metrics, same_bits, weights
from undo_hpc.errors import ConfigError, ExitCode
from undo_hpc.storage.lease import Lease
from undo_hpc.training.spec import RECORD, TrainSpec

CHAOS = int(os.environ.get("UNDO_CHAOS", "10"))


def steps_done(spec: TrainSpec) -> int:
    """The last step that the training told of."""
    rows = metrics(spec)
    return int(rows[-1]["step"]) if rows else 0


def checkpoints(spec: TrainSpec) -> list[str]:
    """The names of published checkpoints."""
    return sorted(p.name for p in (Path(spec.work_dir) / "checkpoints").glob("step-*"))


def rank_rows(spec: TrainSpec) -> list[tuple[int, float]]:
    """Step and loss of each log row."""
    return [(r["step"], r["loss"]) for r in metrics(spec)]


LONG = {"rows": 60, "epochs": 1.0, "tokens_per_batch": 500, "micro_batch_tokens": 300}  # 16 steps or so
SHORT = LONG | {"rows": 24}  # 6 steps or so


@pytest.fixture(scope="module")
def undisturbed(trainings: Trainings) -> TrainSpec:
    """A training of two ranks and ZeRO 2 that nothing disturbs."""
    spec = trainings.spec("undisturbed", zero_stage=2, **LONG)
    trainings.run(spec, 2)
    assert steps_done(spec) > 14
    return spec


def go_on(trainings: Trainings, spec: TrainSpec, ranks: int) -> Running:
    """Starts again and checks that it went on rather than began."""
    running = trainings.run(spec, ranks)
    assert "resumed after step" in running.text()
    return running


def stop_at(trainings: Trainings, spec: TrainSpec, ranks: int, *moments: Moment) -> Running:
    """Runs until the signals make all ranks save and leave."""
    running = trainings.start(spec, ranks, *moments)
    assert running.wait() == [ExitCode.REQUEUE] * ranks, running.text()
    return running


def test_killed_at_random_moments(trainings: Trainings, undisturbed: TrainSpec) -> None:
    rng = random.Random(7)
    total = steps_done(undisturbed)
    spec = trainings.spec("killed", zero_stage=2, **LONG)
    for kill in range(CHAOS):
        rank = rng.randrange(2)
        moment = Moment(
            signal.SIGKILL, 1 + kill * (total - 1) // CHAOS + rng.randrange(max(1, total // CHAOS - 1)), rank
        )
        if kill % 3 == 2:
            moment = Moment(signal.SIGKILL, rng.randint(1, 2), rank, where="file")
        running = trainings.start(spec, 2, moment)
        running.processes[rank].join(PATIENCE_S)
        assert running.processes[rank].exitcode == -signal.SIGKILL, running.text()
        running.processes[1 - rank].join(
            30
        )  # its neighbour notices by itself; a launcher would not wait so long
        running.kill()
    trainings.run(spec, 2)
    assert same_bits(weights(spec), weights(undisturbed))
    assert rank_rows(spec) == rank_rows(undisturbed)  # no step told twice, none missing
    figures.count("SIGKILLs of a training rank, seed 7", kills=CHAOS, steps_told_once=total)


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16")]
)
def test_a_signal_to_one_rank_saves_all_and_the_resume_is_exact(
    trainings: Trainings, stage: int, precision: str
) -> None:
    # adapters with dropout: the random numbers of each rank go on where they were
    dropout = {"lora": {"enabled": True, "dropout": 0.2}} if (stage, precision) == (2, "fp32") else {}
    whole, cut = (trainings.spec(**SHORT, **dropout, zero_stage=stage, precision=precision) for _ in range(2))
    trainings.run(whole, 2)
    stop_at(trainings, cut, 2, Moment(signal.SIGTERM, at=2, rank=1))
    assert steps_done(cut) == 3 < steps_done(whole)  # the step that the signal met is the last one
    assert checkpoints(cut)[-1] == "step-00000003"
    assert not Path(cut.out_dir).exists()
    assert "resumed after step 3" in go_on(trainings, cut, 2).text()
    assert same_bits(weights(cut), weights(whole))


@pytest.mark.parametrize(("stage", "offload"), [(2, "optimizer"), (3, "all")])
def test_offload_computes_the_same_and_may_change_on_resume(
    trainings: Trainings, undisturbed: TrainSpec, stage: int, offload: str
) -> None:
    """DeepSpeed takes its offload path on a CPU too; what only a GPU could show is the copy between the two memories."""
    spec = trainings.spec(zero_stage=stage, offload=offload, **LONG)
    running = stop_at(trainings, spec, 2, Moment(signal.SIGTERM, at=5))
    assert f"offload: {offload} was asked for, but there is no GPU" in running.text()
    stop_at(trainings, spec, 2, Moment(signal.SIGTERM, at=9))
    go_on(trainings, replace(spec, train=spec.train | {"offload": "none"}), 2)
    expected = rank_rows(undisturbed)
    assert [loss for _, loss in rank_rows(spec)] == pytest.approx([loss for _, loss in expected], abs=1e-4)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_another_number_of_ranks_goes_on(trainings: Trainings, undisturbed: TrainSpec, stage: int) -> None:
    # ZeRO 3 keeps a large model's optimiser in several pieces a group; so it does here
    pieces = {"deepspeed": {"zero_optimization": {"sub_group_size": 20_000}}} if stage == 3 else {}
    spec = trainings.spec(zero_stage=stage, **pieces, **LONG)
    expected = dict(rank_rows(undisturbed))
    stop_at(trainings, spec, 2, Moment(signal.SIGUSR2, at=4))
    stop_at(trainings, spec, 1, Moment(signal.SIGUSR2, at=9))
    assert steps_done(spec) == 10
    go_on(trainings, spec, 2)
    assert [step for step, _ in rank_rows(spec)] == sorted(expected)
    assert [loss for _, loss in rank_rows(spec)] == pytest.approx(
        [expected[s] for s in sorted(expected)], abs=1e-4
    )


def test_synchronous_checkpoints_hold_the_same_state(trainings: Trainings, undisturbed: TrainSpec) -> None:
    spec = trainings.spec(
        zero_stage=2,
        checkpoint={"every_steps": 3, "every_minutes": 0, "keep": 1, "asynchronous": False},
        **LONG,
    )
    running = trainings.start(spec, 2, Moment(signal.SIGKILL, at=7))
    running.processes[0].join(PATIENCE_S)
    running.kill()
    go_on(trainings, spec, 2)
    assert same_bits(weights(spec), weights(undisturbed))


def half_way(trainings: Trainings, name: str, ranks: int = 1, **changes: object) -> TrainSpec:
    """A training with checkpoints that was stopped by a signal in the middle."""
    spec = trainings.spec(name, **{**LONG, **changes})
    stop_at(trainings, spec, ranks, Moment(signal.SIGTERM, at=9))
    return spec


def test_torn_checkpoints_are_skipped(trainings: Trainings) -> None:
    whole = trainings.spec(**LONG)
    trainings.run(whole)
    spec = half_way(trainings, "torn", checkpoint={"every_steps": 2, "every_minutes": 0, "keep": 9})
    folder = Path(spec.work_dir) / "checkpoints"
    names = checkpoints(spec)
    assert len(names) >= 4
    (folder / names[-1] / "MANIFEST.json").unlink()
    data = folder / names[-2] / "state" / "mp_rank_00_model_states.pt"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    (folder / names[-3] / "state" / "random-00000.pt").write_bytes(b"")
    (folder / ".step-00000099.tmp").mkdir()
    running = go_on(trainings, spec, 1)
    text = running.text()
    for name, why in ((names[-1], "no manifest"), (names[-2], "digest"), (names[-3], "bytes")):
        assert f"checkpoint {name} is skipped" in text and why in text
    assert f"resumed after step {int(names[-4][5:])}" in text
    assert "step-00000099 was not finished; it is removed" in text
    assert same_bits(weights(spec), weights(whole))


def test_the_newest_and_the_best_are_kept(trainings: Trainings) -> None:
    spec = trainings.spec(
        rows=60, learning_rate=0.3, checkpoint={"every_steps": 2, "every_minutes": 0, "keep": 2}
    )  # it gets worse
    trainings.run(spec)
    folder = Path(spec.work_dir) / "checkpoints"
    losses = {
        name: json.loads((folder / name / "MANIFEST.json").read_text())["loss"] for name in checkpoints(spec)
    }
    assert len(losses) in (2, 3)
    told = [r["loss"] for r in metrics(spec)]
    assert min(losses.values()) == pytest.approx(
        min(sum(told[i : i + 2]) / 2 for i in range(0, len(told) - 1, 2)), rel=0.2
    )


def test_a_student_is_told_alike_where_it_is_only_published_again(trainings: Trainings) -> None:
    """Tokens and loss rest on no log: a kill before the student stands, or a power loss, leaves gaps in it."""
    checkpoint = {"every_steps": 1, "every_minutes": 0, "keep": 1}
    spec = trainings.spec(rows=24, checkpoint=checkpoint, log_steps=3)
    trainings.run(spec)
    student, log = Path(spec.out_dir), Path(spec.work_dir) / "metrics.jsonl"
    before = {name: (student / name).read_bytes() for name in (RECORD, "README.md")}
    assert json.loads(before[RECORD])["final_loss"] == metrics(spec)[-1]["loss"]
    shutil.rmtree(student)
    log.unlink()
    go_on(trainings, spec, 1)
    assert {name: (student / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_student_is_told_alike_where_its_training_was_stopped_between_two_log_rows(
    trainings: Trainings, ranks: int, number: signal.Signals
) -> None:
    """The loss that is told last is the mean over the steps since the log row before, whichever start made them."""
    checkpoint = {"every_steps": 1, "every_minutes": 0, "keep": 2, "asynchronous": False}
    whole, cut = (trainings.spec(**SHORT, checkpoint=checkpoint, log_steps=4, zero_stage=2) for _ in range(2))
    trainings.run(whole, ranks)
    assert steps_done(whole) == 7, "the last log row is of three steps"
    running = trainings.start(cut, ranks, Moment(number, at=5))
    running.processes[0].join(PATIENCE_S)
    running.kill()
    go_on(trainings, cut, ranks)
    loss, expected = (json.loads((Path(s.out_dir) / RECORD).read_text())["final_loss"] for s in (cut, whole))
    assert loss == pytest.approx(expected, rel=1e-12) and (ranks > 1 or loss == expected)
    assert metrics(cut)[-1]["loss"] == loss
    if ranks == 1:
        readme = [(Path(s.out_dir) / "README.md").read_text().replace(s.run_id, "") for s in (cut, whole)]
        assert readme[0] == readme[1]


def test_a_full_disk_leaves_the_old_checkpoint(trainings: Trainings) -> None:
    spec = half_way(trainings, "full")
    before = checkpoints(spec)
    running = trainings.start(
        spec, 1, LIMIT_FILE_SIZE="200000"
    )  # the system then refuses to write on, as a full disk does
    assert running.wait() == [ExitCode.INCOMPLETE], running.text()
    assert "the disk (or the quota) is full" in running.text() and "Traceback" not in running.text()
    assert not list((Path(spec.work_dir) / "checkpoints").glob(".*"))
    assert checkpoints(spec) == before
    go_on(trainings, spec, 1)


def test_the_last_checkpoint_is_made_before_the_time_is_up(trainings: Trainings) -> None:
    spec = replace(
        trainings.spec("short-of-time", **{**LONG, "epochs": 5000.0}, log_steps=20), time_limit_s=8.0
    )
    running = trainings.start(spec)
    assert running.wait() == [ExitCode.REQUEUE], running.text()
    assert "(time)" in running.text()


def test_a_checkpoint_of_something_else_is_refused(trainings: Trainings) -> None:
    spec = half_way(trainings, "refusals", ranks=2, zero_stage=1)
    before = {p: p.stat().st_mtime_ns for p in Path(spec.work_dir, "checkpoints").rglob("*.pt")}
    cases = [
        (replace(spec, run_id="another"), "belongs to another run"),
        (replace(spec, data_digest="other"), "training data changed"),
        (replace(spec, seed=4), "seed"),
        (replace(spec, train=spec.train | {"zero_stage": 2}), "train.zero_stage is 2"),
        (replace(spec, train=spec.train | {"learning_rate": 1e-4}), "train.learning_rate is 0.0001"),
    ]
    log = Path(spec.work_dir).parent / "log"
    for other, message in cases:
        log.unlink()
        running = trainings.start(other, 2)
        assert set(running.wait()) == {ExitCode.WRONG_INPUT}, running.text()
        assert message in running.text() and "->" in running.text()
        assert "Traceback" not in running.text()
    assert {p: p.stat().st_mtime_ns for p in Path(spec.work_dir, "checkpoints").rglob("*.pt")} == before
    assert not Path(spec.out_dir).exists()


def test_a_zombie_gives_no_checkpoint_and_no_student_its_name(trainings: Trainings, tmp_path: Path) -> None:
    spec = trainings.spec("zombie")
    with (
        Lease(tmp_path / "train.lease", "train") as mine,
        Lease(tmp_path / "other.lease", "train") as successor,
    ):
        handed_down = mine.handed_down
        os.replace(successor.path, mine.path)  # a later start of the task has taken over
        running = trainings.start(spec, **handed_down)
        assert running.wait() == [ExitCode.INCOMPLETE], running.text()
    assert "was taken over by a later start" in running.text() and "Traceback" not in running.text()
    assert not Path(spec.out_dir).exists()
    assert not list(Path(spec.work_dir).glob("checkpoints/step-*"))


def test_a_model_that_lies_elsewhere_now_is_the_same_model(tmp_path: Path) -> None:
    """A launch with newer code brings its own copy of the embedded models; a run may be moved."""
    from undo_hpc.training.checkpoints import CheckpointManager, settings_of
    from undo_hpc.training.deepspeed_settings import zero_stage

    spec = TrainSpec(
        {}, 3, "/run/code/old/student", [], str(tmp_path), str(tmp_path / "out"), "run", origin="tiny:student"
    )
    manifest = {
        "run_id": "run",
        "zero_stage": zero_stage(spec.config),
        "data_digest": "",
        "seed": 3,
        "settings": settings_of(spec.config),
    }

    def check(told: str, now: TrainSpec) -> None:
        keeper = SimpleNamespace(_spec=now, _config=now.config, folder=tmp_path)
        CheckpointManager._check(keeper, tmp_path / "step-1", manifest | {"model": told})  # type: ignore[arg-type]

    check("tiny:student", replace(spec, model="/run/code/new/student"))
    check("/run/code/old/student", spec)  # as an earlier version noted it
    with pytest.raises(ConfigError, match="trained from tiny:student, this run starts from other/model"):
        check("tiny:student", replace(spec, origin="other/model"))


def test_a_nan_loss_stops_and_names_the_rows(trainings: Trainings) -> None:
    from safetensors.torch import load_file, save_file

    broken = trainings.root / "nan-student"
    shutil.copytree(trainings.model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    spec = trainings.spec("nan", model=str(broken))
    running = trainings.start(spec, 2)
    assert running.wait() == [ExitCode.FAILED] * 2
    assert "loss nan at step 1" in running.text() and "Traceback" not in running.text()
    rows = [json.loads(p.read_text())["rows"] for p in sorted(Path(spec.work_dir).glob("bad-batch-*.json"))]
    assert len(rows) == 2 and all(rows) and not set(rows[0]) & set(rows[1])
    assert not Path(spec.out_dir).exists()


def test_a_dead_rank_is_noticed_without_a_launcher(trainings: Trainings) -> None:
    spec = trainings.spec("orphan", zero_stage=1, **LONG)
    running = trainings.start(spec, 2, Moment(signal.SIGKILL, at=3, rank=1))
    assert running.wait() == [ExitCode.FAILED, -signal.SIGKILL], running.text()
