"""P14: every step that looks at a whole campaign, at 10^4 and 10^5 problems with eight samples each (10^6 with UNDO_SCALE=1000000).

Each step works in a process of its own on the run that the steps before it have left (the work of GPUs is written by `scale_run`): whole
process, imports included. Memory is the highest resident set of it and its children together (proportional, every 20 ms, and the
process's own peak); `file_ops` are system calls that name a file or make one durable (strace; None without it), `files` those of the run
directory that the step adds. A step is linear where ten times the problems cost at most 13 times the processor time (start left out; the
smallest size three times, its median).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tests.bench import scale_run
from tests.bench.bench_merge import _children, _proportional
from tests.bench.frame import Measure, Skipped

SIZES = (10_000, 100_000, 1_000_000)
MOST_MIB = 512
PER_MILLION_S = {
    "advance": 60
}  # goals of single steps, in seconds for a million problems; the others are to be linear
LINEAR, ROUNDS = 13.0, 3
STRACE = shutil.which("strace")
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "0",
    "HF_TOKEN": "hf_" + "scale",
    "COLUMNS": "120",
    "HF_HUB_DISABLE_XET": "1",
}

HEAD = """
import sys
from pathlib import Path
root, iteration = Path(sys.argv[1]), int(sys.argv[2])
from undo_hpc.pipeline.run import open_run
run = open_run(root)
"""
STAGE = (
    HEAD
    + """
import importlib
from tests.stages.build import context
from undo_hpc.storage.lease import Lease
with Lease(root / 'bench.lease', 'bench') as lease:
    importlib.import_module(f'undo_hpc.stages.{sys.argv[3]}').run_stage(context(run, sys.argv[3], lease, 0, iteration))
"""
)
STEPS: dict[str, tuple[str, ...]] = {
    "prepare": ("-c", HEAD + "from undo_hpc.stages.prepare import prepare; prepare(run)", "{root}", "0"),
    "plan": ("-c", HEAD + "from undo_hpc.control.planning import make_plan; make_plan(run, iteration)", "{root}", "0"),
    "merge": ("-c", STAGE, "{root}", "0", "merge"),
    "advance": ("-c", STAGE, "{root}", "0", "advance"),
    "push": ("-m", "undo_hpc.cli", "push", "{root}"),
    "targets": ("-c", HEAD + "from undo_hpc.control.planning import make_plan; make_plan(run, iteration)", "{root}", "1"),
    "status": ("-m", "undo_hpc.cli", "status", "{root}"),
    "cost": ("-m", "undo_hpc.cli", "cost", "{root}"),
    "report": ("-m", "undo_hpc.cli", "report", "{root}"),
    "regrade": ("-m", "undo_hpc.cli", "regrade", "{root}"),
}  # fmt: skip
START = ("-c", "import undo_hpc.worker, undo_hpc.control.position")


def step(command: tuple[str, ...], *, traced: bool = True, **sets: str) -> dict[str, Any]:
    """Runs one step in a process; what it took.

    Args:
        traced: count its calls (where there is strace, whose own processor time then counts too).
    """
    traced = traced and STRACE is not None
    with tempfile.NamedTemporaryFile() as counted:
        full = [sys.executable, *(part.format(**sets) if "\n" not in part else part for part in command)]
        if traced and STRACE:
            calls = "trace=%file,fsync,fdatasync,getdents64,renameat2"
            full = [STRACE, "-f", "-c", "--seccomp-bpf", "-e", calls, "-o", counted.name, *full]
        before, began, most = os.times(), time.perf_counter(), 0.0
        with subprocess.Popen(
            full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process:
            os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]
            while process.poll() is None:
                most = max(most, sum(map(_proportional, _tree(process.pid, skip=traced))))
                time.sleep(0.02)
            said = process.stdout.read() + process.stderr.read()  # type: ignore[union-attr]
        took, after = time.perf_counter() - began, os.times()
        if process.returncode:
            raise RuntimeError(f"{command[:2]} ended with {process.returncode}: {said.decode()[-800:]}")
        found = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)", Path(counted.name).read_text(), re.MULTILINE)
    return {
        "s": round(took, 3),
        "cpu_s": round(sum(after[2:4]) - sum(before[2:4]), 3),
        "mib": round(most, 1),
        "file_ops": sum(map(int, found[:-1])) if traced else None,
    }


def _tree(pid: int, *, skip: bool) -> list[int]:
    found, open_ones = [], [pid]
    while open_ones:
        one = open_ones.pop()
        found.append(one)
        open_ones += _children(one)
    return found[1:] if skip else found


def files_of(root: Path) -> int:
    """Files of a run directory."""
    return sum(len(names) for _, _, names in os.walk(root))


def one_size(
    folder: Path, count: int, names: Collection[str] = tuple(STEPS)
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All steps on one run, in their order, with the work of the stages between them; what each took, or `failed`: why it has no figures.

    Args:
        names: steps to take; a step needs those before it, and `status` to `regrade` may be left out.
    """
    from tests.hub.server import HubServer

    source, root = folder / "problems.jsonl", folder / "run"
    scale_run.write_source(source, count)
    run = scale_run.make_run(root, source, count)
    yield "start", step(START)
    between = {
        "merge": [lambda: scale_run.generated(run, 0)],
        "advance": [lambda: scale_run.trained(run, 0), lambda: scale_run.evaluated(run, 0)],
    }
    with HubServer() as server:
        server.tokens["hf_" + "scale"] = "write"
        ENVIRONMENT["HF_ENDPOINT"] = server.url
        for name, command in STEPS.items():
            if name not in names:
                continue
            for work in between.get(name, ()):
                work()
            if name == "report" and "targets" in names:
                scale_run.trained(run, 1)
                scale_run.evaluated(run, 1)
                second, first = run.layout.iteration(1), run.layout.iteration(0)
                os.link(first.feedback, second.feedback)
                scale_run.touch_metrics(run, 1)
            before = files_of(root)
            try:
                found = step(command, root=str(root))
            except RuntimeError as error:
                yield name, {"failed": str(error)}
                continue
            found["files"] = files_of(root) - before
            server.lfs.clear()
            if name == "report":
                found["page_kb"] = run.layout.report_page.stat().st_size // 1000
            if name == "status":
                found["untraced"] = step(command, traced=False, root=str(root))
            yield name, found


