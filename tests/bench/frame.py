"""The frame of the benchmarks: one JSON line a measure, all of them in build/bench.json.

A benchmark module `tests/bench/bench_*.py` offers `measures()`. It compares side by side in one run: same data, same work,
threads pinned, repeats in turn, medians. A module whose needs are missing yields a `Skipped` with the reason.
"""

from __future__ import annotations

import json
import operator
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Measure:
    """One figure of ours beside another's. `ratio` is ours / other (or ours alone where there is no other)."""

    id: str
    what: str
    ours: float
    other: float | None
    goal: str
    unit: str = ""
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Ours over the other's; ours itself where nothing stands beside it."""
        return self.ours if self.other is None else self.ours / self.other

    @property
    def holds(self) -> bool:
        """Whether the ratio meets the goal, a text such as '>=4' or '<=0.1'."""
        match = re.fullmatch(r"(>=|<=)\s*([0-9.]+)", self.goal)
        if not match:
            raise ValueError(f"{self.id}: a goal reads like '>=4', not {self.goal!r}")
        return bool(_COMPARE[match[1]](self.ratio, float(match[2])))

    def to_dict(self) -> dict[str, Any]:
        """The measure as its JSON line."""
        row = {
            "id": self.id,
            "what": self.what,
            "ours": self.ours,
            "other": self.other,
            "ratio": round(self.ratio, 4),
            "goal": self.goal,
            "holds": self.holds,
        }
        row.update({key: value for key, value in (("unit", self.unit), ("note", self.note)) if value})
        return row | self.extra


@dataclass(frozen=True)
class Skipped:
    """A measure that cannot be taken here, with the reason. It never counts as held; one that `broke` ends the command with an error."""

    id: str
    reason: str
    broke: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The skip as its JSON line."""
        return {"id": self.id, "skipped": self.reason} | ({"broke": True} if self.broke else {})


UNTIL = "UNDO_BENCH_UNTIL"  # an environment variable: seconds since the epoch at which all is to be done


def seconds_left() -> float:
    """What is left of the time that was set for all benchmarks together; without end where none was set."""
    return float(os.environ.get(UNTIL, "inf")) - time.time()


def in_turn(first: Callable[[], float], second: Callable[[], float], repeats: int = 5) -> tuple[float, float]:
    """Medians of two timings whose repeats alternate, so that a noisy minute hits both."""
    ours, other = [], []
    for _ in range(repeats):
        ours.append(first())
        other.append(second())
    return statistics.median(ours), statistics.median(other)


def told_by(
    module: str, *words: str, patience_s: float, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The figures of a contestant, which runs as a program of its own and ends with a line of JSON; why it has none, under `failed`.

    What it printed beside stands under `printed`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=patience_s,
            env=os.environ | (env or {}),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {patience_s:.0f} s"}
    lines = done.stdout.splitlines()
    rows = [line for line in lines if line.startswith("{")]  # vLLM prints there, too
    if done.returncode or not rows:
        print(
            f"{' '.join(words)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", file=sys.stderr, flush=True
        )
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    told: dict[str, Any] = json.loads(rows[-1])
    return told | {"printed": "\n".join([*lines, done.stderr])}
