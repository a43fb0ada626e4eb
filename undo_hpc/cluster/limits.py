"""What a cluster allows and which version of SLURM it has, as SLURM says it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

from undo_hpc.cluster.commands import config_values, run
from undo_hpc.errors import ClusterError
from undo_hpc.system.ownership import user_name


@dataclass(frozen=True)
class Limits:
    """What `scontrol show config` says and we need."""

    max_array_size: int
    kill_wait_s: int
    requeue: bool
    version: tuple[int, int] = (0, 0)

    @property
    def grace_mark(self) -> bool:
        """Whether a job that was preempted with a grace time is requeued by SLURM when it ends (24.05, its changelog)."""
        return self.version >= (24, 5)


def parse_config(text: str) -> Limits:
    """Limits from the text of `scontrol show config`."""
    values = config_values(text)

    def number(key: str, default: int) -> int:
        found = re.match(r"\d+", values.get(key, ""))
        return int(found[0]) if found else default

    version = re.match(r"(\d+)\.(\d+)", values.get("SLURM_VERSION", ""))
    return Limits(
        number("MaxArraySize", 1001),
        number("KillWait", 30),
        number("JobRequeue", 1) == 1,
        (int(version[1]), int(version[2])) if version else (0, 0),
    )


def federated_cluster(text: str) -> str:
    """PURE: the name of this cluster where it is part of a federation, by `scontrol show federation`; else empty.

    There, a job without a cluster may start on any of them, where the run directory need not be.
    """
    own = re.search(r"^Self:\s*([^:\s]+):", text, re.MULTILINE)
    return own[1] if own and re.search(r"^Federation:[^\S\n]*\S", text, re.MULTILINE) else ""


def ask_federated_cluster() -> str:
    """The same of this cluster; empty where SLURM does not say."""
    with contextlib.suppress(ClusterError):
        return federated_cluster(run(["scontrol", "show", "federation"]))
    return ""


def _submit_limits() -> list[tuple[str, str, int]]:
    """MaxSubmitJobs of association and quality of service, where SLURM keeps accounts: (account or qos, its name, the limit)."""
    found = []
    user = user_name(os.geteuid())
    for kind, *command in (
        ("account", "show", "assoc", f"user={user}", "format=account,maxsubmit"),
        ("qos", "show", "qos", "format=name,maxsubmitpu"),
    ):
        with contextlib.suppress(ClusterError):
            for line in run(["sacctmgr", "-nP", *command], timeout=20).splitlines():
                name, _, limit = line.rpartition("|")
                if limit.strip().isdigit():
                    found.append((kind, name, int(limit)))
    return list(dict.fromkeys(found))


def submit_limits_of_user() -> str:
    """The same as the end of a sentence."""
    said = [f"{name} {limit}" for _, name, limit in _submit_limits()]
    return f"; limits of submitted jobs: {', '.join(said)}" if said else ""


def most_jobs(account: str | None, qos: str | None) -> int | None:
    """How many jobs the user may have in the queue with an account (of several the smallest, where none is named) and a quality of
    service; None where SLURM does not say."""
    asked = {"account": account, "qos": qos or "normal"}
    return min(
        (limit for kind, name, limit in _submit_limits() if name == (asked[kind] or name)), default=None
    )
