"""A tiny student, its data, and a way to start real ranks cheaply: forked from a process that has the imports done."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.training import tiny_student
from undo_hpc.training.launch import free_port
from undo_hpc.training.spec import TrainSpec

PATIENCE_S = 300.0  # generous: the machine may be busy; a hang is told from slowness by this alone

SMALL = {
    "epochs": 1.0,
    "tokens_per_batch": 600,
    "micro_batch_tokens": 400,
    "max_length": 400,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "zero_stage": 0,
    "weight_decay": 0.1,
    "log_steps": 1,
    "checkpoint": {"every_steps": 4, "every_minutes": 0, "keep": 2, "asynchronous": True},
}


@dataclass(frozen=True)
class Moment:
    """A real signal that a rank gets at an exact point of its training: when it begins a step, or a checkpoint file.

    Tests that raced with the clock would depend on how busy the machine is.
    """

    number: signal.Signals
    at: int
    rank: int = 0
    where: str = (
        "step"  # step: numbered from 0; file: the n-th checkpoint file this process writes, half way through
    )


def _arm(moment: Moment) -> None:
    from undo_hpc.training import loop, writer

    def strike() -> None:
        os.kill(os.getpid(), moment.number)

    if moment.where == "step":
        plain = loop.learning_rate

        def learning_rate(config: Any, step: int, total: int) -> float:
            if step == moment.at:
                strike()
            return plain(config, step, total)

        loop.learning_rate = learning_rate
    else:
        write, written = writer.write_file, [0]

        def write_file(state: Any, path: Path) -> dict[str, Any]:
            written[0] += 1
            if written[0] == moment.at:
                path.write_bytes(b"PK half a file")
                strike()
            return write(state, path)

        writer.write_file = write_file


def _rank(spec_path: str, env: dict[str, str], log: str, moments: list[Moment]) -> None:
    """A rank, in a process of its own: what `python -m undo_hpc.training` does."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.environ.update(env)
    if limit := env.get("LIMIT_FILE_SIZE"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    from undo_hpc.training.__main__ import main

    if env.get("ALWAYS_PIECEWISE"):
        from undo_hpc.training import answer_head

        answer_head._WORTH_IT = answer_head._CHUNK_LOGITS = 0
    for moment in moments:
        if moment.rank == int(env["RANK"]):
            _arm(moment)
    code = main([spec_path], time.monotonic())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass
class Running:
    """Ranks under way."""

    processes: list[BaseProcess]
    log: Path

    def wait(self, patience_s: float = PATIENCE_S) -> list[int]:
        """The exit codes of all ranks (negative: killed by that signal). Fails the test where one hangs."""
        deadline = time.monotonic() + patience_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        hanging = [p for p in self.processes if p.is_alive()]
        self.kill()
        assert not hanging, f"{len(hanging)} ranks hang after {patience_s} s:\n{self.text()}"
        return [p.exitcode or 0 for p in self.processes]

    def kill(self) -> None:
        """Kills all that still run."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
                process.join()

    def signal(self, number: signal.Signals, rank: int = 0) -> None:
        """Sends a signal to one rank."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def text(self) -> str:
        """What the ranks said so far."""
        return self.log.read_text() if self.log.exists() else ""


@dataclass
class Trainings:
    """Makes specs and starts ranks on them."""

    root: Path
    model: Path
    context: ForkServerContext
    data: dict[tuple[int, int], Path] = field(default_factory=dict)
    started: list[Running] = field(default_factory=list)
    count: int = 0

    def dataset(self, rows: int, seed: int = 0) -> Path:
        """A parquet file of that many examples."""
        if (rows, seed) not in self.data:
            self.data[rows, seed] = tiny_student.write_parquet(
                self.root / f"data-{rows}-{seed}.parquet", tiny_student.rows(rows, seed)
            )
        return self.data[rows, seed]

    def spec(self, name: str = "", *, rows: int = 60, **changes: Any) -> TrainSpec:
        """A spec in a folder of its own; `changes` go to the spec where it has the key, else to its train section."""
        self.count += 1
        place = self.root / (name or f"run-{self.count}")
        base = TrainSpec(
            train=dict(SMALL),
            seed=3,
            model=str(self.model),
            data=[str(self.dataset(rows))],
            data_digest=f"rows-{rows}",
            work_dir=str(place / "work"),
            out_dir=str(place / "student"),
            run_id=name or f"run-{self.count}",
            card={"name": "test", "iteration": 1, "parent": "tiny"},
        )
        own = {key: value for key, value in changes.items() if key in TrainSpec.__dataclass_fields__}
        train = base.train | {key: value for key, value in changes.items() if key not in own}
        return replace(base, train=train, **own)

    def start(self, spec: TrainSpec, ranks: int = 1, *moments: Moment, **env: str) -> Running:
        """Starts the ranks of a training; `moments` are signals that they will get."""
        place = Path(spec.work_dir).parent
        place.mkdir(parents=True, exist_ok=True)
        path = place / "spec.json"
        spec.save(path)
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} if ranks > 1 else {}
        processes: list[BaseProcess] = []
        for rank in range(ranks):
            variables = common | {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank)} | env
            process = self.context.Process(
                target=_rank, args=(str(path), variables, str(place / "log"), list(moments))
            )
            process.start()
            processes.append(process)
        self.started.append(Running(processes, place / "log"))
        return self.started[-1]

    def run(self, spec: TrainSpec, ranks: int = 1, **env: str) -> Running:
        """Runs a training to its end; fails the test unless all ranks say that it is complete."""
        running = self.start(spec, ranks, **env)
        codes = running.wait()
        assert codes == [0] * ranks, f"exit codes {codes}:\n{running.text()}"
        return running


def metrics(spec: TrainSpec) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    path = Path(spec.work_dir) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def weights(spec: TrainSpec) -> dict[str, Any]:
    """The published weights."""
    from safetensors.torch import load_file

    return load_file(Path(spec.out_dir) / "model.safetensors")


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(bool((one[k].view(-1) == other[k].view(-1)).all()) for k in one)


@pytest.fixture(scope="session")
def student_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of a random tiny Qwen2 with tied embeddings."""
    return tiny_student.make_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory, student_dir: Path) -> Iterator[Trainings]:
    """Starts real trainings; what a failed test left running is killed at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.preload"])
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # several ranks cannot share a GPU, and a fork cannot use one: tests/gpu has its own
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        forkserver.ensure_running()
    made = Trainings(tmp_path_factory.mktemp("trainings"), student_dir, context)
    yield made
    for running in made.started:
        running.kill()
