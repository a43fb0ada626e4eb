"""What the launcher shows of a run, on this machine and on a cluster alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from undo_hpc.config.parts import asks, has_rationales, only_evaluates
from undo_hpc.config.schema import RunConfig
from undo_hpc.observe.dry_run import at_once
from undo_hpc.observe.wording import evaluation_settings, told_rationales
from undo_hpc.pipeline.plan import IterationPlan
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.workload import Workload
from undo_hpc.storage.manifest import Manifest
from undo_hpc.system.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


def show_prepared(run: Run, prepared: Manifest, console: Console) -> None:
    """Says into what the problems were split, and how many rows were left out and why."""
    counts = prepared.counts
    kept = ", ".join(f"{counts[name]:,} {name}" for name in ("train", "validation", "diagnosis"))
    if not only_evaluates(run.config):
        console.print(f"problems: {kept}", highlight=False, markup=False, soft_wrap=True)
    if filtered := prepared.details.get("train_source", {}).get("filtered"):
        verb = "does" if filtered == 1 else "do"
        console.print(
            f"  {counted(filtered, 'row')} {verb} not meet data.train.where",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    reasons = Counter(prepared.details.get("rejected_reasons", {})).most_common()
    if reasons:
        more = f"; {len(reasons) - 5} other reasons" if len(reasons) > 5 else ""
        most = "; ".join(f"{count:,} {reason}" for reason, count in reasons[:5])
        left = counts["rejected"]
        what = f"{counted(left, 'row')} not used" if left else "rows to look at"
        console.print(
            f"  {what} ({most}{more}), see {run.layout.rejected}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if given := prepared.details.get("rationales"):
        console.print(
            f"rationales that exist already: {told_rationales(given)}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        for example in given["examples"]:
            console.print(f"  not used: {example}", highlight=False, markup=False, soft_wrap=True)
    if asks(run.config, "student") and run.config.until != "train":
        console.print(
            f"evaluation: {evaluation_settings(run.config)}", highlight=False, markup=False, soft_wrap=True
        )


def show_workload(config: RunConfig, plan: IterationPlan, console: Console) -> None:
    """Says what the teacher is expected to read and write."""
    given = not plan.iteration and has_rationales(config)
    if plan.problems and plan.workload and not given:
        expected = Workload(**plan.workload).in_words(at_once(config, plan.shards))
        console.print(f"  {expected}", highlight=False, markup=False, soft_wrap=True)
