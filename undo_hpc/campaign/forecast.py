"""What a campaign will cost and what it can show, said before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from undo_hpc.campaign.definition import Campaign
from undo_hpc.campaign.shared import first_work
from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError
from undo_hpc.method.stats import paired_detectable_difference
from undo_hpc.pipeline.workload import estimate
from undo_hpc.stages.prepare import read_sources

DISCORDANT = 0.2  # share of items that one of two students has right: what trained students of one kind show
FEWEST_ITEMS = 50  # below, no difference short of a third can be seen


@dataclass(frozen=True)
class Forecast:
    """A campaign before it starts.

    Attributes:
        items: test problems.
        detectable: smallest difference that one seed shows, as a share.
        runs, shared: how many there are, and in how many iteration 0 is taken over.
        teacher_tokens: of all runs, to be written if every problem were refined in each iteration.
    """

    items: int
    train: int
    detectable: float
    runs: int
    shared: int
    teacher_tokens: int
    warnings: list[str]

    def lines(self) -> Iterator[str]:
        """For the user."""
        yield f"{self.runs} runs; iteration 0 of {self.shared} of them is taken over from another with the same configuration there"
        yield f"teacher: at most about {self.teacher_tokens:,} tokens to write in all runs (every problem refined each time)"
        yield (
            f"{self.items:,} test problems: with {100 * DISCORDANT:.0f} % of them decided differently, one seed shows differences from "
            f"{100 * self.detectable:.1f} points on; several seeds show the spread between seeds, too"
        )
        yield from (f"warning: {text}" for text in self.warnings)


def forecast(campaign: Campaign) -> Forecast:
    """Reads the data of the base and looks at the arms; writes nothing.

    Raises:
        ConfigError: too few items for any difference to be seen.
        DataError: the data cannot be read.
    """
    config = campaign.config
    first = next(iter(campaign.runs.values()))
    sources = read_sources(first)
    items = next(len(b.problems) for b in sources.benchmarks if b.name == config.problem_set)
    if items < FEWEST_ITEMS:
        raise ConfigError(
            f"problem_set {config.problem_set} has {items} problems: a difference below a third could not be seen",
            hint=f"take a set of at least {FEWEST_ITEMS}, better 1,000, or raise evaluate.limit",
        )
    train = len(sources.splits.train)
    classes = {first_work(run) for run in campaign.runs.values()}
    tokens = 0
    seen: set[str] = set()
    for run in campaign.runs.values():
        work = first_work(run)
        for iteration in range(effective_iterations(run)):
            if run.method.condition != "ground_truth" and (iteration or work not in seen):
                tokens += estimate(run, iteration, train).completion_tokens
        seen.add(work)
    return Forecast(
        items, train, paired_detectable_difference(items, DISCORDANT), len(campaign.runs),
        len(campaign.runs) - len(classes), tokens, list(_warnings(campaign)),
    )  # fmt: skip


def _warnings(campaign: Campaign) -> Iterator[str]:
    """Arms that will hardly be matched, as far as their configuration tells, and what cannot be concluded."""
    for a, b in campaign.config.primary:
        one, other = campaign.arm(a), campaign.arm(b)
        if (x := _requests(one)) != (y := _requests(other)):
            yield f"{a} and {b} ask the teacher differently ({x}, {y}): their teacher tokens will hardly match; the ledger shows it"
        if one.train != other.train:
            yield f"{a} and {b} train differently (train): a difference may come from there"
        if one.method.errors_from != other.method.errors_from or one.data != other.data:
            yield f"{a} and {b} learn from other problems: a difference may come from there"
    if len(campaign.config.seeds) < 3:
        yield f"{len(campaign.config.seeds)} seed(s): the spread between seeds is hardly known; take at least 3, better 5"
    if campaign.arm(next(iter(campaign.config.arms))).data.validation == 0:
        yield "data.validation is 0: the last iteration stands for the best, nothing was chosen"


def _requests(config: RunConfig) -> str:
    if config.method.condition == "ground_truth":
        return "no teacher"
    iterations = effective_iterations(config)
    refined = (
        f", then {config.method.regenerate} problems in {iterations - 1} iterations" if iterations > 1 else ""
    )
    return f"{config.generate.samples} sample(s) a problem{refined}"
