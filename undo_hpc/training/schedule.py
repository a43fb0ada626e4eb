"""The learning rate of each step. A pure function, so a resume has nothing to restore."""

from __future__ import annotations

import math

from undo_hpc.config.train import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The rate of step `step` of `total`: a linear rise over the warm-up, then the schedule's shape down to its floor."""
    warmup = round(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[
        config.schedule
    ]
    floor = config.min_learning_rate_ratio
    return config.learning_rate * (floor + (1.0 - floor) * shape)
