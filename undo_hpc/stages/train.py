"""train: the student learns the distilled set. The loop itself is undo_hpc.training; this stage prepares and publishes it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import RunConfig
from undo_hpc.data.distilled import parquet_files
from undo_hpc.errors import DataError, ExitCode, Requeue, TrainingError
from undo_hpc.method.copying import Copying
from undo_hpc.models.resolve import resolve_model
from undo_hpc.pipeline.plan import IterationPlan
from undo_hpc.pipeline.run import open_run
from undo_hpc.stages.context import StageContext, gate, previous_evidence
from undo_hpc.stages.prepare import check_models
from undo_hpc.storage.atomic import read_json, write_json
from undo_hpc.storage.manifest import Manifest, read_manifest
from undo_hpc.storage.reading import read_fast
from undo_hpc.system.parent_death import bound_to_this_process
from undo_hpc.training.launch import run_ranks, run_this_rank
from undo_hpc.training.spec import RECORD, TrainSpec

NOT_LEARNED = (
    "engine",
    "server",
    "shards",
    "tokens_per_second",
    "gate",
    "gate_rows",
)  # of `distill`: nothing of it reaches training


# Of the student's record, for the manifest and all that is said of the training. The log of the steps is no source: a
# kill behind a checkpoint, or a power loss, leaves gaps in it.
COUNTED = {
    "step": "steps",
    "loss": "final_loss",
    "tokens": "tokens",
    "rows_given": "rows_given",
    "rows_learned": "rows_learned",
    "rows_left_out": "rows_left_out",
    "problems_learned": "problems_learned",
}


def run_stage(ctx: StageContext) -> None:
    """Trains and publishes the student.

    Raises:
        Requeue: asked to stop, or what is learned has changed meanwhile; start again.
        TrainingError: training failed; its message stands in the log.
        EvidenceError: the distilled set does not match its manifest.
        DataError: the base model is not the one that the run began with, or the scores would teach the student its own errors.
    """
    manifests, _, inputs = gate(ctx, "merge")
    data_digest = manifests[0].digest
    if ctx.plan.score:
        scored, _, digests = gate(ctx, "score")
        require_no_copying(ctx, scored)
        inputs |= digests
        data_digest = hashlib.sha256(f"{data_digest} {digests['score']}".encode()).hexdigest()
    if ctx.plan.iteration and ctx.run.config.method.start_from == "previous":
        inputs["parent"] = previous_evidence(ctx, "train").digest
    elif prepared := read_manifest(ctx.run.layout.prepared):  # the job may start days after its submission
        check_models(ctx.run, prepared, ["student"])
    rank, ranks = cluster_rank()
    spec = make_spec(ctx, data_digest)
    path = ctx.at.train_spec(rank)
    spec.save(path)
    if rank == 0:
        forget_other_inputs(ctx, inputs | learned_as(ctx.run.config))
        shutil.rmtree(
            ctx.at.student, ignore_errors=True
        )  # no manifest validates it: it may be damaged, or of other data
    if rank == 0:
        ctx.progress.update(force=True, doing="starting")
    code = _run(ctx, path, ranks)
    if code == ExitCode.REQUEUE:
        raise Requeue(
            "training stopped and waits to be started again; the log above says whether there was a checkpoint to save"
        )
    if code != ExitCode.COMPLETE:
        error = TrainingError(
            f"training ended with exit code {code}; its message stands above in the log",
            hint="fix the cause and run the same command again",
        )
        error.exit_code = ExitCode(code) if code in list(ExitCode) else ExitCode.FAILED
        raise error
    if rank:
        return
    if learned_as(open_run(ctx.run.layout.root).config) != learned_as(ctx.run.config):
        raise Requeue("student.reasoning was changed while the student was trained: it is trained again")
    record = read_json(ctx.at.student / RECORD)
    outputs: dict[Path, int | None] = {
        file: None for file in sorted(ctx.at.student.rglob("*")) if file.is_file()
    }
    ctx.publish(
        outputs,
        inputs=inputs,
        counts={name: record[key] for name, key in COUNTED.items() if key in record},
        details={"rows": manifests[0].counts["rows"], "reasoning": spec.reasoning, "date": spec.date},
    )


def learned_as(config: RunConfig) -> dict[str, str]:
    """What makes other training texts of the same distilled set, and may change: `student.reasoning`."""
    chosen = config.student.reasoning
    return {} if chosen == "keep" else {"reasoning": chosen}


def forget_other_inputs(ctx: StageContext, inputs: dict[str, str]) -> None:
    """Removes the checkpoints of an unfinished training on another distilled set, or from another parent."""
    path = ctx.at.train_inputs
    if (before := read_fast(path)) is not None and before != inputs:
        why = "the distilled set, the parent or student.reasoning has changed since the training began"
        if before.keys() != inputs.keys():
            why = f"{ctx.run.layout.relative(path)} is damaged, or {why}"
        ctx.say(f"{why}: training starts from scratch")
        shutil.rmtree(ctx.at.checkpoints, ignore_errors=True)
    write_json(path, inputs)


def cluster_rank() -> tuple[int, int]:
    """This process's rank, and how many processes SLURM started for this task; (0, 1) where it started just one."""
    ranks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return (int(os.environ.get("SLURM_PROCID", "0")), ranks) if ranks > 1 else (0, 1)


