"""Who works on a run just now: what the scheduler holds, and whose leases still beat. Asks squeue once, never sacct."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from undo_hpc.errors import ClusterError
from undo_hpc.pipeline.evidence import read_fast
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Key, TaskState
from undo_hpc.storage.lease import STALE_S, alive_here

# The scheduler's reasons in words. What is not here is shown as squeue says it.
REASONS = {
    "Priority": "other jobs come first (priority)",
    "Resources": "first in line; no node is free yet",
    "Dependency": "waits for the stage before it",
    "DependencyNeverSatisfied": "waits for a job that failed; it will never start by itself",
    "BeginTime": "its start time has not come yet; a job that starts again is held back for a while",
    "JobArrayTaskLimit": "as many tasks of its array run as may at once",
    "JobHeldUser": "held by hand; release it with: scontrol release JOB",
    "JobHeldAdmin": "held by the administrators",
    "JobHoldMaxRequeue": "SLURM gave it up after too many restarts; the launcher, run again, releases it",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is closed",
    "PartitionTimeLimit": "asks for more time than the partition allows; lower cluster.resources.STAGE.minutes",
    "PartitionNodeLimit": "asks for more nodes than the partition has",
    "ReqNodeNotAvail": "the nodes that it needs are down or reserved",
    "NodeDown": "a node that it needs is down",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a licence",
    "InvalidAccount": "the account is not valid; mend `account` in the profile",
    "InvalidQOS": "the quality of service is not valid; mend `qos` in the profile",
    "AccountNotAllowed": "the account may not use this partition",
    "QOSNotAllowed": "the quality of service may not use this partition",
    "MaxGRESPerAccount": "the account uses all GPUs that it may",
    "launch failed requeued held": "its node failed to start it and SLURM gave it up; the launcher, run again, releases it",
    "None": "just submitted",
}


def explain_reason(reason: str) -> str:
    """The scheduler's reason in words: exact ones first, then families such as QOSMaxJobsPerUserLimit."""
    bare = reason.strip("()").split(",")[0].strip()
    if bare in REASONS:
        return REASONS[bare]
    for prefix, whose in (
        ("QOS", "quality of service"),
        ("Assoc", "account"),
        ("MaxMemPerLimit", "memory limit"),
    ):
        if bare.startswith(prefix):
            return f"a limit of your {whose} is reached ({bare})"
    return bare or "waits"


@dataclass
class Live:
    """What is alive.

    Attributes:
        tasks: state and words of each task of the iteration that somebody works on, or will.
        launcher: who holds the run (a launcher on this machine, or a stage that submits), in words; empty where nobody does.
        note: why the scheduler could not be asked; empty where it could, or need not be.
        jobs: number of tasks that the scheduler holds.
        paused: whether the run was paused.
        given_up: tasks that the scheduler holds because it could not start them.
    """

    tasks: dict[Key, tuple[TaskState, str]] = field(default_factory=dict)
    launcher: str = ""
    note: str = ""
    jobs: int = 0
    paused: bool = False
    given_up: int = 0


def look_live(run: Run, iteration: int) -> Live:
    """Asks leases, and on SLURM squeue. A scheduler that does not answer is told in `note`, and the rest stands."""
    live = Live(paused=run.layout.paused.exists())
    lease = read_fast(str(run.layout.lease))
    if lease and beats(lease):
        live.launcher = f"process {lease.get('pid')} on {lease.get('host')}"
    live.tasks.update(leased(run, iteration))
    if run.config.cluster.kind == "slurm":
        try:
            _ask_slurm(run, iteration, live)
        except ClusterError as error:
            live.note = f"{error.message}; what waits in the queue is not known"
    return live


def _ask_slurm(run: Run, iteration: int, live: Live) -> None:
    from undo_hpc.cluster.base import JobState
    from undo_hpc.cluster.journal import SubmissionJournal
    from undo_hpc.cluster.profile import Profile
    from undo_hpc.cluster.slurm import SlurmCluster

    users = SubmissionJournal(run.layout.submissions).users()
    for job in SlurmCluster(Profile(), run.layout.code, users, run.layout.root).live_jobs(run.id):
        live.jobs += 1
        live.given_up += job.state is JobState.GIVEN_UP
        if job.iteration != iteration:
            continue
        key = job.stage, job.index or 0
        name = job.task_id or job.id
        if job.state in (JobState.RUNNING, JobState.STOPPING):
            word = "saves and stops" if job.state is JobState.STOPPING else ""
            live.tasks[key] = "running", word or f"job {name}"
        elif key not in live.tasks:
            live.tasks[key] = "waiting", f"job {name}: {explain_reason(job.reason)}"


def leased(run: Run, iteration: int) -> Mapping[Key, tuple[TaskState, str]]:
    """Tasks whose owner is alive, by their leases (which are gone when a task ends)."""
    found: dict[Key, tuple[TaskState, str]] = {}
    folder = run.layout.iteration(iteration).leases
    for path in folder.glob("[!.]*.lease"):
        data = read_fast(str(path))
        stage, _, index = path.stem.rpartition("-")
        if data and stage and index.isdigit() and beats(data):
            job = f", job {data['job']}" if data.get("job") else ""
            found[stage, int(index)] = "running", f"on {data.get('host')}{job}"
    return found


def beats(lease: dict[str, Any]) -> bool:
    """Whether a lease's owner is alive: on this host its process is asked, elsewhere its heartbeat."""
    if lease.get("host") == socket.gethostname():
        alive = alive_here(int(lease.get("pid", 0)), str(lease.get("start")))
        if alive is not None:
            return alive
    return time.time() - float(lease.get("heartbeat", 0)) <= STALE_S
