"""PURE: from a profile and a submission to what submitit's SlurmExecutor renders. One place decides how a job looks."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.identity import comment_of
from undo_hpc.cluster.names import ArrayPart, JobName, array_spec
from undo_hpc.cluster.profile import DEFAULT_MINUTES, ContainerProfile, Profile, StageProfile
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.stages import RESUBMITTING_STAGES

PRELUDE = Path(__file__).with_name("prelude.sh")
TRIES = 2  # how often a resubmitting stage that failed, or was killed, starts again by itself: nobody else would continue the run


@dataclass(frozen=True)
class BatchJob:
    """Arguments of SlurmExecutor.update_parameters, and the command line of the job."""

    parameters: dict[str, Any]
    command: str


def dependency(stage: str, after: tuple[str, ...]) -> str:
    """sbatch's --dependency on every part of what comes before."""
    return ("afterany:" if stage in RESUBMITTING_STAGES else "afterok:") + ":".join(after)


def gpu_flags(profile: Profile, asked: StageProfile) -> dict[str, str | int]:
    """How this cluster wants to be asked for GPUs.

    Raises:
        ConfigError: they cannot be shared evenly among the tasks of a node.
    """
    count = asked.gpus_per_node or 0
    if not count or profile.gpu_syntax == "none":
        return {}
    if profile.gpu_syntax == "gpus-per-task":
        count, left = divmod(count, asked.tasks_per_node or 1)
        if left or not count:
            raise ConfigError(
                f"gpu_syntax is gpus-per-task, and {asked.gpus_per_node} GPUs cannot be shared evenly among {asked.tasks_per_node} tasks of a node",
                hint="set tasks_per_node to a divisor of gpus_per_node in the profile, or another gpu_syntax",
            )
    typed = f"{profile.gpu_type}:{count}" if profile.gpu_type else f"{count}"
    return {"gres": f"gpu:{typed}"} if profile.gpu_syntax == "gres" else {profile.gpu_syntax: typed}


def bash_array(words: list[str]) -> str:
    """A bash array."""
    return "(" + " ".join(shlex.quote(word) for word in words) + ")"


def setup_lines(
    profile: Profile, submission: Submission, code: Path, kill_wait_s: int, grace_mark: bool
) -> list[str]:
    """The part of a batch script before the task: settings of the prelude, modules, the user's lines, the prelude.

    Resubmitting stages stay outside of the container: they submit jobs, and SLURM's commands are not in an image. They need neither
    a GPU nor a model, only the Python that submits.
    """
    stage, run_dir = submission.stage, submission.run_dir
    box = profile.container if stage not in RESUBMITTING_STAGES else ContainerProfile()
    srun: list[str] = []
    inside: list[str] = []
    python = profile.python or sys.executable
    if box.kind == "pyxis":
        mounts = [f"{run_dir}:{run_dir}", f"{code}:{code}", *box.mounts]
        srun = [f"--container-image={box.image}", f"--container-mounts={','.join(mounts)}", *box.options]
        python = box.python
    elif box.kind == "apptainer":
        binds = [word for mount in (str(run_dir), str(code), *box.mounts) for word in ("--bind", mount)]
        inside = ["apptainer", "exec", "--nv", *binds, *box.options, box.image]
        python = box.python
    return [
        f"UNDO_PYTHON={shlex.quote(python)}",
        f"export UNDO_CODE={shlex.quote(str(code))}",
        *(
            [
                f"UNDO_STAGE_TO={shlex.quote(profile.stage_to)}",
                f"UNDO_STAGE_ARCHIVE={shlex.quote(profile.stage_archive)}",
            ]
            if profile.stage_to
            else []
        ),
        f"UNDO_SRUN={bash_array(srun)}",
        f"UNDO_INSIDE={bash_array(inside)}",
        f"UNDO_REQUEUE={int(profile.requeue)}",
        f"UNDO_RESTART_DELAY={profile.restart_delay_s}",
        f"UNDO_KILL_WAIT={kill_wait_s}",
        f"UNDO_GRACE_MARK={int(grace_mark)}",
        f"export UNDO_SIGNAL_LEAD={profile.signal_lead_s}",
        f"export UNDO_VISIBLE_WITHIN_S={profile.visible_within_s:g}",
        f"UNDO_TRIES={TRIES if stage in RESUBMITTING_STAGES and submission.continues else 0}",
        f"export UNDO_CONTINUES_RUN={('1' if profile.submit_from == 'nodes' else 'plan') if submission.continues else '0'}",
        PRELUDE.read_text(encoding="utf-8").rstrip("\n"),
        *(
            ["undo_modules " + " ".join(shlex.quote(name) for name in profile.modules)]
            if profile.modules
            else []
        ),
        *profile.setup,
    ]


def render(
    profile: Profile,
    submission: Submission,
    name: JobName,
    part: ArrayPart | None,
    code: Path,
    *,
    kill_wait_s: int = 30,
    grace_mark: bool = False,
) -> BatchJob:
    """One job (or one part of an array) as submitit's parameters and its command line.

    Args:
        kill_wait_s: the site's KillWait.
        grace_mark: whether SLURM remembers that a job was preempted with a grace time (see prelude.sh).
    """
    asked = profile.for_stage(submission.stage, submission.resources)
    logs = str(Layout(submission.run_dir).iteration(submission.iteration).logs).replace("%", "%%")
    flags: dict[str, Any] = {
        "output": f"{logs}/{submission.stage}-{'%A_%a' if part else '%j'}.log",
        "open-mode": "append",
        "export": profile.exports(),
        "signal": f"USR1@{profile.signal_lead_s}",
        ("requeue" if profile.requeue else "no-requeue"): True,
        **gpu_flags(profile, asked),
        **({"exclusive": True} if asked.exclusive else {}),
    }
    if part is not None:
        flags["array"] = array_spec(part.elements, asked.array_parallelism or profile.array_parallelism)
    if submission.after:
        flags["dependency"] = dependency(submission.stage, submission.after)
        if submission.stage not in RESUBMITTING_STAGES:
            flags["kill-on-invalid-dep"] = "yes"
    memory = asked.memory_gb
    parameters: dict[str, Any] = {
        "job_name": str(name),
        "comment": comment_of(name),
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "nodes": asked.nodes or 1,
        "ntasks_per_node": asked.tasks_per_node or 1,
        "cpus_per_task": asked.cpus_per_task,
        "mem": f"{max(1, round(memory * 1024))}M" if memory else None,
        "time": asked.minutes or DEFAULT_MINUTES,
        "wckey": None,  # submitit's own would be refused where a site tracks wckeys
        "use_srun": False,  # the prelude starts the step
        "stderr_to_stdout": True,
        "setup": setup_lines(profile, submission, code, kill_wait_s, grace_mark),
        "additional_parameters": flags
        | {key: value for key, value in asked.extra.items() if value is not False},
    }
    offset, group = (part.offset, part.group) if part else (0, 1)
    command = f"undo_task {submission.stage} {shlex.quote(str(submission.run_dir))} {submission.iteration} {offset} {group} {submission.total}"
    return BatchJob(parameters, command)
