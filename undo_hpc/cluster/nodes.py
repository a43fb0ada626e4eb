"""The nodes of a partition as sinfo lists them, and whether those that are away now could run what none of the others can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from undo_hpc.cluster.profile import StageProfile

NODES = ["sinfo", "-h", "-N", "-o", "%P|%a|%T|%c|%m|%G"]
# States of nodes that take jobs, now or when others end. A star behind one says that the node does not answer.
_PRESENT = ("idle", "mixed", "allocated", "completing", "planned", "power")


@dataclass(frozen=True)
class Node:
    """A node in a partition: whether it is away (down, drained, not answering, or its partition is), its CPUs, memory (MB), GPUs."""

    partition: str
    default: bool
    away: bool
    cpus: int
    memory_mb: int
    gpus: int


def gpus_of(gres: str) -> tuple[int, str]:
    """PURE: number and type of the GPUs in sinfo's `%G`; a type may begin with a digit: gpu:3090:8, gpu:1g.10gb:7."""
    found = re.search(r"gpu:(?:([^:,()]+):)?(\d+)(?![\w.])", gres)
    return (int(found[2]), found[1] or "") if found else (0, "")


def number_of(text: str) -> int:
    """PURE: sinfo's number of CPUs or memory; `16+` says that nodes of one line differ."""
    return int(re.sub(r"\D", "", text) or 0)


def parse_nodes(text: str) -> list[Node]:
    """PURE: what NODES prints, a line a node and partition."""
    nodes = []
    for line in text.splitlines():
        if line.count("|") < 5:  # with several clusters: CLUSTER: NAME
            continue
        name, up, state, cpus, memory, gres = line.strip().split("|", 5)
        away = up != "up" or "*" in state or not state.startswith(_PRESENT)
        nodes.append(
            Node(
                name.rstrip("*"),
                name.endswith("*"),
                away,
                number_of(cpus),
                number_of(memory),
                gpus_of(gres)[0],
            )
        )
    return nodes


def wait_for_nodes(nodes: Sequence[Node], asked: StageProfile) -> str:
    """PURE: what is away, where a task's request could be served once it is back; empty where it never could.

    `sbatch --test-only` looks at the nodes that are there alone, while sbatch takes the job and SLURM waits for the others.
    """
    names = asked.partition.split(",") if asked.partition else []
    there = [node for node in nodes if (node.partition in names if names else node.default)]
    fitting = [
        node
        for node in there
        if node.cpus >= (asked.tasks_per_node or 1) * (asked.cpus_per_task or 1)
        and node.memory_mb >= 1024 * (asked.memory_gb or 0)
        and node.gpus >= (asked.gpus_per_node or 0)
    ]
    away = sum(node.away for node in fitting)
    if not away or len(fitting) < (asked.nodes or 1):
        return ""
    return f"{away} of the {len(fitting)} nodes that could are down, drained or closed"
