"""PURE: from the configuration and a few counts to the graph of an iteration. No file is read or written here.

A plan is frozen in the iteration's plan.json when it is made: a later change of the number of shards touches the next
iteration only, so a re-launch never moves rows under tasks that are already queued.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypedDict

from undo_hpc.config.parts import effective_iterations, ends_behind, has_rationales
from undo_hpc.config.schema import PolicyConfig, RunConfig, StageResources
from undo_hpc.method.decision import Decision, decide_by_sets
from undo_hpc.pipeline.cutting import EvaluationSlice, pack_slices, slice_sets
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.stages import STAGES, ordered_own_stages, resources_of
from undo_hpc.pipeline.workload import Workload, estimate
from undo_hpc.storage.manifest import sealed, unseal

StageName = str  # of the table, or registered in the configuration
WITHIN_TIME_LIMIT = 0.8  # share of the time limit that a task is planned for


class TargetsFile(TypedDict):
    """What plan.json says of the targets of one generation task. (A plain dictionary: a status reads ten thousand of them.)

    Attributes:
        sha256, bytes, rows: of the file.
        first: `idx` of its first row; None where it has none.
    """

    sha256: str
    bytes: int
    rows: int
    first: int | None


@dataclass(frozen=True)
class IterationPlan:
    """The frozen shape of an iteration.

    Attributes:
        evaluate, baseline: the slices of each of their tasks; sample: those that the last student answers (signal on_policy).
        score: number of tasks that score; 0 for the signal text.
        workload: what the teacher was expected to read and write.
        prompts: digest of the templates that `generate` and `evaluate` ask with.
        targets: the file of each generation task; the files are contiguous ranges of problems in the order of (idx, problem_id).
        inputs: digests of what the targets were made from: `splits`, and `feedback` after the first iteration.
        added: digests of the sets that were added to the run (problems and how they are asked), by name; their tasks come last.
        counted: the tasks that were counted of a stage with a policy, added ones apart, once what counts them is made again: no
            others are counted then.
        canary_problems: above 0 it is a canary's plan, replaced when that is released: its targets are so many problems, in one file.
    """

    iteration: int
    problems: int
    shards: int
    evaluate: tuple[tuple[EvaluationSlice, ...], ...]
    baseline: tuple[tuple[EvaluationSlice, ...], ...] = ()
    servers: int = 0
    sample: tuple[tuple[EvaluationSlice, ...], ...] = ()
    score: int = 0
    policy: dict[str, dict[str, Any]] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    targets: tuple[TargetsFile, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    counted: dict[str, list[int]] = field(default_factory=dict)
    canary_problems: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The plan as it stands in plan.json; what an iteration has not is left out, for older versions do not know it."""
        newer = ("sample", "score", "counted", "canary_problems")
        data = {k: v for k, v in asdict(self).items() if v or k not in newer}
        return sealed(data)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> IterationPlan:
        """The plan from plan.json. Raises KeyError, TypeError or ValueError where it holds something else, or a value has changed."""
        unseal(data)

        def read(name: str) -> tuple[tuple[EvaluationSlice, ...], ...]:
            return tuple(tuple(EvaluationSlice(**part) for part in parts) for parts in data.get(name, ()))

        tasks = {name: read(name) for name in ("evaluate", "baseline")} | {"sample": read("sample")}
        plan = cls(**(data | tasks | {"targets": tuple(data["targets"])}))
        numbers = (plan.iteration, plan.problems, plan.shards, plan.servers, plan.score, plan.canary_problems)
        if not all(isinstance(number, int) for number in numbers):
            raise TypeError("a number has another type")
        if not all(map(_is_slice, [part for stage in tasks for part in plan.slices(stage)])):
            raise TypeError("a slice has another type")
        sections = (plan.policy, plan.workload, plan.prompts, plan.inputs, plan.counted)
        if not all(isinstance(s, dict) for s in sections) or not all(
            isinstance(tasks, list) for tasks in plan.counted.values()
        ):
            raise TypeError("a section has another type")
        if any(target.keys() != TargetsFile.__annotations__.keys() for target in plan.targets):
            raise ValueError("a targets file is not described")
        return plan

    def slices(self, stage: str) -> tuple[EvaluationSlice, ...]:
        """All slices of `evaluate`, `baseline` or `sample`, in the order of their tasks."""
        tasks: tuple[tuple[EvaluationSlice, ...], ...] = getattr(self, stage, ())
        return tuple(part for parts in tasks for part in parts)

    def counts(self, task: Task) -> bool:
        """Whether a task may be counted: false for one that was given up by a policy, however late it ends."""
        kept = self.counted.get(task.stage)
        return kept is None or task.index in kept or "added" in task.inputs

    def policy_of(self, stage: str) -> PolicyConfig:
        """How much of a stage is enough."""
        return PolicyConfig(**self.policy.get(stage, {}))


