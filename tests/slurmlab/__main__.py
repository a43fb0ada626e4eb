"""`make slurm-lab`: a cluster to play with, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.slurmlab.lab import Lab, missing_programs
from tests.slurmlab.processes import installed_version
from tests.slurmlab.settings import LabSettings

REPO = Path(__file__).resolve().parents[2]


def main() -> int:
    """Starts the cluster, prints what to try, waits for Ctrl-C or SIGTERM, and cleans up."""
    parser = argparse.ArgumentParser(
        description="A private SLURM on this machine: four virtual nodes, pretended GPUs."
    )
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument(
        "--accounting",
        choices=("none", "dbd"),
        default="none",
        help="dbd adds slurmdbd with MariaDB, for sacct",
    )
    parser.add_argument("--prefix", type=Path, help="folder of its files (a temporary one by default)")
    args = parser.parse_args()
    settings = LabSettings(nodes=args.nodes, accounting=args.accounting)
    lacking = missing_programs(settings)
    if lacking:
        print(
            f"not installed: {', '.join(lacking)}\n  -> Debian/Ubuntu: apt-get install -y --no-install-recommends slurm-wlm munge"
            + (" slurmdbd mariadb-server" if args.accounting == "dbd" else ""),
            file=sys.stderr,
        )
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    prefix = args.prefix or Path(tempfile.mkdtemp(prefix="undolab-", dir="/tmp"))
    python = Path(sys.executable)
    shown = python.relative_to(REPO) if python.is_relative_to(REPO) else python
    version = os.environ.get("UNDO_SLURM_VERSION", "")
    enter = (
        f"  {shown} -m tests.slurmlab.versions {version} -- bash      # as root: commands of that version\n"
        if version
        else ""
    )
    with Lab(settings, prefix, keep=args.prefix is not None) as lab:
        print(
            f"""A SLURM {installed_version()} of {settings.nodes} nodes is up: partitions low (default), lowg (with grace time), high (preempts both).

In another terminal, from {REPO}:

{enter}  export SLURM_CONF={lab.slurm_conf}
  {shown} launchers/run_iteration.py --config tiny --profile slurm/profiles/lab.yaml --run-dir checkpoints/lab

It submits three iterations of the tiny world and returns. To watch them, to stop, and to go on (the launcher's command again):

  {shown.parent}/undo-hpc status checkpoints/lab --watch            squeue            sinfo
  {shown.parent}/undo-hpc pause checkpoints/lab

To preempt them:  sbatch -p high --exclusive -N {settings.nodes} --wrap 'sleep 20'
Logs of the daemons: {lab.places.log}
Ctrl-C stops the cluster and everything that runs on it.""",
            flush=True,
        )
        stop.wait()
        print("\nstopping ...", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
