"""PURE: what squeue says of a job, as a state of ours."""

from __future__ import annotations

import re

from undo_hpc.cluster.base import JobState

# What squeue may list. Any other state is alive too (sites have newer ones, such as POWER_UP_NODE), unless it is an end.
_STATES = {
    "PENDING": JobState.PENDING,
    "CONFIGURING": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "COMPLETING": JobState.STOPPING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.HELD,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.STOPPING,
    "STOPPED": JobState.RUNNING,
    "PREEMPTED": JobState.STOPPING,
    "SPECIAL_EXIT": JobState.HELD,
    "RESV_DEL_HOLD": JobState.HELD,
}
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "REVOKED",
        "TIMEOUT",
    }
)
_HELD = re.compile(r"[Hh]eld|Hold|\bhold")  # but no QOSUsageThreshold
_ABANDONED = re.compile(r"launch failed|user env retrieval failed|JobHoldMaxRequeue", re.IGNORECASE)
# The job asks for what its partition, account or quality of service never gives: SLURM keeps it in the queue all the same
# (EnforcePartLimits=NO, the default), or the limits were lowered since.
_BEYOND = re.compile(
    r"PartitionConfig|PartitionTimeLimit|BadConstraints|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed|"
    r"ReservationDeleted|ReservationInvalid|"
    r"MaxMemPerLimit|(?:QOS|Assoc)(?:Max\w+Per(?:Job|Node)(?:Limit)?|Min\w+)"
)


def state_of(state: str, reason: str) -> JobState:
    """The state of a job by squeue's `%T` and `%r`."""
    known = _STATES.get(state, JobState.RUNNING)
    if known is JobState.PENDING and reason == "DependencyNeverSatisfied":
        return JobState.STUCK
    if known is JobState.PENDING and _BEYOND.fullmatch(reason.strip("()")):
        return JobState.BEYOND
    # One that is COMPLETING is queued again, while its last node still cleans up, or is silent.
    if known in (JobState.PENDING, JobState.STOPPING) and _HELD.search(reason):
        return JobState.ABANDONED if _ABANDONED.search(reason) else JobState.HELD
    return known
