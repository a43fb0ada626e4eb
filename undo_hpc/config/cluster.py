"""The configuration of where tasks run, what they need, and which further stages there are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from undo_hpc.config.fields import Section, result_field, runtime_field, wrong_key
from undo_hpc.config.stages import LAST_STAGE, RESERVED, STAGE_NAME, STAGES


class StageConfig(Section):
    """A stage of your own, run in each iteration."""

    module: str = result_field(
        "",
        "module with run_stage(ctx), 'package.module:function', or its name as an entry point (undo_hpc.stages); empty: its own name there",
    )
    after: list[str] = result_field(["merge"], "the stages whose evidence it needs", min_length=1)
    tasks: int = result_field(
        1, "tasks side by side: 1 is a single task, more are an array", ge=1, le=100_000
    )


class StageResources(Section):
    """What one task of a stage needs on the cluster; null takes the profile's value."""

    nodes: int | None = runtime_field(None, "nodes of a task", ge=1)
    tasks_per_node: int | None = runtime_field(None, "processes a node (train: one a GPU)", ge=1)
    gpus_per_node: int | None = runtime_field(None, "GPUs a node", ge=0)
    cpus_per_task: int | None = runtime_field(None, "CPUs a process", ge=1)
    memory_gb: float | None = runtime_field(None, "memory a node in GiB", gt=0)
    minutes: int | None = runtime_field(None, "time limit in minutes", ge=1)
    array_parallelism: int | None = runtime_field(None, "tasks of an array at once", ge=1)


class PolicyConfig(Section):
    """How much of a stage is enough for the next one."""

    kind: Literal["all", "min_fraction", "quorum"] = result_field(
        "all", "all tasks, at least a fraction of them, or at least a number"
    )
    value: float = result_field(1.0, "the fraction (0 to 1) or the number", gt=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> PolicyConfig:
        if self.kind == "min_fraction" and self.value > 1:
            raise ValueError(
                f"min_fraction is a share of the tasks, at most 1, not {self.value:g}; quorum takes a number of tasks"
            )
        if self.kind == "quorum" and self.value != int(self.value):
            raise ValueError(
                f"quorum is a whole number of tasks, not {self.value:g}; min_fraction takes a share of them"
            )
        return self


class ClusterConfig(Section):
    """Where tasks run."""

    kind: Literal["local", "slurm"] = runtime_field("local", "local (this machine) or slurm")
    profile: str = runtime_field("", "YAML file that describes the SLURM cluster")
    max_processes: int = runtime_field(
        0,
        "local: tasks at once; 0 chooses: one where there is a GPU (a task takes all of its memory), else two where the CPUs suffice",
        ge=0,
    )
    threads_per_process: int = runtime_field(1, "local: CPU threads of each task", ge=1)
    warm_start: bool = runtime_field(
        True, "local, without a GPU: tasks start as copies of one process that has torch imported"
    )
    resources: dict[str, StageResources] = runtime_field(
        {}, "what a task of a stage needs, over the profile, by the stage's name"
    )
    policy: dict[str, PolicyConfig] = result_field({}, "how much of an array stage is enough, by its name")
    max_resubmits: int = runtime_field(3, "times that missing tasks of a stage are submitted again", ge=0)
    max_preemptions: int = runtime_field(100, "requeues of a task by preemption", ge=0)
    max_timeouts: int = runtime_field(20, "requeues of a task by its time limit", ge=0)
    code_snapshot: bool = runtime_field(True, "run the code as it was when the run was submitted")
    check_shared: bool = runtime_field(True, "refuse a run directory that the compute nodes cannot see")


_NOT_FOLLOWED = {LAST_STAGE: "ends the iteration", "serve": "leaves no evidence", "canary": "comes before the plan",
                 "release": "makes the plan"}  # fmt: skip


def check_stages(own: Mapping[str, StageConfig], cluster: ClusterConfig) -> None:
    """Refuses own stages that could not run, and `cluster.resources` and `cluster.policy` of stages that they mean nothing to.

    Raises:
        PydanticCustomError: see `wrong_key`.
    """
    known = {*STAGES, *own}
    for name, stage in own.items():
        if name in RESERVED or not STAGE_NAME.fullmatch(name):
            why = "it is taken" if name in RESERVED else "small letters, digits and _ only, a letter first"
            raise wrong_key(("stages", name), f"'{name}' cannot be the name of a stage: {why}")
        for before in stage.after:
            path = ("stages", name, "after")
            if before in _NOT_FOLLOWED:
                raise wrong_key(path, f"no stage can follow {before}, which {_NOT_FOLLOWED[before]}")
            _require_stage(before, known - _NOT_FOLLOWED.keys(), path)
    waiting = set(own)
    while free := {name for name in waiting if not waiting & set(own[name].after)}:
        waiting -= free
    if waiting:
        names = ", ".join(sorted(waiting))
        raise wrong_key(("stages", min(waiting), "after"), f"these stages wait for each other: {names}")
    for name in cluster.resources:
        _require_stage(name, known, ("cluster", "resources", name))
    allowed = {spec.name for spec in STAGES.values() if spec.policy}
    allowed |= {name for name, stage in own.items() if stage.tasks > 1}
    for name in cluster.policy:
        path = ("cluster", "policy", name)
        _require_stage(name, known, path)
        if name not in allowed:
            raise wrong_key(path, f"all of {name} is needed; a policy is for {', '.join(sorted(allowed))}")


def require_end(name: str) -> None:
    """Refuses an `until` that is no stage of the table, or one behind which no iteration can end. Raises PydanticCustomError."""
    _require_stage(name, STAGES.keys() - _NOT_FOLLOWED.keys(), ("until",))


def _require_stage(name: str, known: set[str], path: tuple[str, ...]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean '{near[0]}'? " if near else ""
        raise wrong_key(path, f"there is no stage '{name}'; {advice}stages: {', '.join(sorted(known))}")
