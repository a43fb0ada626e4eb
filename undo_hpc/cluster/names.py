"""PURE: names of jobs and index arithmetic of arrays.

A job's name carries everything that is needed to recognise it in a bare `squeue`, whatever a site does to comments:
stage, iteration, run tag, attempt, index offset, tasks per element, and a nonce that makes each submission unique.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_NAME = re.compile(
    r"^(?P<stage>[a-z][a-z0-9_]*)-i(?P<iteration>\d+)-undo-(?P<tag>[0-9a-f]{8})"
    r"-a(?P<attempt>\d+)-o(?P<offset>\d+)-g(?P<group>\d+)-(?P<nonce>[0-9a-f]{8})$"
)


@dataclass(frozen=True, slots=True)
class JobName:
    """What a job's name says."""

    stage: str
    iteration: int
    tag: str
    attempt: int
    offset: int
    group: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.stage}-i{self.iteration}-undo-{self.tag}-a{self.attempt}-o{self.offset}-g{self.group}-{self.nonce}"

    def element_of(self, index: int) -> int:
        """The element of the array that runs a task (see ArrayPart)."""
        return index // self.group - self.offset if self.group else index % self.offset

    @classmethod
    def parse(cls, name: str) -> JobName | None:
        """The parts of a name, or None where it is not ours."""
        found = _NAME.match(name)
        if found is None:
            return None
        texts = found.groupdict()
        numbers = {key: int(texts[key]) for key in ("iteration", "attempt", "offset", "group")}
        return cls(stage=texts["stage"], tag=texts["tag"], nonce=texts["nonce"], **numbers)


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """One sbatch of an array: element A runs the tasks (A + offset) * group and the group - 1 behind it.

    A group of 0 was submitted ahead of its plan: element A runs the tasks A, A + offset, A + 2 * offset, ... as far as there are any.
    """

    elements: tuple[int, ...]
    offset: int
    group: int

    def indices(self, total: int) -> tuple[int, ...]:
        """The task indices that it runs, those below `total` where that is known (not 0); of a group of 0, the first of each element."""
        if self.group == 0:
            return self.elements
        firsts = ((element + self.offset) * self.group for element in self.elements)
        return tuple(
            index
            for first in firsts
            for index in range(first, first + self.group)
            if total == 0 or index < total
        )


def split_array(indices: Sequence[int], max_array_size: int, max_parts: int) -> list[ArrayPart]:
    """Cuts task indices into at most `max_parts` arrays that a cluster accepts.

    An element number must be below `max_array_size`, hence the offsets. Where the indices would need more parts than
    allowed, an element runs several neighbouring tasks one after another.
    """
    if not indices:
        return []
    group = 1
    while len({index // group // max_array_size for index in indices}) > max_parts:
        group += 1
    elements = sorted({index // group for index in indices})
    parts: dict[int, list[int]] = {}
    for element in elements:
        parts.setdefault(element // max_array_size, []).append(element)
    return [
        ArrayPart(tuple(e - block * max_array_size for e in members), block * max_array_size, group)
        for block, members in sorted(parts.items())
    ]


def array_ahead(tasks: int, max_array_size: int) -> ArrayPart:
    """One array for a stage whose plan does not exist yet, with as many elements as tasks are expected and a cluster accepts."""
    count = min(tasks, max_array_size)
    return ArrayPart(tuple(range(count)), count, 0)


def array_spec(elements: Sequence[int], parallelism: int) -> str:
    """sbatch's notation of an array: ranges for neighbours, `%` for the number at once."""
    shown = [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges(elements)]
    return ",".join(shown) + (f"%{parallelism}" if parallelism < len(elements) else "")


def ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring numbers together, as (first, last)."""
    start = end = None
    for number in sorted(numbers):
        if start is None or end is None:
            start = end = number
        elif number == end + 1:
            end = number
        else:
            yield start, end
            start = end = number
    if start is not None and end is not None:
        yield start, end
