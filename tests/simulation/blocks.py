"""Simulations on all cores, in blocks of seeds."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.campaign import Outcome, simulate

BLOCK = 20  # seeds that a process takes at a time


def outcomes_of(template: Path, seeds: range) -> tuple[list[Outcome], float]:
    """The outcomes of a block, and the seconds of a core that they took."""
    began = time.process_time()
    return [simulate(seed, template) for seed in seeds], time.process_time() - began


def on_all_cores(template: Path, first: int, count: int) -> Iterator[tuple[list[Outcome], float]]:
    """All blocks, in order."""
    blocks = [range(k, min(k + BLOCK, first + count)) for k in range(first, first + count, BLOCK)]
    cores = min(len(os.sched_getaffinity(0)), len(blocks))
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(outcomes_of, [template] * len(blocks), blocks)