def measures(
    sizes: tuple[int, ...] = (), names: Collection[str] = tuple(STEPS)
) -> Iterator[Measure | Skipped]:
    """Memory of each step, its time a million problems, and whether it is linear; each row as soon as it is known."""
    most = int(os.environ.get("UNDO_SCALE", "100000"))
    sizes = sizes or tuple(size for size in SIZES if size <= most)
    if STRACE is None:
        yield Skipped("P14-file-operations", "strace is not installed: metadata operations are not counted")
    before: dict[str, dict[str, Any]] = {}
    for number, count in enumerate(sizes):
        now: dict[str, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory(dir="build") as folder:
            first = not number and len(sizes) > 1
            for name, found in _several(count, names) if first else one_size(Path(folder), count, names):
                now[name] = found
                if name != "start":
                    yield from _of_size(name, count, found)
                    if number:
                        yield from _growth(name, sizes[number - 1], count, before, now)
        before = now


def _several(count: int, names: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The smallest size several times, each step with its median processor time: others are divided by it, and half a second is soon a
    tenth wrong."""
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir="build") as folder:
            rounds.append(dict(one_size(Path(folder), count, names)))
    for name in rounds[0]:
        failed = [one[name] for one in rounds if "failed" in one[name]]
        yield name, failed[0] if failed else sorted((one[name] for one in rounds), key=_cpu_s)[ROUNDS // 2]


def _cpu_s(found: dict[str, Any]) -> float:
    return float(found["cpu_s"])


def _of_size(name: str, count: int, found: dict[str, Any]) -> Iterator[Measure | Skipped]:
    """What a step took at one size."""
    if "failed" in found:
        yield Skipped(f"P14-{name}-memory-{count}", found["failed"][-400:], broke=True)
        return
    extra = {key: found[key] for key in ("s", "cpu_s", "files", "file_ops")}
    what = f"{name} of {count:,} problems"
    yield Measure(f"P14-{name}-memory-{count}", what, found["mib"], None, f"<={MOST_MIB}", "MiB", "", extra)
    if name == "status":
        figures = found["untraced"]
        note = f"whole command, imports included; {figures['s']} s of wall time"
        what = "status, processor time"
        yield Measure(f"P14-status-time-{count}", what, figures["cpu_s"], None, "<=0.5", "CPU-s", note)
    if name == "report":
        what = "the report's page, of which no part grows with the problems"
        yield Measure(f"P14-report-page-{count}", what, found["page_kb"], None, "<=2000", "kB")


def _growth(
    name: str, small: int, large: int, before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]
) -> Iterator[Measure | Skipped]:
    """How a step's processor time grew from one size to the next."""
    if "failed" in now[name] or "failed" in before.get(name, {"failed": ""}):
        yield Skipped(f"P14-{name}-linear-{large}", "it has no figures at one of the sizes", broke=True)
        return
    grown = [max(0.05, at[name]["cpu_s"] - at["start"]["cpu_s"]) for at in (before, now)]
    if name in PER_MILLION_S:
        each = (now[name]["cpu_s"] - before[name]["cpu_s"]) * 1e6 / (large - small)
        what = f"{name}: processor time of a million more problems, by {small:,} and {large:,}"
        yield Measure(f"P14-{name}-time-{large}", what, each, None, f"<={PER_MILLION_S[name]}", "CPU-s")
    what = f"{name}: processor time at {large:,} problems over that at {small:,}"
    goal = f"<={LINEAR * large / small / 10:g}"
    note = json.dumps({"cpu_s": grown})
    yield Measure(f"P14-{name}-linear-{large}", what, grown[1], grown[0], goal, "CPU-s", note)


if __name__ == "__main__":  # sizes, and steps where not all are wanted: 1000000 prepare plan
    words = sys.argv[1:]
    chosen = [word for word in words if word in STEPS] or list(STEPS)
    for item in measures(tuple(int(word) for word in words if word not in STEPS), chosen):
        print(json.dumps(item.to_dict()), flush=True)
