"""`python launchers/run_campaign.py CAMPAIGN.yaml`: starts or resumes a campaign, on this machine or on a SLURM cluster."""

from __future__ import annotations

import argparse
import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import (
    Once,
    add_set,
    add_verbosity,
    nonempty,
    path_argument,
    run_launcher,
    whole_number,
)
from undo_hpc.cli.parts import key

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.campaign.definition import Campaign
    from undo_hpc.campaign.state import CampaignDir
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.pipeline.run import Run
    from undo_hpc.stages.prepare import Sources
    from undo_hpc.storage.lease import Lease

log = logging.getLogger(__name__)
PATIENCE_S = 120.0  # for another launcher of the same campaign that is writing its page
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
    add_set(parser, "a value for all runs, over the file's")
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
    parser.add_argument(
        "--jobs",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="processes that share the seeds; on SLURM one is enough (default: 1)",
    )
    # from a job: campaign/continuing.py
    parser.add_argument("--continue-seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--helper", action="store_true", help=argparse.SUPPRESS)  # see `helpers`
    add_verbosity(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, runs, and turns errors into messages and exit codes."""
    from undo_hpc.system.guard import prepare_streams

    prepare_streams()
    return run_launcher(build_parser().parse_args(argv), launch, what="campaign")


def launch(arguments: argparse.Namespace, console: Console) -> int:
    """What the arguments ask for. Raises UndoError for all that a user can correct."""
    from undo_hpc.campaign.definition import base_file, find_campaign, load_campaign
    from undo_hpc.campaign.dependent import require_same_checker
    from undo_hpc.campaign.forecast import forecast
    from undo_hpc.campaign.state import CampaignDir, begin
    from undo_hpc.cli.choose import CHECKPOINTS
    from undo_hpc.storage.lease import Lease
    from undo_hpc.system.ownership import require_own_way

    sets = list(arguments.sets)
    if arguments.profile:
        sets += [key("cluster.profile", str(Path(arguments.profile).resolve())), "cluster.kind=slurm"]
    file = find_campaign(arguments.campaign)
    campaign = load_campaign(file, sets, arguments.base)
    root = arguments.dir or CHECKPOINTS / campaign.config.name
    require_own_way(root)  # by the links that lead there, too
    place = CampaignDir(root.resolve())
    place.require_ours(campaign.names)
    if arguments.dry_run or not place.definition.exists():
        sources = check_arms(campaign, place, read_hub=not arguments.dry_run)
        for line in forecast(campaign, sources).lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if arguments.dry_run:
        return 0
    require_same_checker(campaign, place)
    what = f"the campaign {place.root}"
    with Lease(place.root / "campaign.lease", what, wait_s=PATIENCE_S):
        place.require_ours(campaign.names)  # another user may have made it first
        configs = begin(campaign, place)
    base = arguments.base or base_file(file, campaign.config.base)
    start = _Start(campaign, configs, place, console, file, base, sets)
    if arguments.continue_seed is not None:
        code = start.continue_seed(arguments.continue_seed)
        if not start.has_ended:
            return code
    else:
        with helpers(min(arguments.jobs, len(campaign.config.seeds)) - 1) as others:
            code = start.all_seeds()
        if not start.has_ended:  # a helper alone may have left a seed to another one
            code = max([code, *(process.returncode for process in others)])
    with Lease(place.root / "campaign.lease", what, wait_s=PATIENCE_S):
        path = write_page(campaign, place, console)
    console.print(str(path), highlight=False, soft_wrap=True)
    if not code and not start.on_slurm and not start.has_ended:
        if not arguments.helper:  # whose launcher says so, when all of them have ended
            log.warning("not finished: another process works on the rest, or died; the same command goes on")
        return 3
    return code


def check_arms(campaign: Campaign, place: CampaignDir, *, read_hub: bool) -> Sources | None:
    """All checks of a launch for every arm; data that several read is read once, and of further seeds only the models are checked.

    Args:
        read_hub: data on the Hub is read, too.

    Returns:
        The data of the first run; None where it was not read.

    Raises:
        UndoError: what the launch of an arm would refuse.
    """
    from undo_hpc.control.checks import Notice, Subject, find_problems, when_for
    from undo_hpc.control.checks.sources import check_data, check_models
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.stages.prepare import Inputs, read_sources

    first, *further = campaign.config.seeds
    read: dict[str, Sources | None] = {}

    def data(config: RunConfig) -> Sources | None:
        key = config.model_dump_json(include={"data", "evaluate", "seed"})
        if key not in read:
            read[key] = read_sources(config) if read_hub else check_data(config)
        return read[key]

    models = set()
    for name in campaign.names:
        config, run_dir = campaign.runs[name, first], place.run(name, first)
        if Layout(run_dir).config.exists():  # a run that has begun is checked when it is resumed
            continue
        inputs = Inputs({}, found) if (found := data(config)) else None
        for _, error in find_problems(Subject(config, run_dir, inputs), when_for(run_dir)):
            if not isinstance(error, Notice):
                raise type(error)(f"arm {name}: {error.message}", hint=error.hint)
        for seed in further:
            other = campaign.runs[name, seed]
            if (pair := (other.teacher.model, other.student.model)) not in models:
                models.add(pair)
                with contextlib.suppress(Notice):
                    check_models(other)
    return data(next(iter(campaign.runs.values())))


@contextlib.contextmanager
def helpers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The same command in further processes, which work on other seeds; waited for at the end, ended where this one is stopped."""
    command = [sys.executable, *sys.argv, "--jobs", "1", "--quiet", "--helper"]
    started = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield started
        for process in started:
            process.wait()
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            process.wait()


@dataclass(frozen=True)
class _Start:
    """A campaign whose runs are started or resumed.

    Attributes:
        file, base, sets: its file, that of its base, and `--set` values, for the jobs that continue it.
    """

    campaign: Campaign
    configs: dict[tuple[str, int], RunConfig]
    place: CampaignDir
    console: Console
    file: Path
    base: Path
    sets: list[str]

    def all_seeds(self) -> int:
        """Every run that has not ended, seed by seed, so that a campaign that is cut short has whole seeds.

        A seed that another process works on is left to it: several launchers share the seeds of a campaign.
        """
        from undo_hpc.errors import LeaseError

        worst = 0
        for seed in self.campaign.config.seeds:
            with contextlib.ExitStack() as held:
                try:
                    held.enter_context(self._seed_lease(seed))
                except LeaseError:
                    self.console.print(f"another process works on {self._seed_name(seed)}", highlight=False)
                    continue
                worst = max(worst, self._seed(seed))
        return worst

    def continue_seed(self, seed: int) -> int:
        """From the last job of a run: starts the runs of its seed that waited for it. Those at work continue by themselves."""
        from undo_hpc.control.patience import PATIENCE_S as OF_A_JOB_S

        with self._seed_lease(
            seed, wait_s=OF_A_JOB_S
        ):  # another job of the seed may be taking over large files
            return self._seed(seed, only_waiting=True)

    @property
    def on_slurm(self) -> bool:
        """Whether the runs are on a cluster, where jobs go on with them."""
        return next(iter(self.configs.values())).cluster.kind == "slurm"

    @property
    def has_ended(self) -> bool:
        """Whether no run of the campaign is missing."""
        from undo_hpc.campaign.dependent import ended, transfers

        campaign = self.campaign
        return all(
            ended(campaign, self.place, name, seed)
            for name in (*campaign.names, *transfers(campaign))
            for seed in campaign.config.seeds
        )

    def _jobs_submit(self) -> bool:
        """Whether the runs are on a cluster whose nodes submit jobs."""
        from undo_hpc.cluster.profile import load_profile

        where = next(iter(self.configs.values())).cluster
        return self.on_slurm and load_profile(where.profile).submit_from == "nodes"

    def _seed_name(self, seed: int) -> str:
        return f"seed {seed} of the campaign {self.place.root}"

    def _seed_lease(self, seed: int, wait_s: float = 0.0) -> Lease:
        from undo_hpc.storage.lease import Lease

        return Lease(self.place.root / f"seed-{seed:03d}.lease", self._seed_name(seed), wait_s=wait_s)

    def _seed(self, seed: int, *, only_waiting: bool = False) -> int:
        from undo_hpc.campaign.dependent import arm_result, matched, transfer_config, transfers
        from undo_hpc.pipeline.layout import Layout
        from undo_hpc.pipeline.run import open_run

        worst, campaign, place = 0, self.campaign, self.place
        donors: list[Run] = []
        for name in campaign.names:
            config = matched(campaign, place, name, seed, self.configs[name, seed])
            waits_for = "" if config else campaign.matched[name]
            worst = max(worst, self._run(name, seed, config, donors, waits_for, only_waiting))
            if Layout(place.run(name, seed)).config.exists():
                donors.append(open_run(place.run(name, seed)))
        for name, arm in transfers(campaign).items():
            result = arm_result(campaign, place, arm, seed)
            second = campaign.second[seed]
            config = transfer_config(result.run, result.iteration, second) if result else None
            worst = max(worst, self._run(name, seed, config, donors, "" if config else arm, only_waiting))
        return worst

    def _run(
        self,
        name: str,
        seed: int,
        config: RunConfig | None,
        donors: Sequence[Run],
        waits_for: str,
        only_waiting: bool,
    ) -> int:
        """Starts or resumes one run; on SLURM one whose first work another is doing waits for that one's last job.

        Args:
            config: None where it is known only when the run `waits_for` has ended.
            only_waiting: a run that has been planned is left to its own jobs.
        """
        from undo_hpc.campaign.continuing import remember
        from undo_hpc.campaign.dependent import ended
        from undo_hpc.campaign.shared import awaited, take_over
        from undo_hpc.cli.run_iteration import start_run
        from undo_hpc.pipeline.layout import Layout
        from undo_hpc.pipeline.run import open_run

        run_dir = self.place.run(name, seed)
        known = Layout(run_dir).config.exists()
        begun = known and open_run(run_dir).plan(0) is not None
        submitted = begun and Layout(run_dir).submissions.exists()
        if ended(self.campaign, self.place, name, seed) or (submitted and only_waiting):
            return 0
        on_slurm = config is not None and config.cluster.kind == "slurm"
        if config is not None and on_slurm and not begun:  # else the one before it has ended
            other = awaited(config, donors)
            waits_for = other.config.name if other else ""
        waits = bool(waits_for) and not begun
        if waits:
            how = "its last job starts it" if self._jobs_submit() else "the same command later starts it"
            self.console.print(f"{name}, seed {seed} waits for {waits_for}; {how}", highlight=False)
        if config is None or (waits and known):
            return 0
        if not waits:
            self.console.rule(f"{name}, seed {seed}")

        def prepared(run: Run) -> None:
            for run_id, done in take_over(run, donors).items():
                self.console.print(
                    f"{done} tasks of iteration 0 are taken over from {run_id}", highlight=False
                )
            if on_slurm:
                remember(run, self.place, self.file, self.base, self.sets, seed)

        return start_run(config, run_dir, self.console, prepared=prepared, only_prepare=waits)


def write_page(campaign: Campaign, place: CampaignDir, console: Console) -> Path:
    """The page and results.json of what has ended, and the sentences on the terminal. Raises as `second_result`."""
    import time

    from undo_hpc.campaign.answers import RunResult
    from undo_hpc.campaign.dependent import arm_result, second_result, transfers
    from undo_hpc.campaign.markdown import to_markdown
    from undo_hpc.campaign.page import gather, page, to_dict
    from undo_hpc.storage.atomic import read_json, write_json, write_text

    config = campaign.config
    results: dict[str, dict[int, RunResult]] = {arm: {} for arm in config.arms}
    second: dict[str, dict[int, RunResult]] = {arm: {} for arm in config.transfer.arms}
    pending = []
    for seed in config.seeds:
        for arm in config.arms:
            if (found := arm_result(campaign, place, arm, seed)) is not None:
                results[arm][seed] = found
            else:
                pending.append(f"{arm}, seed {seed}")
        for name, arm in transfers(campaign).items():
            if (found := second_result(campaign, place, name, seed)) is not None:
                second[arm][seed] = found
            else:
                pending.append(f"{name}, seed {seed}")
    data = gather(
        config.name, results, config.primary, problem_set=config.problem_set, student=config.student,
        match=config.match, pending=pending, positive=config.positive_control, null=config.null_control,
        transfer=second,
    )  # fmt: skip
    write_json(place.results, to_dict(data))
    write_text(place.summary, to_markdown(read_json(place.results)))
    write_text(place.page, page(data, time.strftime("%Y-%m-%d %H:%M %Z")))
    for comparison in data.comparisons:
        console.print(comparison.sentence, highlight=False, markup=False, soft_wrap=True)
    return place.page
