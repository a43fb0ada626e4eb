"""P11: what a task of generate reads of a campaign, and what making the plan costs, at 10,000 and at 1,000,000 problems.

The rows are synthetic and of realistic size (a problem of 230 characters with a worked solution of 400; a rationale and an attempt
of 1,500 each: 4 KB of feedback a problem). It is the second iteration, in which the teacher refines every problem. A shard holds
1,000 problems at either size. Each side works in a process of its own.

A task's work here is to open the run, read the plan and its targets file, and render all prompts, up to where it would load the
engine; for the plan it is all of `make_plan`. Memory is the highest resident set at its end, less that of a bare interpreter; `growth_mib`
is less what was resident after the imports (those of the whole worker). The clock runs from after the imports. The page cache
is warm: the files were just written.
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
from typing import Any

from tests.bench.frame import Measure

SIZES, PER_SHARD, REPEATS = (10_000, 1_000_000), 1_000, 5
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

BARE = """
import json, sys, time
from pathlib import Path
def status(key):  # of this process alone: getrusage's maximum begins with what the parent held when it forked
    return int(Path('/proc/self/status').read_text().split(key + ':')[1].split()[0]) / 1024
"""
FRAME = (
    BARE
    + """
import undo_hpc.worker
from undo_hpc.pipeline.run import open_run
"""
)
TASK = (
    FRAME
    + """
from tests.stages.build import context
from undo_hpc.stages import generate
from undo_hpc.stages.targets import planned_prompts, prompt_of, read_targets
before, began, cpu = status('VmRSS'), time.perf_counter(), time.process_time()
run = open_run(Path(sys.argv[1]))
ctx = context(run, 'generate', None, int(sys.argv[2]), 1)
prompts = planned_prompts(ctx.plan, 'generate', run.config.teacher.prompt)
targets = read_targets(ctx)
asked = [prompt_of(target, prompts, '') for target in targets]
took, cpu = time.perf_counter() - began, time.process_time() - cpu
assert len(asked) == len(targets) > 500 and min(map(len, asked)) > 3000
print(json.dumps({'s': took, 'cpu_s': cpu, 'mib': status('VmHWM'), 'growth_mib': status('VmHWM') - before}))
"""
)
PLAN = (
    FRAME
    + """
from undo_hpc.control.planning import make_plan
before, began, cpu = status('VmRSS'), time.perf_counter(), time.process_time()
plan = make_plan(open_run(Path(sys.argv[1])), 1)
took, cpu = time.perf_counter() - began, time.process_time() - cpu
assert plan.shards == int(sys.argv[2])
print(json.dumps({'s': took, 'cpu_s': cpu, 'mib': status('VmHWM'), 'growth_mib': status('VmHWM') - before}))
"""
)


def in_a_process(code: str, *arguments: object) -> dict[str, float]:
    """Runs one side; its seconds and MiB."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(count: int) -> Iterator[tuple[bytes, bytes]]:
    """A problem and its feedback, as JSON lines."""
    from undo_hpc.records import Feedback, Problem
    from undo_hpc.storage.shards import encode_row

    words = "we add what was bought to what was there and divide the sum by the number of the children "
    for k in range(count):
        text = f"Problem {k}: {(words * 3)[: 150 + k % 160]}?"
        problem = Problem(f"{k:016x}", text, str(k % 97), k, "made", (words * 5)[: 300 + k % 200])
        feedback = Feedback(
            problem.problem_id,
            k,
            "train",
            text,
            problem.ground_truth,
            (words * 21)[: 1200 + k % 601],
            (words * 21)[: 1200 + k * 7 % 601],
            "wrong",
            "setup",
            0.0,
        )
        yield encode_row(problem.to_dict()), encode_row(feedback.to_dict())


def build(root: Path, count: int, condition: str) -> None:
    """A run whose first iteration is complete, as far as the plan of the second looks at it."""
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.pipeline.run import create_or_open
    from undo_hpc.storage.atomic import write_bytes, write_json
    from undo_hpc.storage.manifest import Manifest, describe_output, write_manifest

    config: dict[str, Any] = {
        "name": "p11",
        "generate": {"shards": count // PER_SHARD},
        "method": {"errors_from": "train", "condition": condition},
    }
    run = create_or_open(RunConfig.model_validate(config), root, command=["bench"])
    at, outputs = run.layout.iteration(0), {}
    for name in ("train", "diagnosis", "validation"):
        rows = (problem for problem, _ in rows_of(count)) if name == "train" else b""
        write_bytes(run.layout.split(name), rows)
        outputs[run.layout.relative(run.layout.split(name))] = describe_output(run.layout.split(name))
    counts = {"train": count, "diagnosis": 0, "validation": 0}
    write_manifest(
        run.layout.prepared, Manifest("prepare", 0, 0, {}, outputs, counts=counts, details={"benchmarks": {}})
    )
    write_bytes(at.feedback, (feedback for _, feedback in rows_of(count)))
    write_json(at.metrics, {"iteration": 0, "sets": {}})
    written = {run.layout.relative(at.feedback): describe_output(at.feedback, count)}
    write_manifest(at.stage_manifest("advance"), Manifest("advance", 0, 0, {}, written))


def measures() -> Iterator[Measure]:
    """A task's reading and the making of the plan, at both sizes."""
    bare = in_a_process(BARE + "print(json.dumps({'mib': status('VmHWM')}))")["mib"]
    with tempfile.TemporaryDirectory(dir="build") as folder:
        for count in SIZES:
            root, shards = Path(folder) / str(count), count // PER_SHARD
            build(root, count, "undo")
            plan = in_a_process(PLAN, root, shards)
            tasks = [in_a_process(TASK, root, k * (shards - 1) // (REPEATS - 1)) for k in range(REPEATS)]
            size = sum(path.stat().st_size for path in (root / "iter_001" / "targets").iterdir())
            note = f"{count:,} problems, {shards} shards, {size / 1e6:,.0f} MB of targets"
            for name, what, runs, most_mib, most_s in (
                ("task", "a generate task's reading of its work", tasks, 50, 0.3),
                ("plan", "making the plan of a refinement", [plan], 1024, 600),
            ):
                mib = max(run["mib"] for run in runs) - bare
                growth = {
                    "growth_mib": round(max(run["growth_mib"] for run in runs), 1),
                    "bare_mib": round(bare, 1),
                }
                yield Measure(
                    f"P11-{name}-memory-{count}",
                    f"{what}, over a bare interpreter",
                    mib,
                    None,
                    f"<={most_mib}",
                    "MiB",
                    note,
                    growth,
                )
                took = statistics.median(run["s"] for run in runs)
                cpu = {"cpu_s": round(statistics.median(run["cpu_s"] for run in runs), 3)}
                yield Measure(f"P11-{name}-time-{count}", what, took, None, f"<={most_s}", "s", note, cpu)
        build(Path(folder) / "shuffled", SIZES[-1], "shuffled")
        plan = in_a_process(PLAN, Path(folder) / "shuffled", SIZES[-1] // PER_SHARD)
        note = f"{SIZES[-1]:,} problems, {plan['s']:.0f} s"
        what = "the same plan for the control `shuffled`, whose pairs are held"
        yield Measure(
            f"P11-plan-memory-shuffled-{SIZES[-1]}", what, plan["mib"] - bare, None, "<=1024", "MiB", note
        )
