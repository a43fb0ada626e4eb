"""`--dry-run`: every check of a launch, then the graph of an iteration in words. Nothing is written.

Local data is read and counted; of models and data on the Hub it is asked only whether they exist.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from undo_hpc.chat.plain_text import control_tokens
from undo_hpc.cluster.limits import most_jobs
from undo_hpc.cluster.local import default_parallelism
from undo_hpc.cluster.profile import DEFAULT_MINUTES, Profile, load_profile
from undo_hpc.config.parts import asks, canary_problems, effective_iterations
from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.control.ahead import expected_stages
from undo_hpc.control.checks import (
    NOT_BEFORE_A_START,
    Attention,
    NotChecked,
    Notice,
    Subject,
    find_problems,
    when_for,
)
from undo_hpc.control.checks.settings import runs_elsewhere
from undo_hpc.control.position import RunState, read_state
from undo_hpc.data import LoadedProblems, kind_of
from undo_hpc.data.benchmarks.loader import describe_benchmark
from undo_hpc.errors import ConfigError, UndoError
from undo_hpc.observe.preview import samples
from undo_hpc.observe.wording import evaluation_settings, generation_settings, told_rationales
from undo_hpc.observe.wrapped import quote, say
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import IterationPlan, Stage, build_graph, plan_iteration, rows_to_score
from undo_hpc.pipeline.run import Run, open_run, require_trusted_run
from undo_hpc.pipeline.workload import Workload, estimate
from undo_hpc.stages.prepare import Sources
from undo_hpc.system.wording import counted


def show_plan(config: RunConfig, run_dir: Path, console: Console) -> None:
    """Prints stages, tasks, inputs, outputs and resources, and what could not be checked.

    Raises:
        UndoError: what a launch would refuse; several errors come as one.
    """
    require_trusted_run(run_dir)  # checks load what its configuration names
    subject, when = Subject(config, run_dir), when_for(run_dir)
    found = [error for _, error in find_problems(subject, when)]
    errors = [error for error in found if not isinstance(error, Notice)]
    sources: Sources | None = None
    try:
        sources = subject.sources
    except UndoError as error:  # an existing run has its own copy of the data
        if when == "launch" and error.message not in {e.message for e in errors}:
            errors.append(error)
    if not errors or (when == "launch" and _can_plan(config)):
        _show(subject, sources, console)
        stopped = _show_samples(subject, sources, console)
        if stopped and not errors:
            errors.append(stopped)
    for each in found:
        if isinstance(each, Attention):
            say(console, f"warning: {each.message}", hang=2)
    if errors:
        raise _all_of(errors)
    say(console, "checked: all that can be checked before a start. Not checked here:")
    unchecked = (error.message for error in found if isinstance(error, NotChecked))
    for what in (*unchecked, *_beyond(config), *NOT_BEFORE_A_START):
        say(console, f"  {what}", hang=2)


def _beyond(config: RunConfig) -> Iterator[str]:
    """What of this configuration only its tasks will meet."""
    server = config.generate.engine.openai
    if config.generate.engine.name == "openai" and asks(config, "teacher"):
        where = server.base_url or "the run's own servers"
        yield f"whether {where} answers, knows the model {config.teacher.model}, and takes its key"
    if runs_elsewhere(config):
        yield "the packages of the Python that the profile names: vLLM, peft, deepspeed"


def _show_samples(subject: Subject, sources: Sources | None, console: Console) -> UndoError | None:
    """What the models will see of the first training problem; returns what stops it: one of the errors that the checks have found, or
    a prompt template that fails on this problem.
    """
    console.print("\nwhat the models see", style="bold", highlight=False)
    read = (
        [sources.splits.train, *(benchmark.problems for benchmark in sources.benchmarks)] if sources else []
    )
    problem = next((problems[0] for problems in read if problems), None)
    date = time.strftime("%Y-%m-%d")
    if when_for(subject.run_dir) == "resume":
        run = open_run(subject.run_dir)
        problem, date = next(iter(run.problems("train", 0, 1)), None), str(run.environment["created"])[:10]
    try:
        for sample in samples(subject.config, problem, date):
            say(console, f"  {sample.title} ({sample.remark})", hang=2)
            quote(console, sample.text)
            console.print()
    except UndoError as error:
        return error
    return None


def _can_plan(config: RunConfig) -> bool:
    """Whether the graph can be drawn in spite of errors: not with a profile that cannot be read."""
    try:
        if config.cluster.kind == "slurm":
            load_profile(config.cluster.profile)
    except UndoError:
        return False
    return bool(config.teacher.model or config.student.model)


def _all_of(errors: list[UndoError]) -> UndoError:
    """The only error, or one that holds all."""
    if len(errors) == 1:
        return errors[0]
    listed = "\n".join(f"  {number}. {error}" for number, error in enumerate(errors, start=1))
    found = ConfigError(
        f"a launch would be refused for {len(errors)} reasons:\n{listed}",
        hint="correct these, then try again",
    )
    found.exit_code = errors[0].exit_code
    return found


def _show(subject: Subject, sources: Sources | None, console: Console) -> None:
    config, layout = subject.config, Layout(subject.run_dir.resolve())
    profile = load_profile(config.cluster.profile) if config.cluster.kind == "slurm" else None
    state = (
        read_state(Run(open_run(subject.run_dir).layout, config))
        if when_for(subject.run_dir) == "resume"
        else None
    )
    plan, counted_all = (state.plan, True) if state else guess_plan(config, sources)
    loaded = sources.loaded if sources else None
    most = effective_iterations(config)
    lines = [
        f"run {config.name} in {layout.root} on {config.cluster.kind}; nothing is written",
        f"{_teacher(config)} -> student {config.student.model or ('?' if asks(config, 'student') else 'none')}",
        f"condition {config.method.condition}; {'one iteration' if most == 1 else f'at most {most} iterations'}"
        + (f", the last ends behind {config.until}" if config.until else ""),
    ]
    for line in lines + (describe_problems(loaded) if loaded and loaded.problems else []):
        say(console, line, hang=2)
    console.print(
        f"\niteration {plan.iteration}{'' if counted_all else ' (sizes of the data are estimates)'}",
        style="bold",
        highlight=False,
    )
    if state:
        say(console, f"  {stands(state)}", hang=2)
    if state and state.complete:
        return
    if given := sources.rationales if sources else None:
        say(console, f"  rationales that exist already: {told_rationales(given.counts())}", hang=2)
    elif asks(config, "teacher"):
        expected = f"the teacher writes for {plan.problems:,} problems: {Workload(**plan.workload).in_words(at_once(config, plan.shards))}"
        say(console, f"  {expected}", hang=2)
        if state is None and (few := canary_problems(config, plan.iteration, plan.problems, plan.shards)):
            first = f"  canary: {few} of them first, on one task; the array is planned and submitted when it is released (generate.canary)"
            say(console, first, hang=2)
        say(console, f"  the teacher: {generation_settings(config)}", hang=2)
    say(console, f"  the student: {evaluation_settings(config)}", hang=2)
    for stage in build_graph(config, layout, plan):
        outputs = sorted({path for task in stage.tasks for path in task.outputs})
        shown = (
            outputs if len(outputs) <= 3 else [outputs[0], f"... {len(outputs) - 2} more ...", outputs[-1]]
        )
        tasks = "1 task" if len(stage.tasks) == 1 else f"array of {len(stage.tasks)} tasks"
        if state:
            left = sum(status.stage == stage.name for status in state.missing)
            tasks += ", all done" if not left else f", {left} to do"
        after = f", after {' and '.join(stage.after)}" if stage.after else ""
        console.print(Text.assemble("  ", (stage.name, "bold"), f": {tasks}{after}"))
        for what, items in (
            ("reads", stage.inputs),
            ("writes", shown),
            ("needs", (describe_resources(stage, profile),)),
        ):
            if items:  # what a stage of the user's writes is known when it has run
                say(console, f"      {what:7}{', '.join(items)}", hang=7)
    if most > 1:
        seen = (
            ""
            if config.method.condition == "blind"
            else "; the teacher then sees the errors of the last student"
        )
        console.print()
        more = (
            ", and score the student's own answers (sample, score)"
            if config.method.signal == "on_policy"
            else ""
        )
        say(console, f"later iterations have the same stages{more}{seen}")
    if profile is not None and profile.submit_from == "login" and plan.iteration + 1 < most:
        say(console, _ahead(Run(layout, config), plan, profile, most))


def _ahead(run: Run, plan: IterationPlan, profile: Profile, most: int) -> str:
    """How many iterations a launch submits where nodes may not, and what they take of the queue."""

    def places(stages: Sequence[Stage]) -> int:
        return sum(min(len(stage.tasks), profile.max_array_size or len(stage.tasks)) for stage in stages)

    taken = [places(build_graph(run.config, run.layout, plan))]
    taken += [places(expected_stages(run, plan, number)) for number in range(plan.iteration + 1, most)]
    limit = most_jobs(profile.defaults.account, profile.defaults.qos)
    fit = sum(sum(taken[: k + 1]) <= limit for k in range(len(taken))) if limit is not None else len(taken)
    words = (
        f"the nodes submit nothing (submit_from: login): all {len(taken)} iterations are submitted at once, each behind the one before, "
        f"{taken[0]} and {taken[1]} places in the queue for the first two, {sum(taken)} in all"
    )
    if limit is None:
        return words + "; a queue that takes fewer gets as many whole iterations as fit"
    return (
        words
        + f"; you may have {limit}: {f'{fit} of them fit, and the launcher submits the rest later' if fit < len(taken) else 'they fit'}"
    )


def _teacher(config: RunConfig) -> str:
    if not asks(config, "teacher"):
        return "no teacher"
    return f"teacher {config.teacher.model or '?'} ({config.generate.engine.name})"


def stands(state: RunState) -> str:
    """Where an existing run stands, and what a launch would do."""
    if state.lost:
        return (
            f"results on which the run rests do not hold: {'; '.join(problem for _, problem in state.lost)}"
        )
    if state.ended:
        return f"the run has ended: {state.ended.why}; a launch would do nothing"
    if state.complete:
        return f"complete; a launch plans iteration {state.iteration + 1} and starts it"
    left = len(state.missing)
    return f"{len(state.statuses) - left} of {counted(len(state.statuses), 'task')} done; a launch does the {left} others"


def describe_problems(loaded: LoadedProblems) -> list[str]:
    """What was made of the training data: how many problems, how the first one reads, and why rows are left out."""
    source, first = loaded.source, loaded.problems[0]
    columns = source.get("columns", {})
    said = ", ".join(f"{meaning} from '{column}'" for meaning, column in columns.items())
    lines = [f"problems: {len(loaded.problems):,} of {source['rows']:,} rows{f'; {said}' if said else ''}"]
    lines.append(f"  the first: {_short(first.problem)} -> {_short(first.ground_truth)}")
    if filtered := source.get("filtered"):
        lines.append(
            f"  not used: {counted(filtered, 'row')} that {'does' if filtered == 1 else 'do'} not meet `where`"
        )
    if found := sum(bool(control_tokens(problem.problem)) for problem in loaded.problems):
        lines.append(
            f"  {counted(found, 'problem')} with a model's control token such as <|im_end|>: it is read as text"
        )
    reasons = Counter(kind_of(row.reason) for row in loaded.rejected)
    examples = {kind_of(row.reason): row for row in reversed(loaded.rejected)}
    for reason, count in reasons.most_common(5):
        lines.append(
            f"  not used: {counted(count, 'row')}, e.g. {examples[reason].where}: {examples[reason].reason}"
        )
    if len(reasons) > 5:
        lines.append(
            f"  not used for {len(reasons) - 5} other reasons: {sum(c for _, c in reasons.most_common()[5:]):,} rows"
        )
    for item in source.get("ignored", [])[:5]:
        lines.append(f"  ignored file: {item['file']}: {item['reason']}")
    if len(source.get("ignored", [])) > 5:
        lines.append(f"  ignored files: {len(source['ignored']) - 5} more")
    return lines


def _short(text: str) -> str:
    line = "".join(
        sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(text.split())
    )
    return line if len(line) <= 100 else f"{line[:97]}..."


def guess_plan(config: RunConfig, sources: Sources | None) -> tuple[IterationPlan, bool]:
    """The plan of iteration 0, and whether all sizes are known: False for data on the Hub and benchmarks of unknown size."""
    if sources is None:
        known = config.data.train.sample is not None
        size = config.data.train.sample or 10_000

        def part(wanted: int | float) -> int:
            return round(size * wanted) if 0 < wanted < 1 else min(size, int(wanted))

        validation, diagnosis = part(config.data.validation), part(config.data.diagnosis)
        train = max(1, size - validation - diagnosis)
    else:
        known = True
        splits = sources.splits
        train, validation, diagnosis = len(splits.train), len(splits.validation), len(splits.diagnosis)
    read = {benchmark.name: len(benchmark.problems) for benchmark in sources.benchmarks} if sources else {}
    sets: dict[str, int] = {}
    for name in config.evaluate.benchmarks:
        stem = Path(name).stem
        described = describe_benchmark(name, config.evaluate.overrides.get(stem))
        count = read.get(stem) or described.source.sample or described.size
        known = known and bool(count)
        sets[stem] = min(count or 1000, config.evaluate.limit or count or 1000)
    sets |= {"validation": validation, "diagnosis": diagnosis}
    if config.evaluate.train_predictions:
        sets["train"] = train
    workload = estimate(config, 0, train, score_rows=rows_to_score(config, 0, train))
    return plan_iteration(
        config, 0, problems=train, sets={k: v for k, v in sets.items() if v}, workload=workload
    ), known


def at_once(config: RunConfig, tasks: int) -> int:
    """How many of so many generation tasks run side by side: on a cluster what the array allows, else what this machine runs."""
    if config.cluster.kind == "slurm":
        profile = load_profile(config.cluster.profile)
        asked = config.cluster.resources.get("generate", StageResources())
        most = profile.for_stage("generate", asked).array_parallelism or profile.array_parallelism
    else:
        most = config.cluster.max_processes or default_parallelism(config.cluster.threads_per_process)
    return min(tasks, most)


def describe_resources(stage: Stage, profile: Profile | None) -> str:
    """What a task asks for, in words: of SLURM as it will be asked, of this machine what the configuration says."""
    resources = stage.resources if profile is None else profile.for_stage(stage.name, stage.resources)
    given = {key: value for key, value in resources.model_dump().items() if value not in (None, {})}
    if profile is not None:
        given = {"minutes": DEFAULT_MINUTES} | given
    words = ", ".join(
        f"{key.replace('_', ' ')} {value:g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in given.items()
    )
    return words or ("what this machine has" if profile is None else "what the cluster gives by itself")
