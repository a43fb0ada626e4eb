"""SLURM's command line: every call is an argument vector with a time limit, and every refusal becomes a ClusterError."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import NamedTuple

from undo_hpc.errors import ClusterError

TIMEOUT_S = 60.0
# Variables of an enclosing job, or the user's own defaults: they would change what our calls of sbatch and squeue mean.
_SLURM_PREFIXES = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SALLOC_", "SRUN_", "SINFO_")

_LATER = "the controller may be down or busy: `scontrol ping` tells; run the same command again later, nothing is lost"


class Unreachable(ClusterError):
    """The controller did not answer: whether it did what was asked is not known."""


class Unclear(ClusterError):
    """Refused, in words that we do not know: it may be passing. Whoever can wait tries again, a few times."""


class QueueFull(ClusterError):
    """The account has as many jobs in the queue as it may: the same submission is accepted once some have ended."""


class TooLate(ClusterError):
    """The job has started, ended or been requeued meanwhile: what was asked cannot be done to it any more."""


class NoNode(ClusterError):
    """No node has what is asked for. `sbatch --test-only` says so, too, where the nodes that have it are down or drained."""


class LostDependency(ClusterError):
    """A job that was to be waited for is not known any more (SLURM 24.11 refuses that, 22.05 does not)."""


class Refusal(NamedTuple):
    """What SLURM says when it refuses (`pattern`, upper and lower case alike), what that means, and what to do."""

    pattern: str
    problem: str
    hint: str
    error: type[ClusterError] = ClusterError


_ACCOUNT_LIMIT = (
    "a limit of your account is reached",
    "wait until jobs end, or ask for less at once; `sacctmgr show assoc user=$USER` shows limits",
)
# The first one that matches is taken.
_REFUSALS = (
    Refusal(
        r"SubmitJob",
        "your account may not have that many jobs in the queue",
        "wait until some have ended; or set `max_array_size: N` in the profile: an array then has at most N elements, which do several tasks in turn",
        QueueFull,
    ),
    Refusal(
        r"WallDuration",
        "the time limit is beyond what your account or quality of service allows",
        "lower `minutes` in the profile",
    ),
    Refusal(r"qos policy", *_ACCOUNT_LIMIT),  # its text speaks of time limits too
    Refusal(
        r"invalid partition (?:name|specified)",
        "the cluster has no such partition",
        "set `partition` in the profile; `sinfo -s` lists them",
    ),
    Refusal(
        r"partition not available|partition.*(?:inactive|is down)",
        "the partition takes no jobs now",
        "`sinfo -s` shows its state: run the same command again when the site has opened it, or set another `partition` in the profile",
        Unclear,
    ),
    Refusal(
        r"no cluster|invalid entry for --cluster|unknown cluster",
        "SLURM knows no cluster of that name",
        "set `cluster` in the profile (or SLURM_CLUSTERS); `sacctmgr show clusters format=cluster` lists them",
    ),
    Refusal(
        r"invalid account|account/partition|specify an account|account is required|no account",
        "the account was refused",
        "set `account` in the profile; `sacctmgr show assoc user=$USER` lists yours",
    ),
    Refusal(
        r"invalid qos",
        "the quality of service was refused",
        "set `qos` in the profile; `sacctmgr show qos` lists them",
    ),
    Refusal(
        r"invalid generic resource|\bgres\b",
        "the cluster lacks the GPUs that are asked for",
        "set `gpus_per_node`, `gpu_type` and `gpu_syntax` in the profile; `sinfo -o '%P %G'` shows what there is",
    ),
    Refusal(
        r"invalid feature",
        "the constraint names a feature that no node has",
        "set `constraint` in the profile; `sinfo -o '%N %f'` lists features",
    ),
    Refusal(
        r"access/permission denied|invalid user id",
        "that job belongs to somebody else",
        "its owner can do it",
    ),
    Refusal(
        r"time limit",
        "the time limit is beyond what the partition allows",
        "lower `minutes` in the profile; `sinfo -o '%P %l'` shows the limits",
    ),
    Refusal(
        r"job array specification",
        "the array is larger than the cluster allows",
        "set `max_array_size` in the profile",
    ),
    Refusal(
        r"--mem\b.*mutually exclusive|mem-per-cpu.*mutually",
        "memory is asked for twice",
        "leave `memory_gb` out of the profile where the site wants memory per CPU (`extra: {mem-per-cpu: 4G}`)",
    ),
    Refusal(
        r"memory|node configuration is not available|more processors|node count|cpu count",
        "no node of the partition has what a task asks for",
        "lower cpus_per_task, memory_gb, gpus_per_node or nodes in the profile; `sinfo -o '%P %D %c %m %G'` shows the nodes",
        NoNode,
    ),
    Refusal(
        r"unrecognized option|invalid option|unknown option",
        "SLURM here knows no such option",
        "correct `extra` in the profile; `sbatch --help` lists options",
    ),
    Refusal(r"accounting|limit", *_ACCOUNT_LIMIT),
    Refusal(
        r"dependency",
        "the cluster refused the dependency between stages",
        "run the same command again: what is missing is submitted again",
        LostDependency,
    ),
)
# Told by a controller that is down, moves to its backup host, is too busy, or has no room on its disk; and by a node that has no
# configuration yet (the last two).
_UNREACHABLE = re.compile(
    r"unable to contact|connection refused|connect failure|zero bytes|socket timed out|communication connection|"
    r"temporarily unable|temporarily unavailable|protocol authentication|munge|standby mode|unexpected message|"
    r"transport endpoint|connection reset|connection timed out|no route to host|presently disabled|currently disabled|"
    r"i/o error writing|try again|rate limit exceeded|retry later|resolve_ctls|could not establish a configuration source",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"\b(?:error|fatal|allocation failure):\s*(.*)", re.IGNORECASE
)  # the last of --test-only
_TOO_LATE = re.compile(
    r"no longer pending|already completing or completed|already finished|invalid job id|can not be altered now",
    re.IGNORECASE,
)


def scheduler_environment(cluster: str = "") -> dict[str, str]:
    """Our environment without the variables by which SLURM's commands would be changed; SLURM_CONF, which names the site, is kept.

    Args:
        cluster: which of several clusters is meant; all of SLURM's commands read it from SLURM_CLUSTERS.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SLURM_PREFIXES) or name in ("SLURM_CONF", "SLURM_CONF_SERVER")
    }
    # A task on a node of that cluster asks its own controller, also where nodes do not reach the accounting database.
    here = os.environ.get("SLURM_CLUSTER_NAME") if os.environ.get("SLURM_JOB_ID") else None
    return kept | ({"SLURM_CLUSTERS": cluster} if cluster and cluster != here else {})


