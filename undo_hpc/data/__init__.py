"""Problems from files, the Hub or the tiny world: read, checked, split, and compared with the benchmarks."""

from undo_hpc.data.loading import LoadedProblems, Rejected, kind_of, load_problems
from undo_hpc.data.overlap import Overlap, contamination
from undo_hpc.data.splits import Splits, split_problems

__all__ = [
    "LoadedProblems",
    "Overlap",
    "Rejected",
    "Splits",
    "contamination",
    "kind_of",
    "load_problems",
    "split_problems",
]
