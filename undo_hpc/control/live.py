"""Who works on a run now: what the scheduler holds, and which leases have a live owner. Asks squeue once, never sacct."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from undo_hpc.cluster.base import JobState
from undo_hpc.cluster.states import state_of
from undo_hpc.errors import ClusterError, StorageError
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import Key, TaskState
from undo_hpc.storage.heartbeat import is_alive
from undo_hpc.storage.lease import read_lease

# The scheduler's reasons in words. What is not here is shown as squeue says it.
REASONS = {
    "Priority": "other jobs have a higher priority",
    "Resources": "next in the queue; no node is free yet",
    "Dependency": "waits for the stage before it",
    "DependencyNeverSatisfied": "waits for a job that failed; it will never start by itself",
    "BeginTime": "its start time has not come yet; a job that starts again is held back for a while",
    "JobArrayTaskLimit": "the limit of simultaneous tasks of its array is reached (array_parallelism)",
    "JobHeldUser": "held by a user; release it with: scontrol release JOB",
    "JobHeldAdmin": "held by the administrators",
    "JobHoldMaxRequeue": "SLURM holds it after too many restarts; run the launcher again to release it",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is closed",
    "PartitionTimeLimit": "asks for more time than the partition allows; lower cluster.resources.STAGE.minutes",
    "PartitionConfig": "asks for what no node of its partition has; lower cpus_per_task, memory_gb, gpus_per_node or nodes in the profile",
    "BadConstraints": "asks for a combination that no node offers; see `constraint` in the profile",
    "Nodes required for job are DOWN": "the nodes that it needs are down or reserved",
    "PartitionNodeLimit": "asks for more nodes than the partition has",
    "ReqNodeNotAvail": "the nodes that it needs are down or reserved",
    "NodeDown": "a node that it needs is down",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation has been deleted; fix `extra` in the profile",
    "ReservationInvalid": "its reservation is not valid; fix `extra` in the profile",
    "Licenses": "waits for a licence",
    "InvalidAccount": "the account is not valid; fix `account` in the profile",
    "InvalidQOS": "the quality of service is not valid; fix `qos` in the profile",
    "AccountNotAllowed": "the account may not use this partition",
    "QOSNotAllowed": "the quality of service may not use this partition",
    "MaxGRESPerAccount": "the account uses all GPUs that it may",
    "launch failed requeued held": "its node failed to start it and SLURM holds it; run the launcher again to release it",
    "user env retrieval failed requeued held": "its node could not load your environment and SLURM holds it; run the launcher again to release it",
    "SchedDefer": "the scheduler has not looked at it yet",
    "Cleaning": "its last start is still being cleaned up",
    "None": "just submitted",
}
# Families: how they begin, and whose limit it is.
_LIMITS = (
    ("QOS", "your quality of service"),
    ("Assoc", "your account"),
    (r"Max\w+PerAccount", "your account"),
    (r"Max\w+PerUser", "your user"),
    ("MaxMemPerLimit", "the partition"),
)


def explain_reason(reason: str) -> str:
    """The scheduler's reason in words: exact ones first, then families such as QOSMaxJobsPerUserLimit."""
    bare = reason.strip("()").split(",")[0].strip()
    if bare in REASONS:
        return REASONS[bare]
    for pattern, whose in _LIMITS:
        if re.match(pattern, bare):
            beyond = state_of("PENDING", bare) is JobState.BEYOND
            word = "asks for what {} does not allow" if beyond else "a limit of {} is reached"
            return f"{word.format(whose)} ({bare})"
    return bare or "waits"


@dataclass
class LiveTasks:
    """What is alive.

    Attributes:
        tasks: state and a short text for each task of the iteration that is running or queued.
        launcher: who holds the run (a launcher, or a stage that submits); empty where nobody does.
        note: why the scheduler could not be asked; empty where it could, or need not be.
        jobs: number of tasks that the scheduler holds.
        paused: whether the run was paused.
        abandoned: tasks that the scheduler holds because it could not start them.
        held: jobs of which somebody holds tasks.
        stuck: tasks behind one that failed, which SLURM never starts.
        beyond: the first task that asks for what it never gets, and why; empty where none does.
    """

    tasks: dict[Key, tuple[TaskState, str]] = field(default_factory=dict)
    launcher: str = ""
    note: str = ""
    jobs: int = 0
    paused: bool = False
    abandoned: int = 0
    held: list[str] = field(default_factory=list)
    stuck: int = 0
    beyond: str = ""


def query_live(run: Run, iteration: int, *, scheduler: bool = True) -> LiveTasks:
    """Asks leases, and on SLURM squeue. A scheduler that was not asked or does not answer is reported in `note`; the rest is valid."""
    live = LiveTasks(paused=run.layout.paused.exists())
    lease = read_lease(run.layout.lease)
    if lease and is_alive(lease):
        live.launcher = f"process {lease.get('pid')} on {lease.get('host')}"
    live.tasks.update(leased(run, iteration))
    if run.config.cluster.kind == "slurm" and not scheduler:
        live.note = "squeue was not asked; what waits in the queue is unknown"
    elif run.config.cluster.kind == "slurm":
        try:
            _ask_slurm(run, iteration, live)
        except (ClusterError, StorageError) as error:
            live.note = f"{error.message}; what waits in the queue is unknown"
    return live


def _ask_slurm(run: Run, iteration: int, live: LiveTasks) -> None:
    from undo_hpc.control.run_cluster import watched_cluster

    for job in watched_cluster(run).live_jobs(run.id):
        live.jobs += 1
        live.abandoned += job.state is JobState.ABANDONED
        live.stuck += job.state is JobState.STUCK
        if job.state is JobState.HELD and job.id not in live.held:
            live.held.append(job.id)
        if job.state is JobState.BEYOND:
            live.beyond = live.beyond or f"job {job.task_id} will never start: {explain_reason(job.reason)}"
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
    for path in run.layout.iteration(iteration).leases.glob("[!.]*.lease"):
        data = read_lease(path)
        stage, _, index = path.stem.rpartition("-")
        if data and stage and index.isdigit() and is_alive(data):
            job = f", job {data['job']}" if data.get("job") else ""
            found[stage, int(index)] = "running", f"on {data.get('host')}{job}"
    return found
