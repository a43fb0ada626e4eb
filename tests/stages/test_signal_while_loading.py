"""A task that is asked to save while it still loads ends with the code that starts it again, at whatever moment of loading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.e2e.campaign import SMALL
from tests.stages.build import make_attempt, write_shards
from undo_hpc.config.load import load_config
from undo_hpc.control.planning import make_plan
from undo_hpc.errors import ExitCode
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.stages.prepare import prepare
from undo_hpc.storage.events import read_events

pytestmark = pytest.mark.slow
PATIENCE_S = 300.0
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}


def made(root: Path) -> Run:
    """A run in which generation can start."""
    run = create_or_open(
        load_config("tiny", [*SMALL, "generate.shards=1", "train.epochs=500"]), root, command=[]
    )
    prepare(run)
    make_plan(run, 0)
    return run


def merged(root: Path) -> Run:
    """A run in which training can start."""
    from tests.stages.build import context
    from undo_hpc.stages import merge
    from undo_hpc.storage.lease import Lease

    run = made(root)
    write_shards(run, lambda problem: [make_attempt(problem, 0)])
    with Lease(run.layout.iteration(0).lease("merge", 0), "merge") as lease:
        merge.run_stage(context(run, "merge", lease))
    return run


def asked(run: Run, stage: str, number: signal.Signals, moment: Callable[[], bool]) -> tuple[int, str]:
    """Runs the worker, signals it as soon as `moment` has come; its exit code and words."""
    command = [
        sys.executable,
        "-m",
        "undo_hpc.worker",
        str(run.layout.root),
        stage,
        "--iteration",
        "0",
        "--index",
        "0",
    ]
    worker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not moment():
            assert worker.poll() is None and time.monotonic() < deadline, "the moment never came"
            time.sleep(0.002)
        worker.send_signal(number)
        output, _ = worker.communicate(timeout=PATIENCE_S)
    finally:
        worker.kill()
    return worker.returncode, output


def started(run: Run, stage: str) -> Callable[[], bool]:
    """The task has begun; its model is not loaded."""
    path = run.layout.iteration(0).events(stage, 0)
    return lambda: path.exists() and bool(list(read_events(path)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_generation(tmp_path: Path, number: signal.Signals) -> None:
    run = made(tmp_path / "run")
    code, output = asked(run, "generate", number, started(run, "generate"))
    assert code == ExitCode.REQUEUE and "Traceback" not in output, output
    events = list(read_events(run.layout.iteration(0).events("generate", 0)))
    assert [e["status"] for e in events if e["kind"] == "end"] == ["requeue"]
    assert not run.layout.iteration(0).shard("generate", 0).exists()


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGTERM, "its inputs are checked"), (signal.SIGUSR1, "its ranks import torch")],
)
def test_training(tmp_path: Path, number: signal.Signals, when: str) -> None:
    run = merged(tmp_path / "run")
    moment = started(run, "train")
    if when == "its ranks import torch":
        moment = (run.layout.iteration(0).train / "spec.json").exists
    code, output = asked(run, "train", number, moment)
    assert code == ExitCode.REQUEUE and "Traceback" not in output, output
    events = list(read_events(run.layout.iteration(0).events("train", 0)))
    assert [e["status"] for e in events if e["kind"] == "end"] == ["requeue"]
    assert (
        not (run.layout.iteration(0).train / "metrics.jsonl").exists()
        and not run.layout.iteration(0).student.exists()
    )
