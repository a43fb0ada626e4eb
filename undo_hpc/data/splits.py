"""Train, diagnosis and validation: disjoint by normalised text, and the same for the same problems and seed.

A problem's place follows from a hash of the seed and its text alone, so neither the order of the rows nor the machine matters.
Validation is taken first: with one seed it stays the same when the size of the diagnosis split changes.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from undo_hpc.config.schema import DataConfig
from undo_hpc.data.problem_file import Selected, select
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.records import Problem, content_id


@dataclass(frozen=True)
class Splits:
    """The three disjoint splits, each in the order of the source."""

    train: Sequence[Problem]
    diagnosis: Sequence[Problem]
    validation: Sequence[Problem]


def split_problems(problems: Sequence[Problem], config: DataConfig, seed: int) -> Splits:
    """Divides problems by `config.diagnosis` and `config.validation`, each a number (from 1) or a share (below 1).

    A share above 0 gives at least one problem. Problems with the same normalised text stay together.

    Raises:
        ConfigError: a size is neither a whole number nor a share below 1.
        DataError: too few problems for the wanted sizes; at least one must be left to train on.
    """
    drawn = [_draw(problem, seed) for problem in problems]
    order = sorted(range(len(drawn)), key=drawn.__getitem__)
    groups = array("l", accumulate((drawn[k] != drawn[j] for j, k in pairwise(order)), initial=0))
    number = 1 + groups[-1] if order else 0
    validation = _size("validation", config.validation, number)
    diagnosis = _size("diagnosis", config.diagnosis, number)
    if validation + diagnosis >= number:
        raise DataError(
            f"{number} different problems are too few for {validation} to validate, {diagnosis} to diagnose and at least 1 to train",
            hint="give more problems, or set data.validation and data.diagnosis lower",
        )
    bounds = [bisect_left(groups, group) for group in (0, validation, validation + diagnosis, number)]

    def part(k: int) -> Sequence[Problem]:
        chosen = order[bounds[k] : bounds[k + 1]]
        if isinstance(problems, Selected):  # in the order of idx already
            return select(problems, sorted(chosen))
        mine = select(problems, chosen)
        keys = [(problem.idx, problem.problem_id) for problem in mine]
        return select(mine, sorted(range(len(keys)), key=keys.__getitem__))

    return Splits(train=part(2), diagnosis=part(1), validation=part(0))


def _draw(problem: Problem, seed: int) -> bytes:
    """What decides a problem's place."""
    return hashlib.sha256(f"split:{seed}:{content_id(problem.problem)}".encode()).digest()


def _size(name: str, wanted: int | float, total: int) -> int:
    if 0 < wanted < 1:
        return max(1, round(total * wanted))
    if wanted != int(wanted):
        raise ConfigError(
            f"data.{name} is {wanted}", hint="give a whole number of problems, or a share below 1"
        )
    return int(wanted)
