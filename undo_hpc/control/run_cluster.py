"""The SLURM cluster of a run: opened with the profile and the code that its jobs use, held by one process at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from undo_hpc.cluster.base import LiveJob
from undo_hpc.cluster.environment import pack_environment
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.limits import ask_federated_cluster
from undo_hpc.cluster.profile import Profile, load_profile, read_frozen
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.cluster.snapshot import take_snapshot
from undo_hpc.errors import ClusterError, ConfigError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.heartbeat import STALE_S
from undo_hpc.storage.lease import Lease
from undo_hpc.system.data_files import project_root
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint


def open_cluster(run: Run, *, from_launcher: bool) -> SlurmCluster:
    """The run's cluster. The launcher freezes profile and code for the jobs that it submits; jobs pass on what they were given."""
    if from_launcher:
        require_usable_path(run.layout)
        profile = _with_cluster(run, load_profile(run.config.cluster.profile))
        require_mountable(profile, run.layout)
        code = take_snapshot(run.layout.code) if run.config.cluster.code_snapshot else project_root()
        if profile.stage_to and not profile.stage_archive:
            archive = pack_environment(run.layout.code, profile.python)
            profile = profile.model_copy(update={"stage_archive": str(archive)})
        # without defaults: jobs in the queue read it with the code they were submitted with, which may not know a newer key
        write_json(run.layout.profile, profile.model_dump(mode="json", exclude_defaults=True))
    else:
        profile = kept_profile(run)
        code = Path(os.environ.get("UNDO_CODE") or project_root())
    return SlurmCluster(profile, code, SubmissionJournal(run.layout.submissions).users(), run.layout.root)


def kept_profile(run: Run) -> Profile:
    """The profile that the run was launched with; the stock one before the first launch on a cluster. Raises StorageError."""
    return read_frozen(run.layout.profile)


def _with_cluster(run: Run, profile: Profile) -> Profile:
    """The profile with the cluster that the run is on: its own, that of SLURM_CLUSTERS, that of the last launch, or, in a federation,
    the one where it is launched.

    Raises:
        ClusterError: jobs of the run are on another one: they would not be seen, and submitted again.
        ConfigError: SLURM_CLUSTERS names several.
    """
    asked = os.environ.get("SLURM_CLUSTERS") or os.environ.get("SBATCH_CLUSTERS") or ""
    before = kept_profile(run)
    name = profile.cluster or asked or before.cluster
    if not name and not run.layout.submissions.exists():
        name = ask_federated_cluster()  # a run stays on one cluster of a federation
    if not profile.cluster and ("," in asked or asked.lower() == "all"):
        raise ConfigError(
            f"SLURM_CLUSTERS is {asked}: a run is on one cluster", hint="set `cluster: NAME` in the profile"
        )
    if run.layout.submissions.exists() and name != before.cluster:
        jobs = _cluster_of(run, before).live_jobs(run.id)
        if jobs:
            here = before.cluster or "the default cluster"
            raise ClusterError(
                f"jobs of this run ({jobs[0].task_id}, ...) are on {here}, and {name} is asked for now",
                hint=f"{cli_hint(f'cancel {display_path(run.layout.root)}')} ends them and keeps all data; then run the same command again",
            )
    return profile.model_copy(update={"cluster": name})


def _cluster_of(run: Run, profile: Profile) -> SlurmCluster:
    users = SubmissionJournal(run.layout.submissions).users()
    return SlurmCluster(profile, run.layout.code, users, run.layout.root)


def watched_cluster(run: Run) -> SlurmCluster:
    """The run's cluster, to look at its jobs. Raises ClusterError, StorageError where its profile is damaged."""
    return _cluster_of(run, kept_profile(run))


def require_usable_path(layout: Layout) -> None:
    """Raises ConfigError where a run directory has a path that no batch file can name."""
    root = str(layout.root)
    if not root.isprintable():
        raise ConfigError(
            f"{root!r}: the path contains a character that does not print, such as a newline: it would break the lines of batch files",
            hint="choose another --run-dir",
        )
    if "\\" in root:
        raise ConfigError(
            f"{root}: its path contains a backslash, which SLURM leaves out of the names of log files: jobs would end without a trace",
            hint="choose a --run-dir without backslashes",
        )
    if os.pathsep in root:
        raise ConfigError(
            f"{root}: its path contains '{os.pathsep}', which separates entries of PYTHONPATH: jobs could not import the code from there",
            hint=f"choose a --run-dir without '{os.pathsep}'",
        )


def require_mountable(profile: Profile, layout: Layout) -> None:
    """Raises ConfigError where a container could not mount the run directory: commas and colons separate mounts."""
    if profile.container.kind != "none" and ("," in str(layout.root) or ":" in str(layout.root)):
        raise ConfigError(
            f"{layout.root}: its path contains ',' or ':', which separate the mounts of a container ({profile.container.kind})",
            hint="choose a --run-dir without them",
        )


def run_lease(run: Run) -> Lease:
    """Held by whoever plans and submits: one process at a time."""
    return Lease(run.layout.lease, f"the run directory {run.layout.root}", wait_s=2 * STALE_S)


def require_unmoved(run: Run, jobs: Sequence[LiveJob]) -> None:
    """Raises ClusterError where jobs know the run directory by a path that no longer exists: they would fail, and others wait for them."""
    lost = [job for job in jobs if job.gone]
    if lost:
        raise ClusterError(
            f"jobs of this run ({lost[0].task_id}, ...) are queued or running in {lost[0].gone}, which does not exist: was the run directory moved?",
            hint=f"{cli_hint(f'cancel {display_path(run.layout.root)}')} ends them and keeps all data; then run the same command again. "
            "Or move it back: a run directory must stay where it is while jobs wait for it",
        )


def require_unqueued(run: Run) -> None:
    """Before the run is continued on this machine: raises ClusterError while SLURM holds jobs that would work on it at the same time."""
    journal = SubmissionJournal(run.layout.submissions)
    if not journal.path.exists() or shutil.which("squeue") is None:
        return
    try:
        jobs = watched_cluster(run).live_jobs(run.id)
    except ClusterError:  # no answer: leases still keep two workers from one task
        return
    if jobs:
        root = display_path(run.layout.root)
        raise ClusterError(
            f"SLURM holds jobs of this run ({', '.join(sorted({job.id for job in jobs})[:3])}, ...), which would work on it at the same time",
            hint=f"{cli_hint(f'pause {root}')} lets them save and stop; then run the same command again. Or leave the run to them: "
            f"{launcher_hint(f'--run-dir {root} --cluster slurm')}",
        )