def config_values(text: str) -> dict[str, str]:
    """PURE: what `scontrol show config` says, by key; some values are empty."""
    return dict(re.findall(r"^(\w+)[^\S\n]*=[^\S\n]*(.*?)[^\S\n]*$", text, re.MULTILINE))


def require_slurm() -> None:
    """Raises ClusterError where SLURM's commands are not on the path."""
    lacking = [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]
    if lacking:
        raise ClusterError(
            f"no SLURM here: {', '.join(lacking)} not found",
            hint="run this on a login node of the cluster, or use --cluster local",
        )


def run(command: list[str], *, stdin: str = "", timeout: float = TIMEOUT_S, cluster: str = "") -> str:
    """Runs one command and returns what it printed.

    Args:
        cluster: see scheduler_environment.

    Raises:
        ClusterError: not installed, no answer in time, or refused; with what SLURM said.
    """
    try:
        # errors: in a list of jobs stand names that others have given
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=scheduler_environment(cluster),
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{command[0]} is not installed here",
            hint="run this on a login node of the cluster, or use --cluster local",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"{command[0]} gave no answer within {timeout:.0f} s", hint=_LATER) from error
    if done.returncode != 0:
        raise refusal_error(done.stderr or done.stdout, command[0])
    return done.stdout


def refusal_error(said: str, command: str) -> ClusterError:
    """The error, with a hint, for what SLURM said when a command failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # Sites print notices beside the reason, which speak of memory, limits and accounts as well.
    reasons = [found[1].strip() for line in lines if (found := _REASON.search(line))]
    text = "; ".join(dict.fromkeys(reasons or lines)) or "no reason given"
    if _UNREACHABLE.search(text):
        return Unreachable(f"the SLURM controller cannot be reached ({command}: {text})", hint=_LATER)
    if _TOO_LATE.search(text):
        return TooLate(f"{command} came too late: {text}", hint="run the same command again")
    for refusal in _REFUSALS:
        if re.search(refusal.pattern, text, re.IGNORECASE):
            return refusal.error(f"{refusal.problem} ({command}: {text})", hint=refusal.hint)
    return Unclear(
        f"{command} was refused: {text}",
        hint="if it stays so, see the profile's keys in slurm/profiles/example.yaml; the same command again loses nothing",
    )
