"""P10: what `undo-hpc status` takes on a run of 10,000 shards, from the shell's prompt to the last line."""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.bench.frame import Measure
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.pipeline.cutting import pack_slices, slice_sets
from undo_hpc.pipeline.plan import IterationPlan, TargetsFile, build_graph
from undo_hpc.pipeline.run import create_or_open
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.manifest import Manifest, Output, write_manifest

SHARDS, REPEATS = 10_000, 7


def make(root: Path) -> None:
    """A run whose generation is nearly complete: 9,900 shards done, 60 failed, 40 not begun. Plain writes: fsync is not the matter here."""
    config = override(
        RunConfig(), ["name=ten-thousand", f"generate.shards={SHARDS}", "data.train.tiny=train"]
    )
    run = create_or_open(config, root, command=["bench"])
    slices = slice_sets({"gsm8k": 1319, "validation": 5000, "train": 50 * SHARDS}, 2000)
    files = (TargetsFile(sha256=f"{k:064x}", bytes=20_000, rows=50, first=50 * k) for k in range(SHARDS))
    plan = IterationPlan(0, 50 * SHARDS, SHARDS, pack_slices(slices, 2000), targets=tuple(files))
    at = run.layout.iteration(0)
    write_json(at.plan, plan.to_dict())
    stage = next(s for s in build_graph(config, run.layout, plan) if s.name == "generate")
    counts = {
        "rows": 50,
        "correct": 40,
        "wrong": 10,
        "truncated": 1,
        "completion_tokens": 25_000,
        "new_tokens": 25_000,
        "seconds": 90.0,
    }
    details = {
        "engine": {"engine": "vllm", "version": "0.32.0", "model": "teacher", "attention": "flash"},
        "sampling": config.generate.sampling.model_dump(),
    }
    for task in stage.tasks:
        path = root / task.outputs[0]
        if task.index == 0:
            path.parent.mkdir(parents=True)
        if task.index >= 9_900:
            if task.index < 9_960:
                log = EventLog(at.events("generate", task.index))
                log.append("start", job="", restart="0", gpus=1, cpus=8)
                log.append("end", status="failed", code=1, reason="", seconds=12.0)
                at.log("generate", task.index).parent.mkdir(parents=True, exist_ok=True)
                at.log("generate", task.index).write_text("loading\n" * 50 + "EngineError: out of memory\n")
            continue
        path.write_bytes(b"x" * 100)
        manifest = Manifest("generate", 0, task.index, {"config": run.config_digest} | task.inputs, {task.outputs[0]: Output("0" * 64, 100, 50)},
                            counts, details, {}, time.time() - 90, time.time())  # fmt: skip
        with patch("os.fsync"):
            write_manifest(root / task.manifest, manifest)


def command_s(root: Path) -> float:
    """Seconds of the whole command."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "undo_hpc.cli", "status", str(root)],
        check=True,
        capture_output=True,
        text=True,
        env={
            k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"
        },  # as a user's second look
    )
    seconds = time.perf_counter() - began
    if "9900" not in done.stdout and "9,900" not in done.stdout:
        raise RuntimeError(f"the status does not tell of 9,900 shards:\n{done.stdout}")
    return seconds


def measures() -> Iterator[Measure]:
    """One figure: the median of several looks, files in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        make(root)
        command_s(root)
        looks, each = [], []
        for _ in range(REPEATS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            looks.append(command_s(root))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            each.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        counted = calls(root)
    cpu, wall = statistics.median(each), round(statistics.median(looks), 3)
    # It reads what is in the page cache, so on a free machine the two are the same; a neighbour changes the wall time alone.
    note = f"median of {REPEATS}; wall time {wall}, fastest {min(looks):.3f}"
    yield Measure("P10", f"undo-hpc status of {SHARDS:,} shards, whole command, processor time", round(cpu, 3), None, "<=0.5", "s", note,
                  {"wall_s": wall, "calls": counted})  # fmt: skip


def calls(root: Path) -> int | None:
    """System calls of a look; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    done = subprocess.run(
        [strace, "-f", "-c", sys.executable, "-m", "undo_hpc.cli", "status", str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(re.findall(r"^100\.00 +[\d.]+ +\d+ +(\d+)", done.stderr, re.MULTILINE)[-1])
