"""Contamination: training problems whose text stands in a benchmark, wholly or by a run of words. Time linear in the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from undo_hpc.records import Problem, normalise_text

_EDGES = ".,;:!?\"'`()[]{}$*_\u2018\u2019\u201c\u201d"


class NamedProblems(Protocol):
    """What a benchmark is here: a name and its problems."""

    @property
    def name(self) -> str: ...

    @property
    def problems(self) -> Sequence[Problem]: ...


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training problem that stands in a benchmark: the whole normalised text, or a run of `ngram` words."""

    problem_id: str
    benchmark: str
    benchmark_problem_id: str
    kind: Literal["exact", "ngram"]


def contamination(train: Iterable[Problem], benchmarks: Iterable[NamedProblems], ngram: int) -> list[Overlap]:
    """Training problems that overlap with a benchmark.

    Words are what white space parts in the normalised text, without punctuation at their ends (signs inside, as in x+3, count);
    13 of them in a row is the measure of Brown et al., 2020 (arXiv 2005.14165, appendix C). A run that several problems of a benchmark share names the first of
    them, so the work and the list stay linear. A problem shorter than `ngram` words is compared as a whole only.

    Returns:
        For each training problem and benchmark, the exact overlap where there is one, else each problem that shares a run.
    """
    exact: dict[str, dict[str, str]] = {}
    runs: dict[tuple[str, ...], dict[str, str]] = {}
    for benchmark in benchmarks:
        for problem in benchmark.problems:
            text = normalise_text(problem.problem)
            exact.setdefault(text, {}).setdefault(benchmark.name, problem.problem_id)
            for run in _runs(_words(text), ngram):
                runs.setdefault(run, {}).setdefault(benchmark.name, problem.problem_id)
    found: list[Overlap] = []
    for problem in train if exact else ():
        text = normalise_text(problem.problem)
        whole = exact.get(text, {})
        found += [Overlap(problem.problem_id, name, other, "exact") for name, other in whole.items()]
        shared = (item for run in _runs(_words(text), ngram) if run in runs for item in runs[run].items())
        found += [
            Overlap(problem.problem_id, name, other, "ngram")
            for name, other in dict.fromkeys(shared)
            if name not in whole
        ]
    return found


def _words(text: str) -> list[str]:
    return [word for part in text.split() if (word := part.strip(_EDGES))]


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    if length > len(words):
        return iter(())
    return zip(*(words[start:] for start in range(length)), strict=False)
