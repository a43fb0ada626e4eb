"""`python launchers/run_campaign.py CAMPAIGN.yaml`: starts or resumes a campaign, on this machine or on a SLURM cluster."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import Once, add_verbosity, nonempty, path_argument, run_launcher

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.campaign.definition import Campaign
    from undo_hpc.campaign.state import CampaignDir
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.pipeline.run import Run

EXAMPLES = """examples:
  python launchers/run_campaign.py tiny_validate --dry-run    runs, cost, what can be seen; writes nothing
  python launchers/run_campaign.py my-campaign.yaml
  python launchers/run_campaign.py my-campaign.yaml --profile slurm/profiles/mycluster.yaml
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the launcher."""
    parser = argparse.ArgumentParser(
        prog="run_campaign.py",
        description="Runs arms x seeds and compares them. The same command again resumes, and writes the page of what is there.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "campaign", type=nonempty, help="a YAML file, or the name of one of launchers/campaigns"
    )
    parser.add_argument(
        "--dir",
        type=path_argument,
        action=Once,
        metavar="DIR",
        help="the campaign's directory (default: checkpoints/NAME)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="sets",
        help="a value for all runs, over the file's",
    )
    parser.add_argument(
        "--profile",
        type=nonempty,
        action=Once,
        metavar="FILE",
        help="YAML file that describes the SLURM cluster",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say runs, cost and what can be seen; write nothing"
    )
    add_verbosity(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, runs, and turns errors into messages and exit codes."""
    from undo_hpc.system.guard import prepare_streams

    prepare_streams()
    return run_launcher(build_parser().parse_args(argv), launch, what="campaign")


def launch(arguments: argparse.Namespace, console: Console) -> int:
    """What the arguments ask for. Raises UndoError for all that a user can correct."""
    from undo_hpc.campaign.definition import find_campaign, load_campaign
    from undo_hpc.campaign.forecast import forecast
    from undo_hpc.campaign.state import CampaignDir, begin
    from undo_hpc.cli.choose import CHECKPOINTS
    from undo_hpc.control.checks import require
    from undo_hpc.storage.lease import Lease

    sets = list(arguments.sets)
    if arguments.profile:
        sets += [
            f"cluster.profile={json.dumps(str(Path(arguments.profile).resolve()))}",
            "cluster.kind=slurm",
        ]
    campaign = load_campaign(find_campaign(arguments.campaign), sets)
    place = CampaignDir((arguments.dir or CHECKPOINTS / campaign.config.name).resolve())
    if arguments.dry_run or not place.definition.exists():
        for arm in campaign.config.arms:  # the seed changes nothing of what is checked
            require(campaign.arm(arm), place.run(arm, campaign.config.seeds[0]))
        for line in forecast(campaign).lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if arguments.dry_run:
        return 0
    with Lease(place.root / "campaign.lease", f"the campaign {place.root}"):
        code = _run_all(campaign, begin(campaign, place), place, console)
        path = write_page(campaign, place, console)
    console.print(str(path), highlight=False, soft_wrap=True)
    return code


def _run_all(
    campaign: Campaign, configs: dict[tuple[str, int], RunConfig], place: CampaignDir, console: Console
) -> int:
    """Every run that has not ended, seed by seed, so that a campaign that is cut short has whole seeds."""
    from undo_hpc.campaign.answers import finished_metrics
    from undo_hpc.campaign.shared import take_over
    from undo_hpc.cli.run_iteration import start_run
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import open_run

    worst = 0
    for seed in campaign.config.seeds:
        donors: list[Run] = []
        for arm in campaign.config.arms:
            run_dir = place.run(arm, seed)
            ended = False
            if Layout(run_dir).config.exists():
                metrics = finished_metrics(open_run(run_dir))
                ended = bool(metrics) and metrics[-1]["decision"]["action"] != "continue"
            if not ended:
                console.rule(f"{arm}, seed {seed}")

                def prepared(run: Run, donors: list[Run] = donors) -> None:
                    for donor in donors:
                        if done := take_over(run, donor):
                            console.print(
                                f"{done} tasks of iteration 0 are taken over from {donor.layout.root.parent.name}",
                                highlight=False,
                            )
                            return

                worst = max(worst, start_run(configs[arm, seed], run_dir, console, prepared=prepared))
            donors.append(open_run(run_dir))
    return worst


def write_page(campaign: Campaign, place: CampaignDir, console: Console) -> Path:
    """The page and results.json of what has ended, and the sentences on the terminal."""
    import time

    from undo_hpc.campaign.answers import read_result
    from undo_hpc.campaign.page import gather, page, to_dict
    from undo_hpc.storage.atomic import write_json, write_text

    config = campaign.config
    results, pending = {}, []
    for arm, runs in place.existing(campaign).items():
        found = {seed: read_result(run, config.problem_set, config.student) for seed, run in runs.items()}
        results[arm] = {seed: result for seed, result in found.items() if result is not None}
        pending += [f"{arm}, seed {seed}" for seed in config.seeds if seed not in results[arm]]
    data = gather(
        config.name, results, config.primary, problem_set=config.problem_set, student=config.student,
        match=config.match, pending=pending,
    )  # fmt: skip
    write_json(place.results, to_dict(data))
    write_text(place.page, page(data, time.strftime("%Y-%m-%d %H:%M %Z")))
    for comparison in data.comparisons:
        console.print(comparison.sentence, highlight=False, markup=False, soft_wrap=True)
    return place.page
