"""What a campaign will cost and what it can show, said before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from undo_hpc.campaign.definition import Campaign
from undo_hpc.config.parts import effective_iterations, refines
from undo_hpc.config.schema import RunConfig
from undo_hpc.control.taking_over import first_work
from undo_hpc.data.benchmarks.loader import describe_benchmark
from undo_hpc.errors import ConfigError
from undo_hpc.method.crossed import detectable
from undo_hpc.method.stats import paired_detectable_difference
from undo_hpc.pipeline.stages import resources_of
from undo_hpc.pipeline.workload import estimate, longest
from undo_hpc.stages.prepare import Sources
from undo_hpc.system.wording import counted, three_digits

DISCORDANT = 0.2  # share of items that one of two students has right: what trained students of one kind show
SPREAD = 0.013  # standard deviation of a difference over seeds, beyond what its items explain: measured in tiny_validate
FEWEST_ITEMS = 50  # below, no difference short of a third can be seen
# Guesses for a student of 1.5B parameters on one GPU of 80 GB, for want of a measurement; shown beside the hours.
TRAINED_PER_SECOND = 20_000
ANSWERED_PER_SECOND = 10_000


@dataclass(frozen=True)
class Forecast:
    """A campaign before it starts.

    Attributes:
        items, train: test problems, and problems that are learned from; `declared` where the files say so and nothing was read.
        detectable: smallest difference that is mostly shown, as a share: all seeds, and all primary comparisons corrected together.
        seeds, family: how many there are of each.
        runs, shared: how many there are, and in how many iteration 0 is taken over.
        teacher_tokens: of all runs, to be written if every problem were refined in each iteration.
        student_tokens: to be trained on and to be answered, by all students.
        gpu_hours: of the teacher, of training, of evaluation; None where the tasks ask for no GPU.
        announced: what is not counted, and comparisons that are not matched, with the reasons of the file.
    """

    items: int
    train: int
    declared: bool
    detectable: float
    seeds: int
    family: int
    runs: int
    shared: int
    teacher_tokens: int
    student_tokens: tuple[int, int]
    gpu_hours: tuple[float, float, float] | None
    announced: list[str]
    warnings: list[str]

    def lines(self) -> Iterator[str]:
        """For the user."""
        yield f"{counted(self.runs, 'run')}; iteration 0 of {self.shared} of them is taken over from another with the same configuration there"
        trained, answered = self.student_tokens
        yield (
            f"at most about {self.teacher_tokens:,} tokens of the teacher (every problem refined each time), {trained:,} trained on and "
            f"{answered:,} answered by students, at half of max_new_tokens each"
        )
        if self.gpu_hours:
            teacher, training, evaluation = self.gpu_hours
            yield (
                f"at most about {three_digits(sum(self.gpu_hours))} GPU-hours: teacher {three_digits(teacher)}, training {three_digits(training)}, "
                f"evaluation {three_digits(evaluation)}; a guess from generate.tokens_per_second, {TRAINED_PER_SECOND:,} and "
                f"{ANSWERED_PER_SECOND:,} tokens/s a GPU"
            )
        source = " (as its file says; the data is on the Hub)" if self.declared else ""
        yield (
            f"{self.items:,} test problems{source}, {counted(self.seeds, 'seed')}, {counted(self.family, 'comparison')}: "
            f"differences from about {100 * self.detectable:.1f} points on are shown in four of five trials (taken that {100 * DISCORDANT:.0f} % of the "
            f"problems are decided differently, and that differences vary from seed to seed by {100 * SPREAD:.1f} points beyond that)"
        )
        yield from self.announced
        yield from (f"warning: {text}" for text in self.warnings)


def forecast(campaign: Campaign, sources: Sources | None) -> Forecast:
    """What the arms will cost and can show; reads and writes nothing.

    Args:
        sources: the data of the base; None where it was not read, and the sizes are those that files and configuration say.

    Raises:
        ConfigError: too few items for any difference to be seen.
    """
    config = campaign.config
    first = next(iter(campaign.runs.values()))
    if sources:
        items = next(len(b.problems) for b in sources.benchmarks if b.name == config.problem_set)
        train = len(sources.splits.train)
    else:
        items, train = _declared(first, config.problem_set)
    if items < FEWEST_ITEMS:
        raise ConfigError(
            f"problem_set {config.problem_set} has {items} problems: a difference below a third could not be seen",
            hint=f"take a set of at least {FEWEST_ITEMS}, better 1,000, or raise evaluate.limit",
        )
    classes = {first_work(run) for run in campaign.runs.values()}
    written = trained = answered = 0
    hours, seen = [0.0, 0.0, 0.0], set()
    for run in campaign.runs.values():
        problems = round(train * (run.data.train.sample or 1) / (first.data.train.sample or 1))
        for iteration in range(effective_iterations(run)):
            if iteration == 0 and first_work(run) in seen:
                continue  # taken over
            teacher = estimate(run, iteration, problems)
            asked = 0 if run.method.condition == "ground_truth" else teacher.completion_tokens
            learned = round(
                problems
                * run.generate.samples
                * longest(run.generate.sampling, iteration)
                / 2
                * run.train.epochs
            )
            examined = _answers(run, items, problems) * longest(run.evaluate.sampling, iteration) // 2
            written, trained, answered = written + asked, trained + learned, answered + examined
            hours[0] += asked / teacher.tokens_per_second * _gpus(run, "generate")
            hours[1] += learned / TRAINED_PER_SECOND * bool(_gpus(run, "train"))
            hours[2] += examined / ANSWERED_PER_SECOND * bool(_gpus(run, "evaluate"))
        seen.add(first_work(run))
    teacher_h, training_h, evaluation_h = (value / 3600 for value in hours)
    return Forecast(
        items, train, sources is None, _detectable(items, len(config.seeds), len(config.primary)), len(config.seeds),
        len(config.primary), len(campaign.runs), len(campaign.runs) - len(classes), written, (trained, answered),
        (teacher_h, training_h, evaluation_h) if any(hours) else None, list(_announced(campaign)), list(_warnings(campaign)),
    )  # fmt: skip


def _detectable(items: int, seeds: int, family: int) -> float:
    alpha = 0.05 / family
    if seeds == 1:  # says nothing of other seeds
        return paired_detectable_difference(items, DISCORDANT, alpha=alpha)
    return min(1.0, detectable(math.sqrt((DISCORDANT / items + SPREAD**2) / seeds), seeds - 1, alpha=alpha))


def _declared(config: RunConfig, problem_set: str) -> tuple[int, int]:
    """Test problems and training problems as benchmark files and configuration say."""
    name = next(name for name in config.evaluate.benchmarks if Path(name).stem == problem_set)
    size = describe_benchmark(name, config.evaluate.overrides.get(problem_set)).size
    items = min(size, config.evaluate.limit) if config.evaluate.limit else size
    given = config.data.train.sample or 0
    held = sum(
        part if isinstance(part, int) else round(part * given)
        for part in (config.data.validation, config.data.diagnosis)
    )
    return items, max(0, given - held)


def _answers(config: RunConfig, items: int, train: int) -> int:
    """Problems that a student answers after an iteration, all benchmarks taken to be as large as the compared one where unknown."""
    sizes = [
        describe_benchmark(name, config.evaluate.overrides.get(Path(name).stem)).size or items
        for name in config.evaluate.benchmarks
    ]
    limit = config.evaluate.limit or max(sizes, default=0)
    examined = train if config.method.condition not in ("one_shot", "ground_truth") else 0
    return (sum(min(size, limit) for size in sizes) + examined) * config.evaluate.samples


def _gpus(config: RunConfig, stage: str) -> int:
    wanted = resources_of(config, stage)
    return (wanted.gpus_per_node or 0) * (wanted.nodes or 1)


def _announced(campaign: Campaign) -> Iterator[str]:
    if second := len(campaign.second) * len(campaign.config.transfer.arms):
        yield f"not counted: {counted(second, 'run')} of a second student (transfer), each trained and evaluated once"
    for exception in campaign.config.match.exceptions:
        names = " and ".join(name.replace("_", " ") for name in exception.measures)
        yield f"not matched: {' and '.join(exception.pair)} in {names}: {exception.reason.strip()}"


def _warnings(campaign: Campaign) -> Iterator[str]:
    """Arms that will hardly be matched, as far as their configuration tells, and what cannot be concluded."""
    match = campaign.config.match
    for a, b in campaign.config.primary:
        for measure, text in _apart(campaign, a, b):
            if not match.reason(a, b, measure):
                yield f"{text} (allowed: {100 * getattr(match, measure):.0f} %): a difference may come from there, unless match.exceptions gives the reason"
    if len(campaign.config.seeds) < 3:
        yield f"{counted(len(campaign.config.seeds), 'seed')}: the spread between seeds is hardly known; take at least 3, better 5"
    if not campaign.config.positive_control:
        yield "no positive_control: where no difference is shown, nothing says that one could have been"
    if (
        campaign.arm(next(iter(campaign.config.arms))).data.validation == 0
        and campaign.config.student == "best"
    ):
        yield "data.validation is 0: the last iteration stands for the best, nothing was chosen"


def _apart(campaign: Campaign, a: str, b: str) -> Iterator[tuple[str, str]]:
    """Measures in which two arms will hardly be matched, as far as their configuration tells, and why."""
    one, other = campaign.arm(a), campaign.arm(b)
    if (x := _requests(one)) != (y := _requests(other)):
        yield (
            "teacher_tokens",
            f"{a} and {b} ask the teacher differently ({x}, {y}): their teacher tokens will hardly match",
        )
    elif refines(one) and _shown(one) != _shown(other):
        yield (
            "teacher_tokens",
            f"{a} and {b} show the teacher other things, so their prompts differ in length: teacher tokens may not match",
        )
    tied = {a, b} & {name.partition("/")[0] for name in campaign.matched}
    trained = [[run.train for run in campaign.candidates_of(arm)] for arm in (a, b)]
    if any(x != y for x in trained[0] for y in trained[1]) and not tied:
        hint = f"`train.tokens: {{match: {a}}}` trains on as many"
        yield (
            "student_tokens",
            f"{a} and {b} train differently (train): their student tokens will hardly match; {hint}",
        )
    if one.method.errors_from != other.method.errors_from or one.data != other.data:
        yield "problems", f"{a} and {b} learn from other problems"


def _shown(config: RunConfig) -> tuple[object, ...]:
    """What of an attempt the teacher reads, and how much of what was before."""
    method = config.method
    return (
        method.condition == "blind",
        method.history,
        method.show_score,
        method.hint,
        method.examples,
        method.show_truth,
    )


def _requests(config: RunConfig) -> str:
    if config.method.condition == "ground_truth":
        return "no teacher"
    iterations = effective_iterations(config)
    refined = (
        f", then {config.method.regenerate} problems in {iterations - 1} iterations" if iterations > 1 else ""
    )
    return f"{counted(config.generate.samples, 'sample')} a problem{refined}"
