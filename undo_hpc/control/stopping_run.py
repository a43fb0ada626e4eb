"""Stopping a run on a cluster: pause, cancel, and the end of the teacher's servers. All data stays."""

from __future__ import annotations

from undo_hpc.control.position import latest_planned
from undo_hpc.control.run_cluster import open_cluster, run_lease
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import write_json


def pause(run: Run) -> int:
    """Lets running tasks save and stop, and cancels what waits; returns the number of jobs. The launcher resumes."""
    write_json(run.layout.paused, {"paused": True})
    with run_lease(run):  # whoever is submitting has finished before we look
        count = open_cluster(run, from_launcher=False).pause(run.id)
    run.events.append("paused", jobs=count)
    return count


def cancel(run: Run) -> int:
    """Ends all jobs of the run; all data stays. Returns the number of jobs."""
    cluster = open_cluster(run, from_launcher=False)
    ids = {job.id for job in cluster.live_jobs(run.id)}
    cluster.cancel(sorted(ids))
    with run_lease(run):  # a stage that was submitting has ended by now; cancel what it submitted, too
        late = {job.id for job in cluster.live_jobs(run.id)} - ids
        cluster.cancel(sorted(late))
    ids |= late
    run.events.append("cancelled", jobs=sorted(ids))
    return len(ids)


def stop_servers(run: Run) -> None:
    """Cancels the teacher's servers of the latest iteration: nothing asks them any more."""
    plan = run.plan(latest_planned(run))
    if plan is None or not plan.servers:
        return
    cluster = open_cluster(run, from_launcher=False)
    cluster.cancel(sorted({job.id for job in cluster.live_jobs(run.id) if job.stage == "serve"}))
