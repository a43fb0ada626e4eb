"""PURE: how problems are cut into tasks: contiguous shards of about the same length, and slices of the sets that are answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EvaluationSlice:
    """Rows `start` to `stop` of a benchmark or split: one shard of answers."""

    problem_set: str
    shard: int
    start: int
    stop: int


def cut_evenly(lengths: Sequence[int], shards: int) -> list[int]:
    """Where to cut a sequence into contiguous shards that take about equally long: their `shards + 1` bounds.

    A problem is taken to cost the mean length and its own (asking costs something, however short the answer). No shard is
    empty where there are enough problems.
    """
    count = len(lengths)
    each = max(1, sum(lengths) // max(1, count))
    total, passed, bounds = each * count + sum(lengths), 0, [0]
    for number, length in enumerate(lengths, start=1):
        passed += each + length
        left = shards - len(bounds)  # bounds to be set before the last
        if left and (passed * shards >= total * len(bounds) or count - number == left):
            bounds.append(number)
    return bounds + [count] * (shards + 1 - len(bounds))


def slice_sets(sizes: dict[str, int], per_task: int) -> tuple[EvaluationSlice, ...]:
    """Benchmarks and splits cut into even slices of about `per_task` problems."""
    slices = []
    for name, size in sizes.items():
        parts = max(1, math.ceil(size / per_task))
        bounds = [size * k // parts for k in range(parts + 1)]
        slices += [EvaluationSlice(name, k, bounds[k], bounds[k + 1]) for k in range(parts)]
    return tuple(slices)


def pack_slices(slices: Sequence[EvaluationSlice], per_task: int) -> tuple[tuple[EvaluationSlice, ...], ...]:
    """Slices gathered into tasks of at most about `per_task` problems, in order: a model is loaded once for many small sets."""
    tasks: list[list[EvaluationSlice]] = []
    room = 0
    for part in slices:
        size = part.stop - part.start
        if not tasks or size > room:
            tasks.append([])
            room = per_task
        tasks[-1].append(part)
        room -= size
    return tuple(tuple(parts) for parts in tasks)
