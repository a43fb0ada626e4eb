"""What follows a preempted task starts when the task is complete, and not two minutes later (SLURM 24.05 and newer remember a
preemption with a grace time, and start such a task once more: slurm/README.md)."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.slurm.conftest import STOCK
from tests.slurmlab import Lab
from tests.slurmlab.processes import wait_until
from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.profile import Profile, StageProfile
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.config.schema import StageResources


def test_the_next_stage_follows_a_preempted_one_at_once(
    start_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """Three tasks on a node each: one saves in its grace time, one is complete just then, and one does not hear."""
    lab = start_lab(**STOCK, grace=5, kill_wait=10)
    stand_in = tmp_path / "python"  # worker RUN_DIR STAGE ...
    stand_in.write_text(f"""#!/bin/bash
case $4 in train) trap 'exit 75' TERM;; score) trap 'exit 0' TERM;; generate) trap '' TERM;; esac
[ "${{SLURM_PROCID:-0}}" = 0 ] && echo "$(date +%s.%N) $4 began $SLURM_RESTART_COUNT" >> {tmp_path}/times
[ $4 != advance ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] && {{ for (( i = 0; i < 1000; i++ )); do sleep 0.1; done; }}
echo "$(date +%s.%N) $4 ended" >> {tmp_path}/times
""")
    stand_in.chmod(0o755)
    stages = {
        "train": StageProfile(nodes=2, tasks_per_node=2, cpus_per_task=2, gpus_per_node=2),
        "score": StageProfile(cpus_per_task=2),
        "generate": StageProfile(gpus_per_node=1),
        "advance": StageProfile(partition="low"),
    }
    # As a cgroup does with all that a batch script leaves behind: srun, and first its child that would tell SLURM.
    kill = "trap 'for p in $(pgrep -P $$ -x srun); do kill -KILL $(pgrep -P $p) $p; done' EXIT"
    profile = Profile(
        python=str(stand_in),
        setup=[kill],
        defaults=StageProfile(partition="lowg", memory_gb=0.1),
        stages=stages,
    )
    cluster = SlurmCluster(profile, tmp_path)

    def submit(stage: str, iteration: int, *after: str) -> str:
        indices = (0,) if stage == "generate" else None
        return cluster.submit(
            Submission(
                tmp_path, iteration, stage, indices, StageResources(), after=after, tag="0" * 8, total=1
            )
        )[0]

    def times(word: str) -> list[float]:
        return [float(t) for t in re.findall(rf"(\S+) {word}", (tmp_path / "times").read_text())]

    for number, stage in enumerate(("train", "score", "generate")):
        first = submit(stage, number)
        submit("advance", number, first)
    wait_until(lambda: (tmp_path / "times").exists() and len(times(r"\w+ began")) == 3, 60, "all to start")
    for node in lab.nodes:
        lab.run("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    try:
        wait_until(lambda: len(times("advance began")) == 3, 100, "all three (SLURM waits for two minutes)")
    except TimeoutError:
        print((lab.places.log / "slurmctld.log").read_text(), lab.run("squeue"))
        raise
    text = (tmp_path / "times").read_text()
    assert len(times("train began")) == 2 and len(times("generate began")) >= 2, text
