"""The run that is disturbed: one iteration with all its stages, a real training, and answers that need no model."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.slurm.small import Campaign, make_campaign

REPO = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).with_name("shim")
LATE_S = 4.0  # how late names show; tasks wait for `visible_within_s`


def small_run(
    folder: Path, seconds: float = 0.12, shards: int = 3, evaluate: int = 1000, epochs: int = 6
) -> Campaign:
    """The campaign. Its jobs may be submitted often: eight faults in a run of a minute are no life's.

    Args:
        seconds: of each answer.
        shards: of generate.
        evaluate: problems a task of evaluate.
        epochs: of the training; eight steps each, fifty a second.
    """
    engine = {"name": "tests.chaos.engine:Answers", "options": {"seconds": seconds}}
    campaign = make_campaign(
        folder, plugins=[str(REPO)], generate__engine=engine, evaluate__engine=engine, generate__shards=shards,
        evaluate__problems_per_task=evaluate,
        train__epochs=epochs, train__checkpoint={"every_steps": 4},
        cluster__max_resubmits=40, cluster__max_preemptions=100,
    )  # fmt: skip
    # A step whose slurmstepd was killed as it began can hang for ever in srun: the time limit ends it.
    limit = campaign.profile["defaults"] | {"minutes": 8}
    campaign.profile |= {"restart_delay_s": 3, "array_parallelism": 3, "defaults": limit}
    return campaign


def long_run(folder: Path) -> Campaign:
    """The same with more tasks, and more time in which a fault can hit one."""
    return small_run(folder, seconds=0.3, shards=4, evaluate=16, epochs=36)


def with_weather(campaign: Campaign, rng: random.Random, wanted: str) -> dict[str, str]:
    """Puts it into the jobs; returns the variables for a launcher. `late`: files show late between processes. `clocks`: they are wrong by
    up to five minutes (munge allows no more), and jump."""
    said = {"PYTHONPATH": str(SHIM), "CHAOS_ROOT": str(campaign.run_dir)}
    if wanted == "late":
        campaign.profile["visible_within_s"] = 4 * LATE_S
        said["CHAOS_LATE_S"] = f"{rng.uniform(0.3, 1.0) * LATE_S:.1f}"
    elif wanted == "clocks":
        said["CHAOS_CLOCKS"] = "0 -240 45 280"
    else:
        return {}
    campaign.profile["setup"] = [f"export {name}='{value}'" for name, value in said.items()]
    return said


@contextlib.contextmanager
def own_disk(place: Path) -> Iterator[bool]:
    """A file system in memory for a run, so that its disk can be full; yields whether there is one (mounting needs the right to)."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = _mount("-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", str(place))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", "-R", str(place)], check=False)


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


def fill(place: Path) -> None:
    """No page of the file system is left."""
    room = os.statvfs(place)
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    _mount("-o", f"remount,size={max(used // 1024, 4)}k", str(place))


def empty(place: Path) -> None:
    """There is room again."""
    _mount("-o", "remount,size=512m", str(place))


def make_read_only(run_dir: Path) -> None:
    """Whoever opens a file below by its path from now on may read only; what is open already is not touched."""
    if not (_mount("--bind", str(run_dir), str(run_dir)) and _mount("-o", "remount,bind,ro", str(run_dir))):
        raise RuntimeError(f"{run_dir} cannot be made read-only")


def make_writable(run_dir: Path) -> None:
    """The end of that."""
    subprocess.run(["umount", "-l", str(run_dir)], check=True)


def ids_of(run_dir: Path) -> Counter[str]:
    """Every row of the shards: file's folder, problem and sample, counted."""
    found: Counter[str] = Counter()
    for path in [
        *run_dir.glob("iter_*/generate/shard-*.jsonl"),
        *run_dir.glob("iter_*/evaluate/*/shard-*.jsonl"),
    ]:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found[f"{path.parent.name} {row['problem_id']} {row['attempt']}"] += 1
    return found


def files_of(run_dir: Path) -> set[str]:
    """Names of files, without what may differ: logs, events, the copy of the code, progress, which checkpoints are kept; an undisturbed run
    on one machine has no jobs."""
    left_out = {
        "logs",
        "events",
        "code",
        "progress",
        "checkpoints",
        "profile.resolved.json",
        "submissions.jsonl",
    }
    found = set()
    for path in run_dir.rglob("*"):
        name = path.relative_to(run_dir)
        if path.is_file() and (not left_out & set(name.parts) or name.name.endswith(".tmp")):
            found.add(re.sub(r"encoded-.*\.npz", "encoded.npz", name.as_posix()))
    return found
