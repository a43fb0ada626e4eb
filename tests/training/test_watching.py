"""What a training tells: its curve in the dashboards asked for, offline, also after a restart; a missing one is named."""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sqlite3
import sys
import types
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.training.conftest import Moment, Trainings, metrics
from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ConfigError, ExitCode
from undo_hpc.storage.shards import encode_sealed
from undo_hpc.training import watching

SINKS = ("tensorboard", "wandb", "trackio")


def test_the_curve_is_in_every_dashboard_and_goes_on_after_a_restart(trainings: Trainings) -> None:
    try:
        watching.check_trackers(TrainConfig(trackers=list(SINKS)))
    except ConfigError as error:
        missing(error.message)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = trainings.spec("watched", rows=24, trackers=list(SINKS))
    quiet = {"WANDB_CONFIG_DIR": str(trainings.root), "WANDB_CACHE_DIR": str(trainings.root)}
    running = trainings.start(spec, 1, Moment(signal.SIGTERM, at=2), **quiet)
    assert running.wait() == [ExitCode.REQUEUE], running.text()
    trainings.run(spec, **quiet)
    work, told = Path(spec.work_dir), [(row["step"], row["loss"]) for row in metrics(spec)]
    assert len(told) > 4

    events = EventAccumulator(str(work / "tensorboard")).Reload()
    curve = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert curve == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in told]

    starts = sorted((work / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(starts) == 2 and {path.name for path in starts} == {
        "run-watched.wandb"
    }  # one curve: the same id
    assert all(b"train/loss" in path.read_bytes() for path in starts)

    (database,) = (work / "trackio").rglob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT step, run_name FROM metrics ORDER BY step").fetchall()
    assert [step for step, _ in rows] == [step for step, _ in told] and len({name for _, name in rows}) == 1


def test_a_restart_keeps_the_sound_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [encode_sealed({"step": step, "loss": 1 / step}) for step in (1, 2, 3, 4)]
    lines[1] = lines[1].replace(b"0.5", b"0.1")
    path.write_bytes(b"".join(lines) + lines[3][:9])
    watching.drop_rows_after(path, 3)
    assert path.read_bytes() == lines[0] + lines[2], "one is changed, one is made again, one is torn"


@pytest.mark.parametrize("name", SINKS)
def test_a_dashboard_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = importlib.machinery.ModuleSpec(
        name, None
    )  # what Python makes of a folder ./wandb that earlier runs left
    for found in (None, folder):
        monkeypatch.setattr(watching.importlib.util, "find_spec", lambda _, found=found: found)
        with pytest.raises(
            ConfigError, match=f"train.trackers names {name}, which is not installed"
        ) as caught:
            watching.check_trackers(TrainConfig(trackers=[name]))
        assert "pip install 'undo-hpc[watch]'" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("name", ["wandb", ".wandb", "config", "home/.config/wandb"])
def test_another_user_does_not_say_where_the_key_of_wandb_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_CONFIG_DIR", raising=False)
    if name == "config":
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / name))
    installed = importlib.machinery.ModuleSpec("wandb", None, origin="wandb/__init__.py")
    monkeypatch.setattr(watching.importlib.util, "find_spec", lambda _: installed)
    watching.check_trackers(TrainConfig(trackers=["wandb"]))
    (file := tmp_path / name / "settings").parent.mkdir(parents=True)
    file.write_text("[default]\nbase_url = http://localhost:1\n")
    watching.check_trackers(TrainConfig(trackers=["wandb"]))
    os.chown(file, 54321, 54321)
    with pytest.raises(ConfigError, match="belongs to another user"):
        watching.check_trackers(TrainConfig(trackers=["wandb"]))
    watching.check_trackers(TrainConfig(trackers=["tensorboard"]))


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_nor_does_one_who_comes_behind_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    installed = importlib.machinery.ModuleSpec("wandb", None, origin="wandb/__init__.py")
    monkeypatch.setattr(watching.importlib.util, "find_spec", lambda _: installed)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    watching.check_trackers(TrainConfig(trackers=["wandb"]))
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="where others can write"):
        watching.check_trackers(TrainConfig(trackers=["wandb"]))


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_a_dashboard_whose_server_misbehaves_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    class Abandoned(Exception):
        """As wandb's own, which is no OSError."""

    calls: list[str] = []

    def called(name: str) -> None:
        calls.append(name)
        if name == call:
            raise Abandoned

    module = types.ModuleType("trackio")
    for name in ("init", "log", "finish"):
        monkeypatch.setattr(module, name, lambda *_, of=name, **__: called(of), raising=False)
    monkeypatch.setitem(sys.modules, "trackio", module)
    spec = types.SimpleNamespace(work_dir=str(tmp_path), card={}, run_id="r", train={})
    tracker = watching._WandbLike("trackio", spec)
    tracker.log({"loss": 1.0}, 1)
    tracker.log({"loss": 1.0}, 2)
    tracker.close()
    assert f"trackio.{call}: Abandoned: the training goes on" in caplog.text
    assert (
        calls == {"init": ["init"], "log": ["init", "log"], "finish": ["init", "log", "log", "finish"]}[call]
    )
