"""Builds run directories as the stages would leave them, for tests and benchmarks of what comes after."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.planning import make_plan
from undo_hpc.pipeline.plan import IterationPlan, build_graph
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.records import Attempt, Feedback, Problem, Target
from undo_hpc.stages.context import StageContext
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.events import EventLog
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, write_manifest
from undo_hpc.storage.progress import ProgressFile
from undo_hpc.storage.shards import dump_rows, read_rows

WORDS = [
    "so",
    "then",
    "we",
    "add",
    "the",
    "first",
    "number",
    "to",
    "what",
    "is",
    "left",
    "and",
    "divide",
    "it",
    "by",
    "two",
    "which",
    "gives",
    "half",
    "of",
    "all",
    "apples",
]


def make_problems(count: int) -> list[Problem]:
    """Problems with stable ids."""
    return [
        Problem(f"{k:016x}", f"Ann has {k} apples and buys {k % 7}. How many?", str(k + k % 7), k, "made")
        for k in range(count)
    ]


def make_attempt(
    problem: Problem, number: int, *, chars: int = 40, correct: bool = True, **changes: object
) -> Attempt:
    """An attempt of the teacher with a text of about that many characters."""
    rng = random.Random(f"{problem.problem_id}/{number}")
    text = " ".join(rng.choices(WORDS, k=max(1, chars // 5))) + f" \\boxed{{{problem.ground_truth}}}"
    base: dict[str, object] = {
        "problem_id": problem.problem_id,
        "idx": problem.idx,
        "attempt": number,
        "style": "plain",
        "text": text,
        "verdict": "correct" if correct else "wrong",
        "answer": problem.ground_truth,
        "method": "number",
        "finish_reason": "stop",
        "prompt_tokens": 30,
        "completion_tokens": len(text) // 4,
        "seed": 1,
        "temperature": 0.7,
        "flags": () if correct else ("wrong",),
    }
    return Attempt(**(base | changes))  # type: ignore[arg-type]


def make_run(root: Path, problems: list[Problem], shards: int, **config: object) -> Run:
    """A prepared run with the plan of iteration 0."""
    values = {
        "name": "made",
        "generate": {"shards": shards},
        "evaluate": {"baseline": False},
        "method": {"errors_from": "train"},
    }
    run = create_or_open(RunConfig.model_validate(values | config), root, command=["test"])
    outputs = {}
    for name, rows in (("train", problems), ("diagnosis", []), ("validation", [])):
        path = run.layout.split(name)
        write_bytes(path, dump_rows([p.to_dict() for p in rows]))
        outputs[run.layout.relative(path)] = describe_output(path, len(rows))
    counts = {"train": len(problems), "diagnosis": 0, "validation": 0}
    details = {"benchmarks": {}, "train_source": {"licence": "cc0-1.0"}}
    write_manifest(
        run.layout.prepared, Manifest("prepare", 0, 0, {}, outputs, counts=counts, details=details)
    )
    make_plan(run, 0)
    return run


def make_feedback(problem: Problem, *, right: bool = False, split: str = "train") -> Feedback:
    """How the student did on a problem."""
    return Feedback(
        problem_id=problem.problem_id,
        idx=problem.idx,
        split=split,
        problem=problem.problem,
        ground_truth=problem.ground_truth,
        rationale=f"First we add: the answer is {problem.ground_truth}.",
        student_answer=f"I guess {problem.idx}",
        verdict="correct" if right else "wrong",
        error_kind="" if right else "setup",
        score=float(right),
    )


def advance_to(run: Run, iteration: int, feedback: list[Feedback]) -> IterationPlan:
    """The plan of an iteration after one that ended with this feedback."""
    at = run.layout.iteration(iteration - 1)
    write_json(at.metrics, {"iteration": iteration - 1, "sets": {}})
    write_bytes(at.feedback, dump_rows([row.to_dict() for row in feedback]))
    outputs = {run.layout.relative(at.feedback): describe_output(at.feedback, len(feedback))}
    write_manifest(at.stage_manifest("advance"), Manifest("advance", iteration - 1, 0, {}, outputs))
    return make_plan(run, iteration)


def targets_in(run: Run, iteration: int, index: int) -> list[Target]:
    """What a task of generate is asked."""
    return [Target.from_dict(row) for row in read_rows(run.layout.iteration(iteration).targets_file(index))]


def write_shards(run: Run, answer: Callable[[Problem], list[Attempt]], iteration: int = 0) -> None:
    """All shards of a planned iteration with their manifests."""
    plan = run.plan(iteration)
    assert plan is not None
    at = run.layout.iteration(iteration)
    for index in range(plan.shards):
        mine = [target.to_problem() for target in targets_in(run, iteration, index)]
        rows = [attempt.to_dict() for problem in mine for attempt in answer(problem)]
        shard = at.shard("generate", index)
        write_bytes(shard, dump_rows(rows))
        counts = {"rows": len(rows), "correct": len(rows), "problems": len(mine), "solved": len(mine)}
        outputs = {run.layout.relative(shard): describe_output(shard, len(rows))}
        manifest = Manifest(
            "generate",
            iteration,
            index,
            {"config": run.config_digest, "targets": plan.targets[index]["sha256"]},
            outputs,
            counts=counts,
        )
        write_manifest(at.manifest_of(shard), manifest)


def context(run: Run, stage_name: str, lease: Lease, index: int = 0, iteration: int = 0) -> StageContext:
    """What the worker would give to a stage."""
    plan = run.plan(iteration)
    assert plan is not None
    stage = {s.name: s for s in build_graph(run.config, run.layout, plan)}[stage_name]  # type: ignore[index]
    at = run.layout.iteration(iteration)
    return StageContext(
        run=run,
        plan=plan,
        stage=stage,
        task=stage.tasks[index],
        events=EventLog(at.events(stage_name, index)),
        progress=ProgressFile(at.progress(stage_name, index)),
        lease=lease,
        should_stop=lambda: False,
        time_left_s=lambda: None,
    )
