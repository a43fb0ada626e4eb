"""SIGKILL at any moment of a shard costs one flush group at most, repeats nothing, and leaves the same bytes.

UNDO_CHAOS=N kills N times (default 4).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPO
from undo_hpc.config.load import load_config
from undo_hpc.run import create_or_open
from undo_hpc.stages.prepare import prepare

pytestmark = pytest.mark.slow
TIMES = int(os.environ.get("UNDO_CHAOS", "4"))
FLUSH_ROWS = 8
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}


def prepared(root: Path) -> Path:
    """A run whose only shard can start."""
    from undo_hpc.campaign import make_plan

    sets = [
        "name=killed",
        "data.train.sample=120",
        "data.validation=5",
        "data.diagnosis=5",
        "generate.shards=1",
        "generate.max_attempts=2",
        f"generate.flush_rows={FLUSH_ROWS}",
        "generate.engine.transformers.max_batch=8",
        "evaluate.limit=5",
    ]
    run = create_or_open(load_config("tiny", sets), root, command=[])
    prepare(run)
    make_plan(run, 0)
    return root


def worker(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "undo_hpc.worker", str(root), "generate", "--iteration", "0", "--index", "0"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, cwd=root.parent
    )


def rows_there(root: Path) -> list[tuple[str, int]]:
    """Keys of the rows that are durable in the parts."""
    keys = []
    for path in sorted((root / "iter_000" / "generate").glob("shard-00000.parts/*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            keys.append((row["problem_id"], row["attempt"]))
    return keys


def test_kills_at_random_moments(tmp_path: Path) -> None:
    calm = prepared(tmp_path / "calm")
    process = worker(calm)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    wanted = (calm / "iter_000" / "generate" / "shard-00000.jsonl").read_bytes()

    root = prepared(tmp_path / "killed")
    rng = random.Random(11)
    kills = 0
    while kills < TIMES:
        before = len(rows_there(root))
        target = before + rng.randrange(1, max(2, wanted.count(b"\n") // TIMES))
        process = worker(root)
        deadline = time.monotonic() + 300
        while process.poll() is None and len(rows_there(root)) < target and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        keys = rows_there(root)
        assert len(keys) >= before, "durable rows were lost"
        assert len(keys) == len(set(keys)), "a finished request was answered again"
    process = worker(root)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert kills > 0
    assert (root / "iter_000" / "generate" / "shard-00000.jsonl").read_bytes() == wanted
    assert not (root / "iter_000" / "generate" / "shard-00000.parts").exists()


def test_a_damaged_line_costs_itself_alone(tmp_path: Path) -> None:
    root = prepared(tmp_path / "run")
    process = worker(root)
    while process.poll() is None and len(rows_there(root)) < 3 * FLUSH_ROWS:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    part = next((root / "iter_000" / "generate" / "shard-00000.parts").glob("*.jsonl"))
    lines = part.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"problem_id": "torn in the mid\n'
    part.write_bytes(b"".join(lines))
    process = worker(root)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "a damaged line is left aside" in output
    rows = [
        json.loads(line) for line in (root / "iter_000" / "generate" / "shard-00000.jsonl").read_text().splitlines()
    ]
    assert len({row["problem_id"] for row in rows}) == 110
