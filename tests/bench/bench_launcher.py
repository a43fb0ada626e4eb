"""P1: the launcher's --help against `import torch`, both warm, whole processes, in turn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.frame import Measure, in_turn

LAUNCHER = Path(__file__).resolve().parents[2] / "launchers" / "run_iteration.py"


def wall(*command: str) -> float:
    """Seconds of a whole process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measures() -> Iterator[Measure]:
    """Warm both, then time them in turn."""

    def ours() -> float:
        return wall(str(LAUNCHER), "--help")

    def other() -> float:
        return wall("-c", "import torch")

    ours(), other()
    mine, theirs = in_turn(ours, other, repeats=7)
    yield Measure("P1", "launcher --help against import torch", mine, theirs, "<=0.10", "s")
