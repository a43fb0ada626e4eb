"""P7g: rows that a SIGKILL of the generation costs, beside datatrove's executor: the same rows, two tasks, the same time a row.

datatrove twice: with a plain step, and with its InferenceRunner, whose checkpoints hold each answer at once (written, not fsynced).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped
from tests.slurmlab.processes import environment_of
from undo_hpc.engines.base import Completion, Request, digest, never

ROWS, TASKS, ROW_S = 1000, 2, 0.04  # a task is many durable groups (64 rows or 10 s), as in life
KILLS = int(os.environ.get("UNDO_BENCH_KILLS", "2"))
REPO = Path(__file__).resolve().parents[2]


def note(log: str, name: str) -> None:
    """A row takes its time, and is written down."""
    time.sleep(ROW_S)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{name}\n".encode())
    os.close(fd)


class Logged:
    """The engine of our run: an answer is its prompt's digest."""

    def __init__(self, config: Any, model: Any) -> None:
        self._log = str(config.options["log"])

    def describe(self) -> dict[str, Any]:
        """Nothing that an answer depends on."""
        return {"engine": "logged"}

    def generate(
        self, requests: Sequence[Request], *, should_stop: Callable[[], bool] = never
    ) -> Iterator[Completion]:
        """One after the other."""
        for request in requests:
            if should_stop():
                return
            note(self._log, request.id)
            yield Completion(request.id, f"#### {len(request.prompt)}", "stop", 1, 1, digest(request.prompt))

    def close(self) -> None:
        """Nothing is held."""


def rows(data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
    """The rows of one of datatrove's tasks."""
    from datatrove.data import Document

    for number in range(rank, ROWS, world_size):
        yield Document(text=f"problem {number}", id=str(number))


def answered(data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
    """The same time a row."""
    for document in data:
        note(os.environ["UNDO_BENCH_LOG"], document.id)
        document.text = f"#### {document.id}"
        yield document


def datatrove(place: Path) -> None:
    """Its local executor, as its examples use it."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.writers import JsonlWriter

    LocalPipelineExecutor(
        pipeline=[rows, answered, JsonlWriter(str(place / "out"), compression=None)],
        tasks=TASKS, workers=TASKS, logging_dir=str(place / "logs"), start_method="fork",
    ).run()  # fmt: skip


async def rollout(document: Any, generate: Any) -> str:
    """The same time a row, as a rollout."""
    await asyncio.to_thread(note, os.environ["UNDO_BENCH_LOG"], document.id)
    return f"#### {document.id}"


def runner(place: Path) -> None:
    """Its InferenceRunner with checkpoints, one request at a time as ours; the server that it wants is its own dummy, and is not asked."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    config = InferenceConfig(
        server_type="dummy", model_name_or_path="none", max_concurrent_generations=1, max_concurrent_documents=1, server_ready_delay_sec=0.5
    )  # fmt: skip
    writer = JsonlWriter(
        str(place / "out"), output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
    )
    step = InferenceRunner(
        rollout, config, writer, checkpoints_local_dir=str(place / "checkpoints"), records_per_chunk=64
    )
    LocalPipelineExecutor(
        pipeline=[rows, step],
        tasks=TASKS,
        workers=TASKS,
        logging_dir=str(place / "logs"),
        start_method="fork",
    ).run()


def _ours(place: Path, log: Path) -> list[str]:
    import yaml

    from tests.slurm.small import base_config

    config = base_config()
    config["plugins"] = [str(REPO)]
    config["data"]["train"]["sample"] = ROWS + 6
    config["generate"] |= {"shards": TASKS, "engine": {"name": "tests.bench.goodput_generation:Logged", "options": {"log": str(log)}}}  # fmt: skip
    del config["storage"]  # as a user has it
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    return [
        sys.executable, str(REPO / "launchers" / "run_iteration.py"), "--config", str(place / "config.yaml"), "--run-dir", str(place / "run"),
        "--until", "generate", "--cluster", "local", "--set", f"cluster.max_processes={TASKS}",
    ]  # fmt: skip


def measures(place: Path, seed: int) -> Iterator[Measure | Skipped]:
    """Each is killed at the same row, started again, and let to end."""
    if importlib.util.find_spec("datatrove") is None:
        yield Skipped("P7g", "datatrove is not installed (make bench-goodput installs it)")
        return
    again: dict[str, list[int]] = {"ours": [], "datatrove": [], "runner": []}
    beyond: dict[str, list[float]] = {name: [] for name in again}
    for turn in range(KILLS):
        at = random.Random(f"{seed} {turn}").randrange(ROWS // 10, ROWS)
        for name in again:
            folder = place / f"{name}-{turn}"
            log = folder / "rows.log"
            theirs = [sys.executable, "-m", "tests.bench.goodput_generation", name, str(folder)]
            rows_again, seconds = _killed_at(
                folder, _ours(folder, log) if name == "ours" else theirs, log, at
            )
            again[name].append(rows_again)
            beyond[name].append(round(seconds, 1))
    means = {name: statistics.mean(counts) for name, counts in again.items()}
    yield Measure(
        "P7g", f"rows of {ROWS} that are generated again after a SIGKILL of all processes, against datatrove's executor, {TASKS} tasks",
        means["ours"], means["datatrove"], "<=0.77", "rows",
        "goal: datatrove does 1.3 times as much again or more", extra={"kills": KILLS, "seed": seed, "each": again},
    )  # fmt: skip
    yield Measure(
        "P7h", "seconds beyond the rows' own of a generation that is killed once, two starts included, against datatrove's InferenceRunner with checkpoints",
        statistics.median(beyond["ours"]), statistics.median(beyond["runner"]), "<=0.77", "s",
        "it writes each answer at once and makes none durable; we make groups durable",
        extra={"rows_again": means["ours"], "rows_again_runner": means["runner"], "each": beyond},
    )  # fmt: skip


def _killed_at(folder: Path, command: list[str], log: Path, row: int) -> tuple[int, float]:
    """Rows that were generated more than once, and seconds from the first start to the end less those that the rows take once."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(REPO), "UNDO_BENCH_LOG": str(log), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("ab") as out:
        running = subprocess.Popen(command, cwd=REPO, env=env, stdout=out, stderr=out)
        while len(_names(log)) < row and running.poll() is None:
            time.sleep(0.02)
        _kill_all(log)
        running.wait()
        subprocess.run(command, cwd=REPO, env=env, stdout=out, stderr=out, check=True)
    names = _names(log)
    if len(set(names)) != ROWS:
        raise RuntimeError(f"{len(set(names))} rows of {ROWS}: {(folder / 'log').read_text()[-1500:]}")
    return len(names) - len(set(names)), time.monotonic() - began - ROWS * ROW_S / TASKS


def _kill_all(log: Path) -> None:
    """SIGKILL to every process that was started for this log, until none is left."""
    while pids := [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and environment_of(int(entry.name)).get("UNDO_BENCH_LOG") == str(log)
    ]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # nobody hears that another one has died
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _names(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


if __name__ == "__main__":
    {"datatrove": datatrove, "runner": runner}[sys.argv[1]](Path(sys.argv[2]))
