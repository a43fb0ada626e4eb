"""Compares runs on the same items: the difference of each later group from the first, its interval and tests, and what each used.

Runs that differ only in their seed are one group. The test set that all share is taken, or the one named by --benchmark.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import nonempty, path_argument

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.pipeline.run import Run

EXAMPLE = """examples:
  undo-hpc compare checkpoints/undo checkpoints/one_shot
  undo-hpc compare checkpoints/camp/blind/* checkpoints/camp/undo/* --benchmark gsm8k --page compare.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "run_dirs",
        type=path_argument,
        nargs="+",
        metavar="RUN",
        help="run directories; the first is what the others are compared with",
    )
    parser.add_argument(
        "--benchmark", type=nonempty, help="the test set (default: the one that all runs share)"
    )
    parser.add_argument(
        "--student",
        choices=("best", "last"),
        default="best",
        help="of which iteration (default: the one that validation chose)",
    )
    parser.add_argument("--page", type=path_argument, metavar="FILE", help="also write a page there")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints a sentence a comparison and the ledger; writes the page where it is asked for."""
    import time

    from rich.table import Table

    from undo_hpc.campaign.answers import read_result
    from undo_hpc.campaign.comparison import mean_ledger
    from undo_hpc.campaign.page import gather, page
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.storage.atomic import write_text
    from undo_hpc.system.ownership import require_own_way

    if arguments.page:
        require_own_way(arguments.page)

    groups = group_runs([open_run(path) for path in arguments.run_dirs])
    if len(groups) < 2:
        raise ConfigError(
            "there is one group of runs, and nothing to compare it with",
            hint="name runs that differ in more than their seed",
        )
    name = arguments.benchmark or shared_benchmark([r for runs in groups.values() for r in runs.values()])
    results, pending = {}, []
    for label, runs in groups.items():
        found = {seed: read_result(one, name, arguments.student) for seed, one in runs.items()}
        results[label] = {seed: result for seed, result in found.items() if result is not None}
        pending += [str(runs[seed].layout.root) for seed, result in found.items() if result is None]
    first, *others = groups
    data = gather(
        " and ".join(groups),
        results,
        [(other, first) for other in others],
        problem_set=name,
        student=arguments.student,
        pending=pending,
    )
    for path in pending:
        console.print(f"{path} has not ended; it is left out", highlight=False, soft_wrap=True)
    apart = [
        other
        for other in others
        if results[other] and results[first] and not results[other].keys() & results[first].keys()
    ]
    alone = [f"{other} and {first} have no seed in common: no difference is told" for other in apart]
    for text in [*(c.sentence for c in data.comparisons), *alone, *data.notes]:
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    table = Table(title=f"{name}, and what each used (means over seeds)", title_justify="left")
    for column in (
        "runs",
        "accuracy %",
        "teacher tokens",
        "student tokens",
        "distinct problems",
        "tokens a rationale",
    ):
        table.add_column(column, justify="left" if column == "runs" else "right")
    for label, by_seed in results.items():
        if by_seed:
            used = mean_ledger([r.ledger for r in by_seed.values()])
            mean = sum(r.accuracy for r in by_seed.values()) / len(by_seed)
            figures = [f"{used[key]:,.0f}" for key in ("teacher_tokens", "student_tokens", "problems")]
            table.add_row(label, f"{100 * mean:.1f}", *figures, f"{used['rationale_tokens']:.1f}")
    console.print(table)
    if arguments.page:
        write_text(arguments.page, page(data, time.strftime("%Y-%m-%d %H:%M %Z")))
        console.print(str(arguments.page), highlight=False, soft_wrap=True)
    return 0


def group_runs(runs: list[Run]) -> dict[str, dict[int, Run]]:
    """Runs by what they were asked but for the seed, in the order given: name -> seed -> run.

    Raises:
        ConfigError: a run is named twice, or two runs of a group have the same seed.
    """
    from undo_hpc.campaign.definition import tells_runs_apart
    from undo_hpc.campaign.state import CampaignDir
    from undo_hpc.errors import ConfigError
    from undo_hpc.pipeline.own_prompts import by_content
    from undo_hpc.pipeline.run import leaves

    groups: dict[str, dict[int, Run]] = {}
    labels: dict[str, str] = {}
    for one in runs:
        root = one.layout.root
        values = [
            (k, v) for k, v in by_content(leaves(one.config.model_dump(mode="json"))) if tells_runs_apart(k)
        ]
        place = CampaignDir(root.parent.parent)
        if place.definition.exists() and place.run(root.parent.name, one.config.seed) == root:
            # tokens that are matched to another arm differ from seed to seed
            values = [("arm", str(root.parent)), *((k, v) for k, v in values if k != "train.tokens")]
        label = root.parent.name if root.name.startswith("seed-") else root.name
        label = labels.setdefault(
            str(values), label if label not in groups else f"{root.parent.name}/{root.name}"
        )
        found = groups.setdefault(label, {})
        if one.config.seed in found:
            raise ConfigError(
                f"{found[one.config.seed].layout.root} and {root} are the same run under the same seed: a repeated seed adds no evidence",
                hint="name each run once, or runs with other seeds",
            )
        found[one.config.seed] = one
    return groups


def shared_benchmark(runs: list[Run]) -> str:
    """The only test set that all runs were evaluated on. Raises ConfigError where there is none, or several."""
    from undo_hpc.errors import ConfigError
    from undo_hpc.storage.manifest import read_manifest

    prepared = [read_manifest(one.layout.prepared) for one in runs]
    common = set.intersection(
        *(
            {*found.details["benchmarks"], *one.config.evaluate.added} if found else set()
            for one, found in zip(runs, prepared, strict=True)
        )
    )
    if len(common) != 1:
        there = ", ".join(sorted(common))
        raise ConfigError(
            f"the runs share several test sets: {there}" if common else "the runs share no test set",
            hint="name one with --benchmark"
            if common
            else "compare runs that were evaluated on the same benchmark",
        )
    return common.pop()
