"""P17: from the start of a process to its first useful work, stage by stage: what is imported and loaded, in seconds of processor time.

Each step is a process of its own that does what those before it do, and one thing more. Rows and files of a run are left out. A stage that reads
no model must not import torch: its goal is a part of what `import torch` takes, measured in turn with it. `warm` is a copy of a warm process
(`cluster.warm_start`), beside a process of its own.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.frame import Measure

REPEATS = 3
WORKER = "import undo_hpc.worker\n"
ENGINE = "import undo_hpc.stages.{stage}, undo_hpc.engines.transformers_engine\n"
MODEL = """
from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import load_engine
load_engine(EngineConfig(name="transformers"), ModelConfig(model="tiny:{role}", dtype="float32"))
"""
STEPS = {
    "interpreter": "",
    "worker": WORKER,
    "merge": WORKER + "import undo_hpc.stages.merge, pyarrow.parquet\n",
    "advance": WORKER + "import undo_hpc.stages.advance, pyarrow.parquet\n",
    "generate": WORKER + ENGINE.format(stage="generate") + MODEL.format(role="teacher"),
    "evaluate": WORKER + ENGINE.format(stage="evaluate") + MODEL.format(role="student"),
    "train, a rank": "import undo_hpc.training.__main__, undo_hpc.training.loop\n",
}
WITHOUT_TORCH = {"interpreter": 0.1, "worker": 0.5, "merge": 0.75, "advance": 0.75}
WARM = """
import os, time
from undo_hpc import warm
import importlib
for name in (*warm.MODULES, "undo_hpc.training.loop"):
    importlib.import_module(name)
from undo_hpc.system.forking import Forked
before = os.times()
code = Forked(lambda: exec({code!r}) or 0, command=["worker"], env=dict(os.environ)).wait()
assert code == 0, code
after = os.times()
print(sum(after[2:4]) - sum(before[2:4]))
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def cpu_s(code: str) -> float:
    """Processor time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def warm_cpu_s(code: str) -> float:
    """Processor time of a copy of a process that has the imports."""
    done = subprocess.run(
        [sys.executable, "-c", WARM.format(code=code)],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    return float(done.stdout.split()[-1])


def measures() -> Iterator[Measure]:
    """A row for each step; those with a model stand beside their warm start."""
    torch = statistics.median(cpu_s("import torch") for _ in range(REPEATS))
    for name, code in STEPS.items():
        mine = statistics.median(cpu_s(code) for _ in range(REPEATS))
        row = f"P17-{name.split(',')[0]}"
        if name in WITHOUT_TORCH:
            yield Measure(
                row, f"start of {name}, against import torch", mine, torch, f"<={WITHOUT_TORCH[name]}", "s"
            )
        else:
            warm = statistics.median(warm_cpu_s(code) for _ in range(REPEATS))
            yield Measure(
                row, f"warm start of {name}, against a process of its own", warm, mine, "<=0.25", "s"
            )
