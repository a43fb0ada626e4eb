"""SLURM's command line: every call is an argument vector with a time limit, and every refusal becomes a ClusterError."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from undo_hpc.errors import ClusterError

TIMEOUT_S = 60.0
# squeue and its like read these; a job that submits must not hand its own shape to the inner job.
_FOREIGN = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SALLOC_", "SRUN_", "SINFO_")

# What SLURM says -> what is wrong, what to do. Looked for in this order.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        r"SubmitJob",
        "your account may not have that many jobs in the queue",
        "wait until some have ended; or set `max_array_size: N` in the profile: an array then has at most N elements, which do several tasks in turn",
    ),
    (r"WallDuration", "the time limit is beyond what your account or quality of service allows", "lower `minutes` in the profile"),
    (
        r"qos policy",
        "a limit of your account is reached",
        "wait until jobs end, or ask for less at once; `sacctmgr show assoc user=$USER` shows limits",
    ),
    (r"invalid partition name", "the cluster has no such partition", "set `partition` in the profile; `sinfo -s` lists them"),
    (
        r"invalid account|account/partition",
        "the account was refused",
        "set `account` in the profile; `sacctmgr show assoc user=$USER` lists yours",
    ),
    (r"invalid qos", "the quality of service was refused", "set `qos` in the profile; `sacctmgr show qos` lists them"),
    (
        r"invalid generic resource|gres",
        "the cluster lacks the GPUs that are asked for",
        "set `gpus_per_node`, `gpu_type` and `gpu_syntax` in the profile; `sinfo -o '%P %G'` shows what there is",
    ),
    (
        r"invalid feature",
        "the constraint names a feature that no node has",
        "set `constraint` in the profile; `sinfo -o '%N %f'` lists features",
    ),
    (r"access/permission denied|invalid user id", "that job belongs to somebody else", "its owner can do it"),
    (
        r"time limit",
        "the time limit is beyond what the partition allows",
        "lower `minutes` in the profile; `sinfo -o '%P %l'` shows the limits",
    ),
    (r"job array specification", "the array is larger than the cluster allows", "set `max_array_size` in the profile"),
    (
        r"memory|node configuration is not available|more processors|node count|cpu count",
        "no node of the partition has what a task asks for",
        "lower cpus_per_task, memory_gb, gpus_per_node or nodes in the profile; `sinfo -o '%P %D %c %m %G'` shows the nodes",
    ),
    (
        r"accounting|limit",
        "a limit of your account is reached",
        "wait until jobs end, or ask for less at once; `sacctmgr show assoc user=$USER` shows limits",
    ),
    (r"dependency", "the cluster refused the dependency between stages", "run the same command again: what is missing is submitted anew"),
)
_UNREACHABLE = re.compile(
    r"unable to contact|connection refused|connect failure|zero bytes|socket timed out|communication connection|"
    r"temporarily unable|protocol authentication|no such file.*munge|munge",
    re.IGNORECASE,
)


@contextmanager
def scheduler_environment() -> Iterator[None]:
    """This process's environment as a fresh login would have it: no variable of an enclosing job, SLURM_CONF kept."""
    removed = {
        name: value for name, value in os.environ.items() if name.startswith(_FOREIGN) and name not in ("SLURM_CONF", "SLURM_CONF_SERVER")
    }
    for name in removed:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(removed)


def require_slurm() -> None:
    """Raises ClusterError where SLURM's commands are not on the path."""
    lacking = [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]
    if lacking:
        raise ClusterError(
            f"no SLURM here: {', '.join(lacking)} not found", hint="run this on a login node of the cluster, or use --cluster local"
        )


def run(command: list[str], *, stdin: str = "", timeout: float = TIMEOUT_S) -> str:
    """Runs one command and returns what it printed.

    Raises:
        ClusterError: not installed, no answer in time, or refused; with what SLURM said.
    """
    with scheduler_environment():
        try:
            # errors: in a list of jobs stand names that others have given
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout)
        except FileNotFoundError as error:
            raise ClusterError(
                f"{command[0]} is not installed here", hint="run this on a login node of the cluster, or use --cluster local"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{command[0]} gave no answer within {timeout:.0f} s", hint=_LATER) from error
    if done.returncode != 0:
        raise explain(done.stderr or done.stdout, command[0])
    return done.stdout


_LATER = "the controller may be down or busy: `scontrol ping` tells; run the same command again later, nothing is lost"


class Unreachable(ClusterError):
    """The controller did not answer: whether it did what was asked is not known."""


class QueueFull(ClusterError):
    """The account has as many jobs in the queue as it may: the same submission is accepted once some have ended."""


class NotPending(ClusterError):
    """The job has started, or is gone: what it waits for cannot be changed any more."""


def explain(said: str, command: str) -> ClusterError:
    """What SLURM said, as an error with a hint."""
    errors = [line.split("error:", 1)[-1].strip() for line in said.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(errors)) or "no reason given"
    if _UNREACHABLE.search(text):
        return Unreachable(f"the SLURM controller cannot be reached ({command}: {text})", hint=_LATER)
    if re.search("no longer pending|already completing or completed|invalid job id", text, re.IGNORECASE):
        return NotPending(f"{command} came too late: {text}", hint="run the same command again")
    for pattern, wrong, hint in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            kind = QueueFull if pattern == "SubmitJob" else ClusterError
            return kind(f"{wrong} ({command}: {text})", hint=hint)
    return ClusterError(f"{command} was refused: {text}", hint="see the profile's keys in slurm/profiles/example.yaml")