def _is_slice(part: EvaluationSlice) -> bool:
    numbers = {type(part.shard), type(part.start), type(part.stop)}
    name = part.problem_set  # a file's, too: with a slash in it, it would lead out of the run
    return numbers == {int} and isinstance(name, str) and "/" not in name and name != ".."


@dataclass(slots=True)
class Task:
    """One task of a stage: what it is called, its manifest and its outputs (paths in the run directory), and the digests of
    inputs that are its own: a manifest that names others is stale.

    (Not frozen, as nothing of which a look at a run makes ten thousand: a frozen class takes three times as long to make.)
    """

    stage: StageName
    index: int
    label: str
    manifest: str
    outputs: tuple[str, ...]
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A node of the graph: `after` are the stages whose evidence its tasks ask for."""

    name: StageName
    iteration: int
    after: tuple[StageName, ...]
    tasks: tuple[Task, ...]
    inputs: tuple[str, ...]
    resources: StageResources

    @property
    def is_array(self) -> bool:
        """Whether it is an array of tasks."""
        return STAGES[self.name].array if self.name in STAGES else len(self.tasks) > 1


def request_seed(run_seed: int, iteration: int, problem_id: str, attempt: int, role: str) -> int:
    """Seed of one completion, below 2**31; it depends on nothing but what is named (never on a shard)."""
    text = f"{run_seed}/{iteration}/{problem_id}/{attempt}/{role}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def choose_shards(config: RunConfig, problems: int, workload: Workload) -> int:
    """Number of generation tasks such that one runs about `target_minutes`, and within its time limit where the
    configuration sets one.
    """
    settings, limit = config.generate, config.cluster.resources.get("generate", StageResources()).minutes
    if settings.shards:
        return max(1, min(settings.shards, problems))
    minutes = min(settings.target_minutes, WITHIN_TIME_LIMIT * limit) if limit else settings.target_minutes
    seconds = workload.completion_tokens / workload.tokens_per_second
    return max(1, min(problems, math.ceil(seconds / 60 / minutes)))


def choose_score_tasks(config: RunConfig, workload: Workload) -> int:
    """Number of tasks that score such that one runs about `generate.target_minutes`."""
    if config.distill.shards:
        return config.distill.shards
    seconds = workload.score_tokens / workload.score_tokens_per_second
    return max(1, math.ceil(seconds / 60 / config.generate.target_minutes))


def plan_iteration(
    config: RunConfig,
    iteration: int,
    *,
    problems: int,
    sets: dict[str, int],
    workload: Workload | None = None,
    prompts: dict[str, str] | None = None,
    train_problems: int = 0,
) -> IterationPlan:
    """The plan of an iteration.

    Args:
        problems: number of problems the teacher writes for.
        train_problems: number of training problems, which the student answers for the signal on_policy.
        sets: sizes of all that the student answers: benchmarks, 'validation', 'diagnosis', 'train'.
        workload: what the teacher will read and write; without it, a guess from the configuration.
        prompts: digests of the templates of `generate` and `evaluate`; a task with other ones refuses to work.
    """
    workload = workload or estimate(config, iteration, problems)
    per_task = config.evaluate.problems_per_task
    slices = slice_sets(sets, per_task)
    evaluated = [
        part for part in slices if part.problem_set != "train"
    ]  # nobody refines for the untrained student
    sampled = slice_sets({"train": train_problems}, per_task) if samples_student(config, iteration) else ()
    return IterationPlan(
        iteration=iteration,
        problems=problems,
        shards=choose_shards(config, problems, workload) if problems else 1,
        evaluate=pack_slices(slices, per_task),
        baseline=pack_slices(evaluated, per_task) if iteration == 0 and config.evaluate.baseline else (),
        sample=pack_slices(sampled, per_task),
        score=choose_score_tasks(config, workload) if scores(config, iteration) else 0,
        servers=config.generate.service
        if config.generate.engine.name == "openai" and not (iteration == 0 and has_rationales(config))
        else 0,
        policy={stage: policy.model_dump() for stage, policy in config.cluster.policy.items()},
        workload=workload.to_dict(),
        prompts=prompts or {},
    )


def extend(
    plan: IterationPlan, name: str, size: int, digest: str, *, per_task: int, student: bool
) -> IterationPlan:
    """The plan with tasks of their own for a set that was added to the run.

    Args:
        student: whether the iteration's student can answer; the untrained one can.
    """
    more = pack_slices(slice_sets({name: size}, per_task), per_task)
    return replace(
        plan,
        evaluate=plan.evaluate + (more if student else ()),
        baseline=plan.baseline + (more if plan.baseline else ()),
        added=plan.added | {name: digest},
    )


def samples_student(config: RunConfig, iteration: int) -> bool:
    """Whether the student learns from its own answers in an iteration; the first is a start on the teacher's text."""
    return config.method.signal == "on_policy" and iteration > 0


