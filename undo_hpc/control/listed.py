"""Before a stage is submitted again: the scheduler's list of jobs may be incomplete, and its work be done twice."""

from __future__ import annotations

from collections.abc import Collection

from undo_hpc.cluster.base import Cluster
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.pipeline.run import Run


def require_gone(
    run: Run, cluster: Cluster, iteration: int, stages: Collection[str], listed: Collection[str]
) -> None:
    """That the last jobs of these stages, by the journal, are listed or really gone.

    Args:
        listed: ids of the jobs that the scheduler lists, and of the one that calls.

    Raises:
        ClusterError: one is not listed, and the scheduler holds it all the same.
    """
    last: dict[str, dict[str, str]] = {}
    attempt: dict[str, int] = {}
    for entry in SubmissionJournal(run.layout.submissions).entries():
        if entry.iteration != iteration or entry.stage not in stages or not entry.job_id:
            continue
        if entry.attempt != attempt.get(entry.stage):
            attempt[entry.stage], last[entry.stage] = entry.attempt, {}
        last[entry.stage][entry.job_id] = entry.name
    cluster.require_listed(
        {job: name for jobs in last.values() for job, name in jobs.items() if job not in listed}
    )
