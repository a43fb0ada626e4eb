"""A first profile from what SLURM says of itself: `undo-hpc doctor --write-profile FILE`. A person reads it before use."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import yaml

from undo_hpc.cluster.commands import config_values, require_slurm, run
from undo_hpc.cluster.nodes import gpus_of, number_of
from undo_hpc.cluster.signals import seconds_of
from undo_hpc.errors import ClusterError
from undo_hpc.system.ownership import user_name

DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Partition:
    """A partition as sinfo describes it: CPUs, memory (MB) and GPUs of a node, the time limit in minutes (None: no limit)."""

    name: str
    default: bool
    nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    gpu_type: str
    minutes: int | None


def parse_partitions(text: str) -> list[Partition]:
    """Partitions out of `sinfo -h -o '%P|%a|%l|%D|%c|%m|%G'`; of one with different nodes, the most common ones."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        if line.count("|") < 6:  # with several clusters: CLUSTER: NAME
            continue
        name, up, limit, nodes, cpus, memory, gres = line.strip().split("|", 6)
        if not up.startswith("up"):
            continue
        gpus, gpu_type = gpus_of(gres)
        seconds = seconds_of(limit)
        one = Partition(
            name.rstrip("*"),
            name.endswith("*"),
            int(nodes),
            number_of(cpus) or 1,
            number_of(memory),
            gpus,
            gpu_type,
            None if seconds is None else int(seconds // 60),
        )
        old = found.get(one.name)
        if old is None or (one.gpus > 0, one.nodes) > (old.gpus > 0, old.nodes):
            found[one.name] = one
    return list(found.values())


def choose(partitions: list[Partition]) -> tuple[Partition, Partition]:
    """The partition for models (GPUs first, then the default, then the most nodes), and the one for small CPU jobs."""
    if not partitions:
        raise ClusterError(
            "sinfo lists no partition that is up", hint="ask the cluster's operators, or try later"
        )
    models = max(partitions, key=lambda p: (p.gpus > 0, p.default, p.nodes))
    small = max(partitions, key=lambda p: (p.gpus == 0, p.default, p.nodes))
    return models, small


def propose_profile() -> str:
    """The text of a profile for the cluster at hand. Raises ClusterError where there is none or it does not answer."""
    require_slurm()
    cluster = os.environ.get("SLURM_CLUSTERS", "")
    partitions = parse_partitions(run(["sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G"], cluster=cluster))
    text = render(partitions, run(["scontrol", "show", "config"], cluster=cluster), _accounts())
    return text + (f"cluster: {_quoted(cluster)}          # SLURM_CLUSTERS\n" if cluster else "")


def _accounts() -> list[str]:
    if shutil.which("sacctmgr") is None:
        return []
    user = f"user={user_name(os.geteuid())}"
    said = ""
    try:  # the one that SLURM takes by itself first
        for what in (["user", user, "format=defaultaccount"], ["assoc", user, "format=account"]):
            said += run(["sacctmgr", "-n", "-P", "show", *what], timeout=20) + "\n"
    except ClusterError:
        return []  # a cluster without accounting has no accounts
    found = dict.fromkeys(line.strip() for line in said.splitlines() if line.strip())
    return sorted(found, key=lambda account: account == "root")  # SLURM's own, which is nobody's project


def _quoted(name: str) -> str:
    """The name as YAML: in quotes where it would be read as a number (accounts and GPUs are named so: 2024001, 3090)."""
    return yaml.safe_dump([name], default_flow_style=True, width=10**6).strip()[1:-1]


def render(partitions: list[Partition], config: str, accounts: list[str]) -> str:
    """PURE: the profile's text from what was asked of SLURM."""
    models, small = choose(partitions)
    values = config_values(config)
    share = max(1, models.gpus)
    cpus, memory = max(1, models.cpus // share), max(1, int(models.memory_mb * 0.9 / 1024 / share))
    minutes = min(models.minutes or DAY_MINUTES, 240)
    others = ", ".join(p.name for p in partitions if p.name != models.name)
    lines = [
        "# Proposed by `undo-hpc doctor --write-profile` from sinfo and scontrol show config.",
        "# Read it before use; slurm/profiles/example.yaml explains every key.",
        "defaults:",
        f"  partition: {_quoted(models.name)}" + (f"          # others: {others}" if others else ""),
        *(
            [
                f"  account: {_quoted(accounts[0])}"
                + (f"          # others of yours: {', '.join(accounts[1:])}" if accounts[1:] else "")
            ]
            if accounts
            else ["  # account: ...            # where the site charges accounts"]
        ),
        f"  cpus_per_task: {cpus}",
        f"  memory_gb: {memory}",
        f"  minutes: {minutes}"
        + (
            f"             # the partition allows {models.minutes}"
            if models.minutes
            else "             # the partition has no limit"
        ),
        *(["  gpus_per_node: 1"] if models.gpus else []),
        "stages:",
        *(
            [
                "  train:",
                f"    gpus_per_node: {models.gpus}",
                f"    tasks_per_node: {models.gpus}      # one process a GPU",
                f"    memory_gb: {memory * share}",
            ]
            if models.gpus
            else []
        ),
        *[
            line
            for stage in ("merge", "advance")
            for line in (
                f"  {stage}:",
                f"    partition: {_quoted(small.name)}",
                f"    cpus_per_task: {min(2, small.cpus)}",
                f"    memory_gb: {max(1, min(8, small.memory_mb // 2048))}",
                f"    minutes: {min(small.minutes or 60, 60)}",
            )
        ],
        f"gpu_syntax: {'gres' if models.gpus else 'none'}",
        *(
            [f"# gpu_type: {_quoted(models.gpu_type)}          # the only or most common type here"]
            if models.gpu_type
            else []
        ),
        f"requeue: {'false' if values.get('JobRequeue') == '0' else 'true'}",
        *(
            [
                "restart_delay_s: 30          # the site runs an epilog, which must have ended before a requeued job may start"
            ]
            if values.get("Epilog", "(null)") != "(null)"
            else []
        ),
        f"# MaxArraySize {values.get('MaxArraySize', '?')}, KillWait {values.get('KillWait', '?')}, preemption {values.get('PreemptType', '?')} "
        f"({values.get('PreemptMode', '?')})",
    ]
    return "\n".join(lines) + "\n"