def scores(config: RunConfig, iteration: int) -> bool:
    """Whether an iteration has the teacher score texts."""
    return config.method.signal == "soft" or samples_student(config, iteration)


def decide_run(config: RunConfig, history: Sequence[Mapping[str, Any]]) -> Decision:
    """The decision from the `sets` of all iterations so far; the last one of them may be cut."""
    decision = decide_by_sets(history, config.stop, effective_iterations(config))
    stage = ends_behind(config, len(history) - 1)
    return (
        replace(decision, action="finished", why=f"it ends behind {stage}, as asked") if stage else decision
    )


def rows_to_score(config: RunConfig, iteration: int, train_problems: int) -> int:
    """About how many texts an iteration scores: a rationale, or the student's answers, to each training problem."""
    each = config.distill.samples if samples_student(config, iteration) else config.generate.samples
    return train_problems * each if scores(config, iteration) else 0


def build_graph(config: RunConfig, layout: Layout, plan: IterationPlan) -> tuple[Stage, ...]:
    """The stages of an iteration in an order in which they can run.

    A cut one (`until`) has the stage that it ends behind, its needs, and `advance`, which closes it. A canary has but its own two.
    """
    if plan.canary_problems:
        return _canary_graph(config, layout, plan)
    whole = _whole_graph(config, layout, plan)
    stage = ends_behind(config, plan.iteration)
    if not stage or stage not in {each.name for each in whole}:
        return whole
    needed = {stage} | ({"serve"} if stage != "baseline" else set())
    for each in reversed(whole):
        if each.name in needed:
            needed |= set(each.after)
    cut = tuple(each for each in whole if each.name in needed)
    task = replace(whole[-1].tasks[0], inputs={"until": stage}, outputs=whole[-1].tasks[0].outputs[:1])
    return (*cut, replace(whole[-1], after=(stage,), tasks=(task,), inputs=cut[-1].tasks[0].outputs))


def _canary_graph(config: RunConfig, layout: Layout, plan: IterationPlan) -> tuple[Stage, ...]:
    at, rel = layout.iteration(plan.iteration), layout.relative
    shard, manifest = at.shard_names("canary", 0)
    task = Task("canary", 0, "canary", manifest, (shard,), {"targets": plan.targets[0]["sha256"]})
    release = Task("release", 0, "release", rel(at.stage_manifest("release")), ())
    reads = (rel(at.targets), config.teacher.model)
    return (
        Stage("canary", plan.iteration, (), (task,), reads, resources_of(config, "canary")),
        Stage("release", plan.iteration, ("canary",), (release,), (shard,), resources_of(config, "release")),
    )


