"""Train, diagnosis and validation: disjoint by normalised text, and the same for the same problems and seed.

A problem's place follows from a hash of the seed and its text alone, so neither the order of the rows nor the machine matters.
Validation is taken first: with one seed it stays the same when the size of the diagnosis split changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from undo_hpc.config.schema import DataConfig
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.records import Problem, content_id


@dataclass(frozen=True)
class Splits:
    """The three disjoint splits, each in the order of the source."""

    train: list[Problem]
    diagnosis: list[Problem]
    validation: list[Problem]


def split_problems(problems: Sequence[Problem], config: DataConfig, seed: int) -> Splits:
    """Divides problems by `config.diagnosis` and `config.validation`, each a number (from 1) or a share (below 1).

    A share above 0 gives at least one problem. Problems with the same normalised text stay together.

    Raises:
        ConfigError: a size is neither a whole number nor a share below 1.
        DataError: too few problems for the wanted sizes; at least one must be left to train on.
    """
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(content_id(problem.problem), []).append(problem)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"split:{seed}:{key}".encode()).digest())
    validation = _size("validation", config.validation, len(order))
    diagnosis = _size("diagnosis", config.diagnosis, len(order))
    if validation + diagnosis >= len(order):
        raise DataError(
            f"{len(order)} different problems are too few for {validation} to validate, {diagnosis} to diagnose and at least 1 to train",
            hint="give more problems, or set data.validation and data.diagnosis lower",
        )
    bounds = (0, validation, validation + diagnosis, len(order))

    def part(number: int) -> list[Problem]:
        keys = order[bounds[number] : bounds[number + 1]]
        return sorted((p for key in keys for p in groups[key]), key=lambda p: (p.idx, p.problem_id))

    return Splits(train=part(2), diagnosis=part(1), validation=part(0))


def _size(name: str, wanted: int | float, total: int) -> int:
    if 0 < wanted < 1:
        return max(1, round(total * wanted))
    if wanted != int(wanted):
        raise ConfigError(
            f"data.{name} is {wanted}", hint="give a whole number of problems, or a share below 1"
        )
    return int(wanted)
