"""Train, diagnosis and validation: disjoint by normalised text, and the same for the same problems and seed.

A problem's place follows from a hash of the seed and its text alone, so neither the order of the rows nor the machine matters.
Validation is taken first: with one seed it stays the same when the size of the diagnosis split changes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, groupby
from operator import itemgetter

from undo_hpc.config.schema import DataConfig
from undo_hpc.data.many_ids import PARTS
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
    order, begins = _in_order_of_draw(problems, seed)
    number = begins.count(1)
    validation = _size("validation", config.validation, number)
    diagnosis = _size("diagnosis", config.diagnosis, number)
    if validation + diagnosis >= number:
        raise DataError(
            f"{number} different problems are too few for {validation} to validate, {diagnosis} to diagnose and at least 1 to train",
            hint="give more problems, or set data.validation and data.diagnosis lower",
        )
    bounds = [_place_of(begins, group) for group in (0, validation, validation + diagnosis, number)]

    def part(k: int) -> Sequence[Problem]:
        chosen = order[bounds[k] : bounds[k + 1]]
        if isinstance(problems, Selected):  # in the order of idx already
            wanted = bytearray(len(problems))
            for number in chosen:
                wanted[number] = 1
            return select(problems, compress(range(len(wanted)), wanted))
        mine = select(problems, chosen)
        keys = [(problem.idx, problem.problem_id) for problem in mine]
        return select(mine, sorted(range(len(keys)), key=keys.__getitem__))

    return Splits(train=part(2), diagnosis=part(1), validation=part(0))


def _in_order_of_draw(problems: Sequence[Problem], seed: int) -> tuple[array[int], bytearray]:
    """The numbers of all problems by their draw, and for each 1 where its draw differs from that of the one before.

    Sorted by the first eight bytes, a part after the other, so that no object is held for each; draws that are alike in these (of one text,
    as good as always) are drawn once more and compared whole.
    """
    keys = [array("Q") for _ in range(PARTS)]
    numbers = [array("I") for _ in range(PARTS)]
    for number, problem in enumerate(problems):
        draw = _draw(problem, seed)
        keys[draw[0]].append(int.from_bytes(draw[:8], "big"))
        numbers[draw[0]].append(number)
    order, begins = array("I"), bytearray()
    for part in range(PARTS):
        mine = sorted(zip(keys[part], numbers[part], strict=True))
        keys[part] = numbers[part] = array("I")
        for _, alike in groupby(mine, itemgetter(0)):
            same = [number for _, number in alike]
            whole = [b""] if len(same) == 1 else [_draw(problems[number], seed) for number in same]
            last = None
            for draw, number in sorted(zip(whole, same, strict=True)):
                order.append(number)
                begins.append(draw != last)
                last = draw
    return order, begins


def _place_of(begins: bytearray, group: int) -> int:
    """Where a group begins, counted from 0; the end, where there are fewer."""
    place = -1
    for _ in range(group + 1):
        place = begins.find(1, place + 1)
        if place < 0:
            return len(begins)
    return place


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
