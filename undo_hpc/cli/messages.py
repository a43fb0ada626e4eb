"""What the launcher says of a run, on this machine and on a cluster alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from undo_hpc.plan import IterationPlan
from undo_hpc.run import Run
from undo_hpc.workload import Workload

if TYPE_CHECKING:
    from rich.console import Console


def show_prepared(run: Run, counts: Mapping[str, int], console: Console) -> None:
    """Says into what the problems were split, and how many rows were left out."""
    kept = ", ".join(f"{counts[name]:,} {name}" for name in ("train", "validation", "diagnosis"))
    left = f"; {counts['rejected']:,} row{'s'[: counts['rejected'] != 1]} not used, see {run.layout.rejected}" if counts["rejected"] else ""
    console.print(f"problems: {kept}{left}", highlight=False, markup=False, soft_wrap=True)


def show_workload(plan: IterationPlan, console: Console) -> None:
    """Says what the teacher is expected to read and write."""
    if plan.problems and plan.workload:
        expected = Workload(**plan.workload).in_words(plan.shards)
        console.print(f"  {expected}", highlight=False, markup=False, soft_wrap=True)
