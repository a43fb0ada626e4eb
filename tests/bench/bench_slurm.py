"""S1 to S4 on a real SLURM with stock delays: restart after a requeue, the hop between stages, the submission of 10,000 shards, the hop
behind a stage that was preempted.

The worker is a stand-in that exits at once, so that the scheduler and our batch script are measured and nothing else.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.bench.frame import Measure, Skipped
from tests.slurmlab import Lab, LabSettings, missing_programs
from tests.slurmlab.processes import installed_version, wait_until
from undo_hpc.cluster.base import Submission
from undo_hpc.cluster.profile import Profile, StageProfile
from undo_hpc.cluster.slurm import SlurmCluster
from undo_hpc.config.schema import StageResources

RESTARTS, HOPS, PREEMPTED = 6, 6, 3
# As a cgroup does with all that a batch script leaves behind: srun, and first its child that would tell SLURM.
KILLED = "trap 'for p in $(pgrep -P $$ -x srun); do kill -KILL $(pgrep -P $p) $p; done' EXIT"


def _stand_in(folder: Path) -> Path:
    """A 'Python' that asks to be requeued RESTARTS times for the stage train, waits to be preempted once for the stage baseline, and is
    content with all others."""
    path = folder / "python"
    path.write_text(f"""#!/bin/bash
trap 'exit 75' TERM
echo "$(date +%s.%N) began $SLURM_RESTART_COUNT" >> {folder}/times.$4
[ "$4" = train ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {RESTARTS} ] && code=75
[ "$4" = baseline ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] && {{ sleep 100 & wait; }}
echo "$(date +%s.%N) ended" >> {folder}/times.$4
exit ${{code:-0}}
""")
    path.chmod(0o755)
    return path


def _times(folder: Path, stage: str, word: str) -> list[float]:
    return [float(t) for t in re.findall(rf"(\S+) {word}", (folder / f"times.{stage}").read_text())]


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def measures() -> Iterator[Measure | Skipped]:
    """Restart, hop, submission."""
    if lacking := missing_programs():
        for name in ("S1", "S2", "S3", "S4"):
            yield Skipped(name, f"not installed: {', '.join(lacking)}")
        return
    with (
        tempfile.TemporaryDirectory() as text,
        Lab(LabSettings(cred_expire=120, max_array=1001, grace=60)) as lab,
    ):
        folder = Path(text)
        with patch.dict(os.environ, {"SLURM_CONF": str(lab.slurm_conf), "PATH": lab.env()["PATH"]}):
            for measure in _measure(lab, folder):
                measure.extra["slurm"] = installed_version()
                yield measure


def _measure(lab: Lab, folder: Path) -> Iterator[Measure]:
    profile = Profile(
        python=str(_stand_in(folder)),
        gpu_syntax="none",
        defaults=StageProfile(partition="low", memory_gb=0.1, cpus_per_task=1),
        stages={"baseline": StageProfile(partition="lowg")},
    )
    cluster = SlurmCluster(profile, folder)

    def submit(
        stage: str, after: tuple[str, ...] = (), indices: tuple[int, ...] | None = None, total: int = 1
    ) -> tuple[str, ...]:
        return cluster.submit(
            Submission(folder, 0, stage, indices, StageResources(), after=after, tag="0" * 8, total=total)
        )

    submit("train")
    lab.wait_empty(RESTARTS * 130)
    delays = [
        b - a
        for a, b in zip(_times(folder, "train", "ended"), _times(folder, "train", "began")[1:], strict=False)
    ]
    yield Measure(
        "S1",
        "seconds from a requeue to the restart, on a cluster that holds requeued jobs back for 120 s",
        statistics.median(delays),
        None,
        "<=5",
        "s",
        extra={"longest": max(delays), "restarts": len(delays)},
    )

    ids: tuple[str, ...] = ()
    for _ in range(HOPS):
        ids = submit("evaluate", ids)
    lab.wait_empty(120)
    ours = [
        b - a
        for a, b in zip(
            _times(folder, "evaluate", "ended"), _times(folder, "evaluate", "began")[1:], strict=False
        )
    ]
    last = ""
    for _ in range(HOPS):
        wrap = f"date +%s.%N' began' >> {folder}/times.empty; date +%s.%N' ended' >> {folder}/times.empty"
        last = lab.run(
            "sbatch",
            "--parsable",
            "-o",
            "/dev/null",
            *(["-d", f"afterok:{last}"] if last else []),
            "--wrap",
            wrap,
        ).strip()
    lab.wait_empty(120)
    empty = [
        b - a
        for a, b in zip(_times(folder, "empty", "ended"), _times(folder, "empty", "began")[1:], strict=False)
    ]
    yield Measure(
        "S2",
        "seconds of a hop between stages over that of an empty chain",
        statistics.median(ours) - statistics.median(empty),
        None,
        "<=3",
        "s",
        extra={"hop": statistics.median(ours), "empty_hop": statistics.median(empty)},
    )

    before = _files(folder)
    began = time.perf_counter()
    ids = submit("generate", (), tuple(range(10_000)), 10_000)
    seconds = time.perf_counter() - began
    cluster.cancel(ids)
    yield Measure(
        "S3",
        "seconds to submit 10,000 shards where an array holds 1,001",
        seconds,
        None,
        "<=5",
        "s",
        extra={"sbatch_calls": len(ids), "files": _files(folder) - before},
    )

    hops, restarts = _behind_a_preempted_stage(lab, folder, cluster)
    killing = SlurmCluster(profile.model_copy(update={"setup": [KILLED]}), folder)
    yield Measure(
        "S4",
        "seconds from the end of a stage that was preempted with a grace time to the start of the next",
        statistics.median(hops),
        None,
        "<=3",
        "s",
        extra={
            "longest": max(hops),
            "restart": statistics.median(restarts),
            "preempted": len(hops),
            "where_srun_is_killed": statistics.median(_behind_a_preempted_stage(lab, folder, killing)[0]),
        },
    )


def _behind_a_preempted_stage(
    lab: Lab, folder: Path, cluster: SlurmCluster
) -> tuple[list[float], list[float]]:
    """A job is preempted with a grace time, saves and starts again; how long does the next one wait for it when it is complete?

    Returns the seconds of the hops, and from each preemption to the restart.
    """
    hops, restarts = [], []
    for _ in range(PREEMPTED):
        for name in ("baseline", "advance"):
            (folder / f"times.{name}").unlink(missing_ok=True)
        (first,) = cluster.submit(
            Submission(folder, 0, "baseline", None, StageResources(), tag="0" * 8, total=1)
        )
        cluster.submit(
            Submission(folder, 0, "advance", None, StageResources(), after=(first,), tag="0" * 8, total=1)
        )
        wait_until(lambda: (folder / "times.baseline").exists(), 60, "the first start")
        node = lab.show(first)["NodeList"]
        asked = time.time()
        lab.run("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        lab.wait_empty(600)
        restarts.append(_times(folder, "baseline", "began")[1] - asked)
        hops.append(_times(folder, "advance", "began")[0] - _times(folder, "baseline", "ended")[0])
    return hops, restarts