def _whole_graph(config: RunConfig, layout: Layout, plan: IterationPlan) -> tuple[Stage, ...]:
    at = layout.iteration(plan.iteration)
    rel = layout.relative

    def shard_task(index: int) -> Task:
        shard, manifest = at.shard_names("generate", index)
        inputs = {"targets": plan.targets[index]["sha256"]} if plan.targets else {}
        return Task("generate", index, str(index), manifest, (shard,), inputs)

    def answer_task(stage: StageName, index: int, parts: Sequence[EvaluationSlice]) -> Task:
        names = ", ".join(
            part.problem_set if part.shard == 0 else f"{part.problem_set} {part.shard}" for part in parts
        )
        outputs = tuple(rel(at.shard(stage, part.shard, part.problem_set)) for part in parts)
        added = plan.added.get(parts[0].problem_set)  # such a set has tasks of its own
        inputs = {"added": added} if added else {}
        return Task(stage, index, f"{index} ({names})", rel(at.task_manifest(stage, index)), outputs, inputs)

    def shards(stage: StageName, number: int) -> tuple[Task, ...]:
        names = [at.shard_names(stage, k) for k in range(number)]
        return tuple(Task(stage, k, str(k), path, (shard,)) for k, (shard, path) in enumerate(names))

    def single(stage: StageName, *outputs: str) -> tuple[Task, ...]:
        return (Task(stage, 0, stage, rel(at.stage_manifest(stage)), outputs),)

    def stage(name: StageName, after: tuple[StageName, ...], tasks: tuple[Task, ...], *inputs: str) -> Stage:
        return Stage(name, plan.iteration, after, tasks, inputs, resources_of(config, name))

    previous = layout.iteration(plan.iteration - 1) if plan.iteration else None
    stages = []
    if plan.servers:
        servers = tuple(Task("serve", k, str(k), "", (rel(at.servers),)) for k in range(plan.servers))
        stages.append(stage("serve", (), servers, config.teacher.model))
    generate = tuple(shard_task(k) for k in range(plan.shards))
    reads = [] if not plan.iteration and has_rationales(config) else [config.teacher.model]
    stages.append(stage("generate", (), generate, rel(at.targets), *reads))
    if plan.baseline:
        tasks = tuple(answer_task("baseline", k, parts) for k, parts in enumerate(plan.baseline))
        stages.append(stage("baseline", (), tasks, config.student.model))
    start = config.student.model
    if previous and config.method.start_from == "previous":
        start = rel(previous.student)
    chosen: tuple[StageName, ...] = ("generate",)
    if config.method.select == "likeliest":
        stages.append(
            stage("likelihood", chosen, shards("likelihood", plan.shards), rel(at.answers("generate")), start)
        )
        chosen = ("generate", "likelihood")
    stages.append(
        stage("merge", chosen, single("merge", rel(at.distilled)), *map(rel, map(at.answers, chosen)))
    )
    if plan.sample:
        tasks = tuple(answer_task("sample", k, parts) for k, parts in enumerate(plan.sample))
        stages.append(stage("sample", (), tasks, start))
    learned: tuple[StageName, ...] = ("merge",)
    if plan.score:
        before = ("merge", "sample") if plan.sample else ("merge",)
        stages.append(
            stage("score", before, shards("score", plan.score), rel(at.distilled), config.teacher.model)
        )
        learned = ("merge", "score")
    stages.append(stage("train", learned, single("train", rel(at.student)), rel(at.distilled), start))
    answers = tuple(answer_task("evaluate", k, parts) for k, parts in enumerate(plan.evaluate))
    stages.append(stage("evaluate", ("train",), answers, rel(at.student)))
    there = {known.name for known in stages} | config.stages.keys()
    for name, own in ordered_own_stages(config):
        manifests = [rel(at.stage_manifest(name))]
        if own.tasks > 1:
            manifests = [rel(at.task_manifest(name, k)) for k in range(own.tasks)]
        own_tasks = tuple(
            Task(name, k, f"{k}" if own.tasks > 1 else name, path, ()) for k, path in enumerate(manifests)
        )
        after = tuple(before for before in own.after if before in there)
        stages.append(stage(name, after, own_tasks, *(rel(at.root / before) for before in after)))
    last: tuple[StageName, ...] = ("evaluate", "baseline") if plan.baseline else ("evaluate",)
    if not answers:  # nobody is asked anything: only the training is left to wait for
        last = ("train",)
    last += tuple(
        name for name, _ in ordered_own_stages(config)
    )  # the next iteration begins when all is done
    outputs = (rel(at.metrics), rel(at.feedback))
    closing = Task("advance", 0, "advance", rel(at.stage_manifest("advance")), outputs, {"until": ""})
    stages.append(stage("advance", last, (closing,), rel(at.answers("evaluate"))))
    return tuple(stages)
