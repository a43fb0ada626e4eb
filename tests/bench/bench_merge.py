"""P5: merge, deduplicate and validate 16 shards, against load_dataset for each + concatenate_datasets + to_parquet.

Each side works in a process of its own on the same 64,000 rows (160 MB); the clock runs from the first byte read to the
last written, imports left out. Memory is the process's highest resident set, imports included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.frame import Measure
from tests.stages.build import make_attempt, make_problems, make_run, write_shards

ROWS, SHARDS, CHARS, REPEATS = 64_000, 16, 2_200, 3

OURS = """
import sys, time, json
from pathlib import Path
from undo_hpc.run import open_run
from undo_hpc.stages import merge
from undo_hpc.storage.lease import Lease
from tests.stages.build import context
import pyarrow, pyarrow.parquet
run = open_run(Path(sys.argv[1]))
with Lease(run.layout.root / 'bench.lease', 'bench') as lease:
    wall, cpu = time.perf_counter(), time.process_time()
    merge.run_stage(context(run, 'merge', lease))
    wall = time.perf_counter() - wall
hwm = next(l for l in open('/proc/self/status') if l.startswith('VmHWM'))  # ru_maxrss would start at the parent's
print(json.dumps({'s': wall, 'cpu': time.process_time() - cpu, 'mib': int(hwm.split()[1]) / 1024}))
"""

OTHER = """
import sys, time, json, tempfile
from pathlib import Path
import datasets
datasets.disable_progress_bars()
shards = sorted(str(p) for p in (Path(sys.argv[1]) / 'iter_000' / 'generate').glob('*.jsonl'))
with tempfile.TemporaryDirectory() as cache:
    wall, cpu = time.perf_counter(), time.process_time()
    parts = [datasets.load_dataset('json', data_files=s, cache_dir=cache, split='train') for s in shards]
    datasets.concatenate_datasets(parts).to_parquet(sys.argv[2])
    wall = time.perf_counter() - wall
hwm = next(l for l in open('/proc/self/status') if l.startswith('VmHWM'))  # ru_maxrss would start at the parent's
print(json.dumps({'s': wall, 'cpu': time.process_time() - cpu, 'mib': int(hwm.split()[1]) / 1024}))
"""


def timed(code: str, *arguments: str) -> dict[str, float]:
    """Runs one side and returns its seconds and MiB."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def build(root: Path, rows: int) -> None:
    """A run whose generate stage is complete."""
    problems = make_problems(rows)
    run = make_run(root, problems, SHARDS)
    write_shards(run, problems, lambda p: [make_attempt(p, 0, chars=CHARS)])


def measures() -> Iterator[Measure]:
    """Time against `datasets`; memory at 160 MB and at ten times that."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        build(small, ROWS)
        size = sum(p.stat().st_size for p in (small / "iter_000" / "generate").glob("*.jsonl"))
        ours, other = [], []
        for _ in range(REPEATS):
            ours.append(timed(OURS, str(small)))
            other.append(timed(OTHER, str(small), str(Path(folder) / "other.parquet")))
        mine, theirs = (statistics.median(r["s"] for r in side) for side in (ours, other))
        note = f"{ROWS} rows, {size / 1e6:.0f} MB, {SHARDS} shards; rows/s"
        extra = {
            "ours_s": round(mine, 3),
            "other_s": round(theirs, 3),
            "other_mib": round(max(r["mib"] for r in other)),
        }
        yield Measure("P5", "merge + dedup + validate", ROWS / mine, ROWS / theirs, ">=4", "rows/s", note, extra)
        yield Measure(
            "P5-memory",
            "highest resident set of the merge at 160 MB",
            max(r["mib"] for r in ours),
            None,
            "<=128",
            "MiB",
        )
        large = Path(folder) / "large"
        build(large, 10 * ROWS)
        big = timed(OURS, str(large))
        note = f"{10 * ROWS} rows in {big['s']:.1f} s"
        yield Measure(
            "P5-memory-1.6GB", "highest resident set of the merge at 1.6 GB", big["mib"], None, "<=128", "MiB", note
        )
