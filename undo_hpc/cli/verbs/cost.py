"""What a run has cost, stage by stage: useful, lost to preemption and failure, idle; and the estimate of the next iteration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_run

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc cost checkpoints/tiny
  undo-hpc cost checkpoints/tiny --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the table, the ratios and the estimate."""
    from rich.table import Table
    from rich.text import Text

    from undo_hpc.cli.choose import choose_run
    from undo_hpc.config.parts import refines
    from undo_hpc.control.budget import check_budget, estimate_next
    from undo_hpc.control.spent import energy, measure, rationale_cost
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.system.wording import three_digits

    opened = open_run(choose_run(arguments.run_dir))
    cost = measure(opened)
    following = estimate_next(opened)
    if arguments.json:
        import orjson

        from undo_hpc.system.wording import printable_json

        said = {"cost": cost, "next": following}
        print(
            printable_json(orjson.dumps(said, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())
        )
        return 0
    total = cost.of()
    unit, factor = ("hours", 1) if total.total >= 1 else ("minutes", 60)  # a small run is not all 0.00
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title=f"{cost.device}-{unit}",
        title_justify="left",
    )
    for heading in ("iteration", "stage", "useful", "lost", "idle", "starts", "restarts"):
        table.add_column(heading, justify="left" if heading in ("iteration", "stage") else "right")
    for item in cost.stages:
        hours = item.gpu if cost.device == "GPU" else item.cpu
        mark = " *" if item.open_ended else ""
        table.add_row(str(item.iteration), item.stage, *(f"{factor * h:,.2f}" for h in (hours.useful, hours.lost, hours.idle)),
                      f"{item.starts}{mark}", str(item.restarts))  # fmt: skip
    table.add_row(
        "all",
        "",
        *(Text(f"{factor * h:,.2f}", "bold") for h in (total.useful, total.lost, total.idle)),
        "",
        "",
    )
    console.print(table)
    if any(item.open_ended for item in cost.stages):
        console.print(
            "* with starts that died without an exit status; their time is a lower bound",
            style="dim",
            highlight=False,
        )
    for line in rationale_cost(cost):
        console.print(line, highlight=False)
    if cost.per_point_h is not None:
        console.print(
            f"{three_digits(factor * cost.per_point_h)} {cost.device}-{unit} for each point of validation accuracy gained",
            highlight=False,
        )
    console.print(
        f"energy: {energy(cost.kwh)} ({'measured' if cost.kwh_measured else 'an estimate from nominal power'})",
        highlight=False,
    )
    if refines(opened.config) or not following.iteration:
        word = f"next, iteration {following.iteration}: {three_digits(following.gpu_hours)} GPU-hours, {three_digits(following.cpu_hours)} CPU-hours"
        console.print(f"{word} ({following.basis})", highlight=False)
    if stop := check_budget(opened):
        console.print(f"budget: {stop}", style="yellow", highlight=False)
    return 0
