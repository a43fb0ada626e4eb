"""Many problems on their way through prepare: in memory while they are few, else in an unnamed temporary file (in TMPDIR).

A million problems with worked solutions take about 700 MB as text and twice that as objects; here they take 8 bytes each (16 where they came
out of order).
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import orjson

from undo_hpc.records import Problem
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.storage.shards import encode_row

IN_MEMORY = 20_000  # problems


class Selected(Sequence[Problem]):
    """Some problems of a file, by their places in it; each is read when it is asked for."""

    def __init__(self, file: _File, places: array[int]) -> None:
        self.file, self.places = file, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Problem: ...

    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...

    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        found = self.places[index]
        return self.file.read(found) if isinstance(found, int) else list(map(self.file.read, found))


class _File:
    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as its problems are wanted)
        self._end = 0

    def append(self, problem: Problem) -> int:
        """Adds a problem; returns its place."""
        line, place = encode_row(problem.to_dict()), self._end
        with translate_os_error(Path(tempfile.gettempdir())):
            self._file.seek(place)
            self._file.write(line)
        self._end += len(line)
        return place

    def read(self, place: int) -> Problem:
        """The problem at a place."""
        self._file.seek(place)
        return Problem.from_dict(orjson.loads(self._file.readline()))


class ProblemStore:
    """Takes problems in, in any order, and gives them back in the order of idx."""

    def __init__(self) -> None:
        self._few: list[Problem] = []
        self._many: Selected | None = None
        self._idx: array[int] | None = None  # of each, once one came out of order
        self._last = -1

    def __len__(self) -> int:
        return len(self._few if self._many is None else self._many)

    def append(self, problem: Problem) -> None:
        """Adds a problem. Raises StorageError where the temporary file cannot be written."""
        if self._idx is None and problem.idx < self._last:
            self._idx = array("q", (self[number].idx for number in range(len(self))))
        if self._idx is not None:
            self._idx.append(problem.idx)
        self._last = problem.idx
        if self._many is None and len(self._few) < IN_MEMORY:
            self._few.append(problem)
            return
        if self._many is None:
            self._many = Selected(_File(), array("q"))
            self._many.places.extend(map(self._many.file.append, self._few))
            self._few = []
        self._many.places.append(self._many.file.append(problem))

    def __getitem__(self, number: int) -> Problem:
        """The problem that was added as this one, counted from 0."""
        return self._few[number] if self._many is None else self._many[number]

    def in_order(self) -> Sequence[Problem]:
        """All problems by idx."""
        everything = self._few if self._many is None else self._many
        return everything if self._idx is None else select(everything, sorted_numbers(self._idx))


def sorted_numbers(keys: array[Any]) -> Iterable[int]:
    """`sorted(range(len(keys)), key=keys.__getitem__)`; of many without an object for each."""
    if len(keys) < IN_MEMORY:
        return sorted(range(len(keys)), key=keys.__getitem__)
    from numpy import argsort, frombuffer

    return map(int, argsort(frombuffer(keys, keys.typecode), kind="stable"))


def select(problems: Sequence[Problem], numbers: Iterable[int]) -> Sequence[Problem]:
    """The problems with these numbers, in that order: a list of a list, another part of the file of a file."""
    if isinstance(problems, Selected):
        return Selected(problems.file, array("q", map(problems.places.__getitem__, numbers)))
    return [problems[number] for number in numbers]
