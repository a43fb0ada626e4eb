"""Can the compute nodes see the run directory? Asked before anything is submitted: a job without its log just vanishes."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from undo_hpc.cluster.commands import run
from undo_hpc.errors import ClusterError

# File systems that live on one machine. Anything else is taken to be shared (nfs, lustre, gpfs, beegfs, ceph, wekafs, ...).
LOCAL = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "ramfs",
        "overlay",
        "overlayfs",
        "f2fs",
        "squashfs",
        "fuse.portal",
    }
)

MOUNTS = Path("/proc/self/mountinfo")


def file_system(path: Path, mountinfo: str) -> tuple[str, str]:
    """(type, mount point) of the file system that holds a path, out of the text of /proc/self/mountinfo."""
    best = ("", "")
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4])
        if path.is_relative_to(point) and len(point) >= len(best[1]):
            best = (right.split()[0], point)
    return best


def other_hosts(nodes: str, own: str) -> list[str]:
    """Nodes that are not this host, out of the text of `scontrol show node -o`."""
    found = []
    for line in nodes.splitlines():
        values = dict(re.findall(r"(\w+)=(\S+)", line))
        address = values.get("NodeAddr", "")
        if (
            values.get("NodeHostName", "").split(".")[0] == own
            or address.startswith("127.")
            or address == "localhost"
        ):
            continue
        if values.get("NodeName"):
            found.append(values["NodeName"])
    return found


def check_shared(run_dir: Path, cluster: str = "") -> None:
    """Raises ClusterError where the run directory lies on a file system of this machine alone, and the nodes are others."""
    # Another user's mount may have a name in any bytes.
    mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    kind, point = file_system(run_dir.resolve(), mounts)
    if kind not in LOCAL:
        return
    others = other_hosts(
        run(["scontrol", "show", "node", "-o"], cluster=cluster), socket.gethostname().split(".")[0]
    )
    if others:
        raise ClusterError(
            f"the run directory {run_dir} lies on {point} ({kind}), which the compute nodes ({', '.join(others[:3])}, ...) will not see",
            hint="choose a --run-dir on a shared file system; if the nodes do see it (this host exports it), add --set cluster.check_shared=false",
        )
