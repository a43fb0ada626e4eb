"""SLURM, where there is one: is it there, does it answer, what does it allow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from undo_hpc.control.checks.finding import Finding
from undo_hpc.doctor.submitting import check_submitting
from undo_hpc.errors import ClusterError, UndoError

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")


def check_slurm(*, wanted: bool, profile: str = "") -> Iterator[Finding]:
    """The scheduler and the profile.

    Args:
        wanted: the run is to go to a cluster, so that an absent SLURM is an error.
    """
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        detail = "not here" if len(absent) == len(COMMANDS) else f"{', '.join(absent)} missing from PATH"
        if wanted:
            yield Finding("error", "SLURM", detail, "log in to a submit node, or load the module of SLURM")
        else:
            yield Finding("ok", "SLURM", f"{detail}; runs on this machine need none")
        return
    from undo_hpc.cluster.commands import run
    from undo_hpc.cluster.limits import parse_config

    try:
        limits = parse_config(run(["scontrol", "show", "config"]))
        version = run(["sinfo", "--version"]).strip()
    except ClusterError as error:
        yield Finding(
            "error" if wanted else "warning",
            "SLURM",
            error.message,
            error.hint if wanted else "runs on this machine need none",
        )
        return
    yield Finding(
        "ok",
        "SLURM",
        f"{version}; arrays below {limits.max_array_size}, {limits.kill_wait_s} s to save at the end",
    )
    if not limits.requeue:
        yield Finding(
            "warning",
            "SLURM",
            "JobRequeue is off on this cluster",
            "set `requeue: false` in the profile; stopped tasks are then submitted again",
        )
    try:
        partitions = run(["sinfo", "-h", "-o", "%P %a %l %D %G"]).strip().splitlines()
    except ClusterError as error:
        yield Finding("warning", "SLURM", error.message, error.hint)
        return
    up = [line.split() for line in partitions if line.split()[1:2] == ["up"]]
    if up:
        yield Finding(
            "ok", "partitions", "; ".join(f"{p[0]} {p[3]} nodes, limit {p[2]}, {p[4]}" for p in up[:6])
        )
    else:
        yield Finding("error", "partitions", "none is up", "wait, or ask the administrators")
    if profile:
        yield from _profile(profile)


def _profile(path: str) -> Iterator[Finding]:
    from undo_hpc.cluster.profile import load_profile

    try:
        profile = load_profile(path)
    except UndoError as error:
        yield Finding("error", "profile", error.message, error.hint)
    else:
        yield Finding("ok", "profile", str(Path(path)))
        yield from check_submitting(profile)
