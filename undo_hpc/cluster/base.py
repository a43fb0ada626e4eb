"""The contract between `control/` (what to submit) and a cluster (how).

`control/` decides from evidence on disk which tasks are missing and hands them over as `Submission`s; a cluster
turns each into jobs, names them so that they are found again after any crash, and tells which are still alive.
Nothing here may decide whether a task is complete: that is the manifests' business alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from undo_hpc.config.schema import StageResources


class JobState(StrEnum):
    """What the scheduler says of a job that it still knows. Anything it no longer lists is not alive."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"  # completing, or being requeued: it may still write
    HELD = "held"  # pending, and it will not start by itself: somebody held it
    ABANDONED = (
        "abandoned"  # held by the scheduler itself: its node failed to start it, or it was requeued too often
    )
    STUCK = "stuck"  # pending behind a dependency that can never be fulfilled
    BEYOND = (
        "beyond"  # pending, and it asks for what its partition, account or quality of service never gives
    )


# not started, and it can still start
WAITING = (JobState.PENDING, JobState.HELD, JobState.ABANDONED, JobState.BEYOND)


@dataclass(frozen=True, slots=True)
class Submission:
    """Tasks of one stage, to be submitted together.

    Attributes:
        run_dir: the run directory, absolute, seen by every compute node.
        iteration: 0-based.
        stage: its name.
        indices: the task indices to run, sorted; None for a stage of a single task (it runs as index 0).
        resources: what a task needs; values that are None come from the profile.
        after: job ids that these tasks wait for. Every part of an array stands here.
        tag: the run's tag (`Run.id`, eight hexadecimal digits), by which its jobs are known.
        attempt: 0 at first; counts the times that this stage's tasks were submitted again.
        total: number of tasks of the stage in the plan (an upper bound of the indices); 0 where not known.
        continues: whether a resubmitting stage submits what follows; False for work by hand.
        ahead: its iteration is not planned yet: of N elements, element k runs the tasks k, k + N, ... of the plan that exists by then.
    """

    run_dir: Path
    iteration: int
    stage: str
    indices: tuple[int, ...] | None
    resources: StageResources
    after: tuple[str, ...] = ()
    tag: str = ""
    attempt: int = 0
    total: int = 0
    continues: bool = True
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job, or one task of an array, that the scheduler still holds.

    Attributes:
        id: the id that `after` and `cancel` take: of a whole array, its array id.
        index: the task index in the stage's plan (offset and grouping undone); None for a single task.
        name: the job's name, unique per submission part.
        state: see JobState.
        reason: the scheduler's word on why it waits, e.g. Resources, Dependency, BeginTime.
        stage, iteration, attempt: as submitted.
        task_id: the scheduler's own name of this one task, e.g. 123_4.
        gone: the run directory that it was submitted in, where there is none of that name any more; else empty.
        stride: of a task that was submitted ahead of its plan: it runs the tasks `index`, `index` + `stride`, ...; else 0.
    """

    id: str
    index: int | None
    name: str
    state: JobState
    reason: str
    stage: str
    iteration: int
    attempt: int = 0
    task_id: str = ""
    gone: str = ""
    stride: int = 0


class Cluster(Protocol):
    """A place that runs tasks without a process of ours staying behind."""

    def check(self, submissions: Sequence[Submission]) -> None:
        """Asks whether all of these would be accepted, and submits none.

        Raises:
            ClusterError: the cluster cannot be reached, or refuses (partition, account, GPUs, limits).
        """

    def submit(self, submission: Submission) -> tuple[str, ...]:
        """Submits the tasks; returns the ids of all parts, in order.

        An intent is made durable before, the id after; `recover` finds what a crash left between the two.

        Raises:
            ClusterError: refused or unreachable. Parts that were accepted before the refusal are cancelled.
        """

    def places(self, submission: Submission) -> int:
        """How many jobs in the queue these tasks are, as limits count them: each element of an array is one."""

    def submit_limit(self) -> str:
        """How many jobs the user may have in the queue, as the end of a sentence; empty where that is not known."""

    def recover(self, run_dir: Path, tag: str) -> None:
        """Completes the journal with the ids of jobs that were submitted but not recorded (a launcher died between)."""

    def live_jobs(self, tag: str) -> list[LiveJob]:
        """All jobs of the run that the scheduler still holds, one entry a task.

        Raises:
            ClusterError: the scheduler cannot be reached.
        """

    def require_listed(self, names: Mapping[str, str]) -> None:
        """Before work is submitted again: that its last jobs, which `live_jobs` did not list, are really gone.

        Args:
            names: their names by their ids.

        Raises:
            ClusterError: one of them is queued or runs, or the scheduler cannot be reached.
        """

    def redirect(self, ids: Iterable[str], after: Sequence[str]) -> None:
        """Makes pending jobs wait for `after` instead of what they wait for now. Jobs that are gone are skipped."""

    def release(self, task_ids: Iterable[str]) -> None:
        """Lets tasks that the scheduler has abandoned wait for a node again. Raises ClusterError where that is refused."""

    def cancel(self, ids: Iterable[str]) -> None:
        """Ends the jobs. Ids that are gone are skipped."""

    def pause(self, tag: str) -> int:
        """Cancels what waits, and asks what runs to save and stop without starting again; returns the number of jobs."""
