"""Energy counters, where this machine lets us read them: NVML for GPUs, RAPL for the CPU package. Joules that only grow."""

from __future__ import annotations

import os
from pathlib import Path

RAPL = Path("/sys/class/powercap")


def joules() -> float | None:
    """The sum of all readable counters, or None where there is none. Differences of two readings mean something, values do not.

    A GPU counts only where NVML's Python binding (`pynvml`) is installed; with GPUs given but not readable the answer is None, for
    half of a sum would be wrong.
    """
    gpus = [g for g in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if g.strip()]
    total = _rapl()
    if not gpus:
        return total
    measured = _nvml(gpus)
    return None if measured is None else measured + (total or 0.0)


def _rapl() -> float | None:
    found = []
    for path in sorted(RAPL.glob("*-rapl:[0-9]/energy_uj")):
        try:
            found.append(int(path.read_text(encoding="utf-8")) / 1e6)
        except (OSError, ValueError):
            return None  # readable by root alone, on most machines
    return sum(found) if found else None


def _nvml(gpus: list[str]) -> float | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(g)) if g.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(g)
            for g in gpus
        ]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(h) for h in handles) / 1000.0
    except pynvml.NVMLError:
        return None