def make_spec(ctx: StageContext, data_digest: str) -> TrainSpec:
    """What the training is asked to do, from the run's configuration. Without a digest it is for the encoding alone, and has no data."""
    config, iteration = ctx.run.config, ctx.plan.iteration
    scores: dict[str, Any] = {}
    if ctx.plan.score:
        indices = [str(ctx.at.shard("score", k)) for k in range(ctx.plan.score)]
        settings = config.distill.model_dump(mode="json", exclude=set(NOT_LEARNED))
        scores = {"scores": indices, "distill": settings | {"signal": config.method.signal}}
    parent = resolve_model(config.student.model)
    name = origin = config.student.model
    if iteration and config.method.start_from == "previous":
        student = ctx.run.layout.iteration(iteration - 1).student
        parent, origin = str(student), ctx.run.layout.relative(student)
        name = f"{config.name}, iteration {iteration - 1}"
    return TrainSpec(
        train=train_settings(ctx.run.config, ctx.plan),
        seed=config.seed,
        model=parent,
        origin=origin,
        revision=config.student.revision if parent == config.student.model else "",
        trust_remote_code=config.student.trust_remote_code,
        dtype=config.student.dtype,
        data=[str(file) for file in parquet_files(ctx.at.distilled)] if data_digest else [],
        data_digest=data_digest,
        prompt=config.student.prompt,
        instruction=config.student.instruction,
        system_prompt=config.student.system_prompt,
        chat_template_kwargs=config.student.chat_template_kwargs,
        reasoning=config.student.reasoning,
        date=ctx.run.model("student").date,
        work_dir=str(ctx.at.train),
        out_dir=str(ctx.at.student),
        card={
            "name": config.name,
            "iteration": iteration,
            "parent": name,
            "base_model": config.student.model,
            "teacher": config.teacher.model,
            "data": f"distilled set of iteration {iteration}",
        },
        time_limit_s=ctx.time_left_s(),
        events=str(ctx.events.path),
        events_pid=os.getpid(),
        run_id=f"{ctx.run.id}/{iteration}",
        **scores,
    )


def train_settings(config: RunConfig, plan: IterationPlan) -> dict[str, Any]:
    """`train` as configured; where the student learns from its own answers, with the epochs and learning rate of `distill`."""
    settings, distill = config.train.model_dump(mode="json"), config.distill
    if plan.sample:
        rate = distill.learning_rate or settings["learning_rate"]
        settings |= {"epochs": distill.epochs, "learning_rate": rate}
    return settings


def require_no_copying(ctx: StageContext, scored: Sequence[Manifest]) -> None:
    """Looks at what the score stage measured of its own scores.

    Raises:
        DataError: after its rationale the teacher prefers the student's wrong results, and `distill.gate` says refuse.
    """
    found = Copying.total(manifest.details["copying"] for manifest in scored)
    for warning in found.warnings():
        ctx.say(f"warning: {warning}")
    if problem := found.problem():
        if ctx.run.config.distill.gate == "refuse":
            raise DataError(
                problem,
                hint="do the rationales hold the student's errors (method.wrong_rationales: drop)? --set distill.gate=warn trains all the same",
            )
        ctx.say(f"warning: {problem}")


def _run(ctx: StageContext, spec: Path, ranks: int) -> int:
    """Starts this machine's ranks and waits for them; this process stays free of torch and only passes signals on.

    Where srun started one process a rank (`ranks` of them), each of them starts its own.
    """
    environment = {
        **os.environ,
        **bound_to_this_process("KILL"),
    }  # a killed worker must not leave ranks that write
    if (
        cluster_rank()[0] == 0
    ):  # the first rank gives checkpoints and the student their names; the others hold no lease
        environment |= ctx.lease.handed_down
    if ranks > 1:
        return run_this_rank(spec, environment, ctx.should_stop)
    here = ctx.run.config.train.ranks
    return run_ranks(
        spec, here, env=environment, log_dir=ctx.at.logs if here > 1 else None, should_stop=ctx.should_stop
    )
