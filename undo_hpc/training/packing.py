"""Which examples meet in which step, and how they share micro-batches. Pure functions of lengths, seed and epoch.

A step is a run of the epoch's shuffled order, cut by a token budget. It knows nothing of ranks or micro-batches: those only
spread the step's work, so another number of GPUs or another micro-batch size trains the same model up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from undo_hpc.method.metrics import NOT_REACHED

Bin = list[int]


def epoch_order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of examples in an epoch: a permutation of range(count), a function of (seed, epoch) alone."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)


def cut_steps(lengths: npt.NDArray[np.int64], budget: int) -> npt.NDArray[np.int64]:
    """Where steps begin in an ordered list of lengths: each holds at most `budget` tokens, or one longer example.

    Returns the offsets of all steps and the end, so step i is the slice [cuts[i], cuts[i + 1]).
    """
    ends = np.cumsum(lengths)
    cuts, done = [0], 0
    while cuts[-1] < len(lengths):
        cut = int(np.searchsorted(ends, done + budget, side="right"))
        cuts.append(max(cut, cuts[-1] + 1))
        done = int(ends[cuts[-1] - 1])
    return np.asarray(cuts, dtype=np.int64)


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[Bin]:
    """Packs items into few bins: longest first, each into the fullest bin that still has room.

    An item longer than `capacity` gets a bin of its own. Bins hold indices into `lengths`. O(n * bins), for one step's items.
    """
    bins: list[Bin] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [b for b, free in enumerate(room) if free >= lengths[index]]
        if fitting:
            best = min(fitting, key=lambda b: (room[b], b))
            bins[best].append(index)
            room[best] -= lengths[index]
        else:
            bins.append([index])
            room.append(capacity - lengths[index])
    return bins


def spread(lengths: Sequence[int], count: int) -> list[Bin]:
    """Shares items among exactly `count` bins evenly: longest first, each into the emptiest bin."""
    bins: list[Bin] = [[] for _ in range(count)]
    load = [0] * count
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        emptiest = min(range(count), key=lambda b: (load[b], b))
        bins[emptiest].append(index)
        load[emptiest] += lengths[index]
    return bins


def pack(lengths: Sequence[int], capacity: int, ranks: int) -> list[Bin]:
    """The micro-batches of a step: a multiple of `ranks` bins of at most `capacity` tokens (longer items alone).

    As few as best-fit decreasing needs; then evened out where that keeps within the capacity, since the step is as slow as
    its fullest rank. Bins are in falling order of load, so bins [r, r + ranks, ...] of a rank are about equal between ranks.
    Some may be empty: a rank without work still takes part in the step.
    """
    bins = best_fit_decreasing(lengths, capacity)
    count = math.ceil(len(bins) / ranks) * ranks
    even = spread(lengths, count)
    if all(len(b) <= 1 or sum(lengths[i] for i in b) <= capacity for b in even):
        bins = even
    bins += [[] for _ in range(count - len(bins))]
    return sorted(bins, key=lambda b: -sum(lengths[i] for i in b))


def pad_bins(lengths: Sequence[int], capacity: int, ranks: int) -> list[Bin]:
    """Micro-batches for padded rows: similar lengths together, rows x longest <= capacity; a multiple of `ranks` bins."""
    bins: list[Bin] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if bins and lengths[bins[-1][0]] * (len(bins[-1]) + 1) <= capacity:
            bins[-1].append(index)
        else:
            bins.append([index])
    bins += [[] for _ in range(-len(bins) % ranks)]
    return bins


def passes(epochs: float, tokens: int, lengths: npt.NDArray[np.int64]) -> float:
    """Passes over the data: `epochs`, or with a budget of tokens (above 0) as many as it allows, a fraction included."""
    return tokens / max(1, int(lengths.sum())) if tokens else epochs


@dataclass(frozen=True)
class Step:
    """One optimiser step: its number from 0, the epoch as a fraction at its end, and the examples it learns from."""

    number: int
    epoch: float
    examples: npt.NDArray[np.int64]


class StepPlan:
    """All steps of a training. Any step can be asked for by number, so a resume needs no replay.

    Args:
        lengths: tokens of each example, shape (examples,).
        budget: most tokens of a step.
        epochs: passes over the data; a fraction cuts the last pass.
        max_steps: most steps; 0 for no limit.
        seed: the run's training seed.

    Attributes:
        total: number of steps.
        epochs: passes over the data that they make; fewer than asked for where `max_steps` ends them.
    """

    def __init__(
        self, lengths: npt.NDArray[np.int64], *, budget: int, epochs: float, max_steps: int, seed: int
    ) -> None:
        self._lengths, self._budget, self._seed = lengths, budget, seed
        self.epochs = epochs
        self._starts = [0]  # number of the first step of each epoch
        self._epoch_cache: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        total, epoch = 0, 0
        while epoch < epochs and not (max_steps and total >= max_steps):
            steps = len(self._epoch(epoch)[1]) - 1
            total += max(1, round(steps * min(1.0, epochs - epoch)))
            self._starts.append(total)
            epoch += 1
        self.total = min(total, max_steps) if max_steps else total
        if self.total < total or (self.total == max_steps and epoch < epochs):
            self.epochs = min(epochs, self.step(self.total - 1).epoch)

    @property
    def reached(self) -> int:
        """Examples that a step learns from: fewer than all where the steps end within the first pass."""
        return int(self._epoch(0)[1][min(self.total, self._starts[1])])

    def counted(
        self, rows: Mapping[str, Any], problems: npt.NDArray[np.str_], *, own_answers: bool = False
    ) -> dict[str, Any]:
        """The counts of the rows that can be learned from, with what the steps do not reach among those that are left out.

        Args:
            problems: of each example, the problem's id; distinct ones are counted where the distilled set does not tell their number.
            own_answers: examples are not the rows of the distilled set alone.
        """
        missed = rows["rows_learned"] - self.reached
        left_out = rows["rows_left_out"] | ({NOT_REACHED: missed} if missed else {})
        learned = problems[self._epoch(0)[0][: self.reached]]
        distinct = {"problems_learned": len(set(learned.tolist()))} if left_out or own_answers else {}
        return {**rows, "rows_learned": self.reached, "rows_left_out": left_out, **distinct}

    def _epoch(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self._epoch_cache is None or self._epoch_cache[0] != epoch:
            order = epoch_order(len(self._lengths), self._seed, epoch)
            self._epoch_cache = (epoch, order, cut_steps(self._lengths[order], self._budget))
        return self._epoch_cache[1:]

    def step(self, number: int) -> Step:
        """The step of that number. Raises IndexError outside [0, total)."""
        if not 0 <= number < self.total:
            raise IndexError(f"step {number} of {self.total}")
        epoch = int(np.searchsorted(self._starts, number, side="right")) - 1
        order, cuts = self._epoch(epoch)
        within = number - self._starts[epoch]
        return Step(
            number, epoch + float(cuts[within + 1]) / len(order), order[cuts[within] : cuts[within + 1]]
        )

    def steps(self, begin: int = 0) -> Iterator[Step]:
        """The steps from `begin` to the end."""
        for number in range(begin, self.total):
            yield self.step(number)

    def tokens(self) -> int:
        """Tokens of all steps together, prompts included."""
        return sum(int(self._lengths[step.examples].sum()) for step in self.steps())
