"""What happens to files and disks. Damage of the same size is done where a stage is still to read the file: it compares digests, the launcher sizes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import campaign
from tests.chaos.trial import Note, Trial, kill
from tests.slurmlab.processes import wait_until

NEXT = {"generate": "merge", "merge": "train", "train": "evaluate", "evaluate": "advance"}


def torn(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(rng.randrange(size) if size else 0)


def flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def zeroed(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def deleted(path: Path, rng: random.Random) -> None:
    path.unlink()


HOW: dict[str, Callable[[Path, random.Random], None]] = {
    "torn": torn, "flipped": flipped, "zeroed": zeroed, "deleted": deleted,
}  # fmt: skip


def outputs(at: Path, stage: str) -> tuple[list[Path], list[Path]]:
    """Data files and manifests of a stage."""
    if stage == "generate":
        return sorted(at.glob("generate/shard-?????.jsonl")), sorted(at.glob("generate/*.manifest.json"))
    if stage == "evaluate":
        return sorted(at.glob("evaluate/*/shard-?????.jsonl")), sorted(at.glob("evaluate/*.manifest.json"))
    if stage == "merge":
        return sorted(at.glob("distilled/*.parquet")), [at / "merge.manifest.json"]
    weights = [
        *at.glob("student/*.safetensors"),
        at / "student" / "config.json",
        at / "student" / "tokenizer.json",
    ]
    return weights, [at / "train.manifest.json"]


def _before_it_is_read(how: str) -> Callable[[Trial, str], Note | None]:
    """The next stage is held until this one is complete, a file of it is damaged, and the next one may start."""

    def fault(trial: Trial, stage: str) -> Note | None:
        reader = NEXT.get(stage)
        waiting = trial.tasks(reader, "PENDING") if reader else []
        if not waiting or not trial.tasks(stage) or trial.restore:  # a disk that is harmed takes no damage
            return None
        jobs = sorted({job.split("_")[0] for job in waiting})
        trial.held |= set(jobs)
        for job in jobs:
            trial.lab.run("scontrol", "hold", job, check=False)
        try:
            wait_until(
                lambda: not any(trial.tasks(stage, s) for s in ("RUNNING", "COMPLETING", "PENDING")),
                400,
                f"{stage} to end",
            )
            data, manifests = outputs(trial.at, stage)
            there = [path for path in trial.rng.choice((data, data, manifests)) if path.exists()]
            if not there or any(not path.exists() for path in manifests):
                return None
            path = trial.rng.choice(there)
            HOW[how](path, trial.rng)
        except TimeoutError:
            return None
        finally:
            for job in jobs:
                trial.lab.run("scontrol", "release", job, check=False)
        return _note(f"{how}: shard, set, student or manifest", stage, path.relative_to(trial.at).as_posix())

    return fault


def _in_the_making(how: str) -> Callable[[Trial, str], Note | None]:
    """A checkpoint, the encoded set, or rows in the making are damaged, and their task is killed."""

    def fault(trial: Trial, stage: str) -> Note | None:
        if stage == "train":
            paths = [
                p
                for p in [
                    *trial.at.glob("train/checkpoints/step-*/**/*"),
                    *trial.at.glob("train/encoded-*.npz"),
                ]
                if p.is_file()
            ]
        else:
            paths = [p for p in trial.at.glob(f"{stage}/**/*.parts/*") if p.is_file()]
        workers = trial.workers(stage)
        if not paths or not workers or trial.restore:
            return None
        path = trial.rng.choice(sorted(paths))
        tasks = [pid for pid in workers if stage == "train" or trial.task_of(pid)[-5:] in path.parent.name]
        if not tasks:
            return None
        task = trial.task_of(tasks[0])
        for pid in tasks:
            kill(pid)
        try:
            # A flip among rows in the making is seen by nobody: they carry no digest until their shard has its manifest.
            HOW["torn" if how == "flipped" and stage != "train" else how](path, trial.rng)
        except FileNotFoundError:
            return None
        kind = "checkpoint or encoded set" if stage == "train" else "rows in the making"
        return _note(f"{how}: {kind}", stage, path.relative_to(trial.at).as_posix(), task)

    return fault


def _at_rest(how: str) -> Callable[[Trial, str], Note | None]:
    """A file of the finished run, of another size now; the launcher's command makes it again."""

    def fault(trial: Trial, stage: str) -> Note | None:
        data, manifests = outputs(trial.at, trial.rng.choice(list(NEXT)))
        path = trial.rng.choice(sorted([*data, *manifests]))
        if path.exists():
            HOW[how](path, trial.rng)
        return _note(f"{how}: file of the finished run", "end", path.relative_to(trial.at).as_posix())

    return fault


def _disk(
    kind: str, harm: Callable[[Path], None], end: Callable[[Path], None]
) -> Callable[[Trial, str], Note | None]:
    def fault(trial: Trial, stage: str) -> Note | None:
        if not trial.disk or trial.restore:
            return None
        place = trial.run_dir
        harm(place)
        seconds = trial.rng.uniform(0.5, 6.0)
        trial.later(seconds, lambda: end(place))
        return _note(kind, stage, f"for {seconds:.1f} s")

    return fault


def _note(kind: str, stage: str, what: str, task: str = "") -> Note:
    return Note(kind, stage, what, time.time(), task)


DAMAGE = {f"{how}: before it is read": _before_it_is_read(how) for how in HOW}
MAKING = {f"{how}: in the making": _in_the_making(how) for how in HOW}
AT_REST = {f"{how}: at rest": _at_rest(how) for how in ("torn", "deleted")}
DISKS = {
    "full disk": _disk("full disk", campaign.fill, campaign.empty),
    "read-only disk": _disk("read-only disk", campaign.make_read_only, campaign.make_writable),
}
