"""P7, P8: what a SIGKILL and a preemption cost, beside transformers' Trainer with its just-in-time checkpoint, submitit and datatrove.

P7: processes are killed at seeded moments and started again at once; what counts is the time until the training is where it was, and
the steps or rows that are done again. P8: three trainings on a real SLURM with stock delays, a node each, preempted at the same moments
of a seeded trace; goodput is the time of the steps that count over the time since the first of them began. (The first start is not the
preemptions': in a trial of some minutes it would weigh as in no training of hours. The figure with it stands beside.) What the preemptions
cost is told in parts: until the next process begins (saving, SLURM), and from there to its first step (imports, loading).
"""

from __future__ import annotations

import itertools
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.bench import goodput_generation
from tests.bench.frame import Measure, Skipped
from tests.bench.goodput_contestants import SAVE_STEPS, STEP_S, Submitted, starts_of, steps_of
from tests.slurmlab import Lab, LabSettings, missing_programs
from tests.slurmlab.processes import installed_version

REPO = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("UNDO_BENCH_SEED", "0"))
KILLS = int(os.environ.get("UNDO_BENCH_KILLS", "2"))
STEPS = int(os.environ.get("UNDO_BENCH_STEPS", "330"))
MEAN_S = float(os.environ.get("UNDO_BENCH_MEAN_S", "300"))  # of the trace: seconds between two preemptions
MOST_S = STEPS * STEP_S * 1.1 + 20  # the measurement ends then; who is not done is measured as far as it came
LATEST_S = 180  # from the submission until the trace begins: all are at work by then


def measures() -> Iterator[Measure | Skipped]:
    """Kills, then the trace."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="goodput-") as folder:
        yield from _kills(Path(folder) / "kills")
        yield from goodput_generation.measures(Path(folder) / "rows", SEED)
        if lacking := missing_programs():
            yield Skipped("P8", f"not installed: {', '.join(lacking)}")
        else:
            yield from _trace(Path(folder) / "trace")


def _prepare(place: Path, steps: int) -> None:
    from tests.bench.training_race import prepare

    place.mkdir(parents=True)
    prepare(place, rows=64, batch=4, epochs=10_000.0, max_steps=steps)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}


# -- P7 -------------------------------------------------------------------------------------------------------------------


def _kills(place: Path) -> Iterator[Measure]:
    _prepare(place, 10_000)
    back: dict[str, list[float]] = {"ours": [], "trainer": []}
    again: dict[str, list[int]] = {"ours": [], "trainer": []}
    for turn in range(KILLS):
        steps = SAVE_STEPS + random.Random(f"{SEED} {turn}").randrange(SAVE_STEPS)
        with ThreadPoolExecutor(len(back)) as side:  # beside each other: both sleep nearly all the time
            asked = {name: side.submit(_killed, place, name, steps) for name in back}
        for name, each in asked.items():
            seconds, redone = each.result()
            back[name].append(seconds)
            again[name].append(redone)
    more = {"kills": KILLS, "seed": SEED, "steps_again": statistics.mean(again["ours"]), "steps_again_trainer": statistics.mean(again["trainer"])}  # fmt: skip
    yield Measure(
        "P7",
        f"seconds from a SIGKILL until the training is where it was, a checkpoint every {SAVE_STEPS} steps of {STEP_S:g} s, against Trainer's",
        round(statistics.median(back["ours"]), 1), round(statistics.median(back["trainer"]), 1), "<=1", "s", extra=more,
    )  # fmt: skip


def _killed(place: Path, name: str, steps: int) -> tuple[float, int]:
    """Starts, kills after so many more steps, starts again; seconds until a new step is done, less that step, and steps done again."""
    command = [sys.executable, "-m", "tests.bench.goodput_contestants", name, str(place)]
    before = max((step for _, step in steps_of(place, name)), default=0)
    running = _until(command, place, name, before + steps)
    running.kill()
    running.wait()
    killed, done = time.time(), steps_of(place, name)
    reached = max(step for _, step in done)
    running = _until(command, place, name, reached + 1)
    running.kill()
    running.wait()
    new = steps_of(place, name)[len(done) :]
    return next(t for t, step in new if step > reached) - killed - STEP_S, sum(
        step <= reached for _, step in new
    )


def _until(command: list[str], place: Path, name: str, step: int) -> subprocess.Popen[bytes]:
    with (place / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(command, cwd=REPO, env=_environment(), stdout=log, stderr=log)
    while not any(number >= step for _, number in steps_of(place, name)):
        if running.poll() is not None:
            raise RuntimeError(
                f"{name} ended with {running.returncode}:\n{(place / f'{name}.log').read_text()[-1500:]}"
            )
        time.sleep(0.05)
    return running


# -- P8 -------------------------------------------------------------------------------------------------------------------


def trace(seed: int, seconds: float) -> list[float]:
    """PURE: moments of preemption: as many as fall into that time on average, at least one, each in a part of its own; none in the first half
    minute, and none so late that only its cost is seen."""
    rng, count = random.Random(seed), max(1, round(seconds / MEAN_S))
    part = (seconds - 60) / count
    return [30 + part * (k + rng.random()) for k in range(count)]


def _trace(place: Path) -> Iterator[Measure]:
    moments = trace(SEED, STEPS * STEP_S)
    with (
        Lab(
            LabSettings(nodes=3, cred_expire=120, grace=30, memory_mb=4000, user_signal_on_preempt=True)
        ) as lab,
        patch.dict(
            os.environ,
            {"SLURM_CONF": str(lab.slurm_conf), "PATH": lab.env()["PATH"], "PYTHONPATH": str(REPO)},
        ),
    ):
        figures = _run(lab, place, moments)
    more = {
        "preemptions": len(moments), "mean_s": MEAN_S, "load": os.getloadavg()[2], "seed": SEED, "steps": STEPS, "slurm": installed_version(),
        "from_the_submission": {name: round(figure.whole, 3) for name, figure in figures.items()},
        "parts_s": {name: figure.parts for name, figure in figures.items()},
    }  # fmt: skip
    mine = figures["ours"].goodput
    yield Measure(
        "P8",
        "goodput under a seeded preemption trace, from the first step on",
        round(mine, 3),
        None,
        ">=0.95",
        extra=more,
    )
    for id_, name, who in (
        (
            "P8a",
            "trainer",
            "transformers' Trainer with its just-in-time checkpoint, requeued by its batch script",
        ),
        ("P8b", "submitit", "transformers' Trainer as a Checkpointable of submitit"),
    ):
        yield Measure(
            id_, f"the same, against {who}", round(mine, 3), round(figures[name].goodput, 3), ">=1.3"
        )


@dataclass(frozen=True)
class Figures:
    """Of a contestant.

    Attributes:
        goodput: time of the steps that count, over the time since the first of them began.
        whole: the same over the time since the submission.
        parts: seconds of its first start and of its preemptions: steps done again, until the next process began, until its first step.
    """

    goodput: float
    whole: float
    parts: dict[str, float]


def _run(lab: Lab, place: Path, moments: list[float]) -> dict[str, Figures]:
    """What each contestant made of the trace."""
    nodes = dict(zip(("ours", "trainer", "submitit"), lab.nodes, strict=True))
    for name in nodes:
        _prepare(place / name, STEPS)
    began = time.time()
    _submit_ours(place / "ours", nodes["ours"])
    _submit_trainer(lab, place / "trainer", nodes["trainer"])
    _submit_submitit(place / "submitit", nodes["submitit"])
    while time.time() - began < LATEST_S and not all(_reached(place, name) for name in nodes):
        time.sleep(0.2)  # a job that is preempted before it can save is another question
    left, origin = list(moments), time.time()
    while time.time() - origin < MOST_S and any(_reached(place, name) < STEPS for name in nodes):
        if left and time.time() - origin >= left[0]:
            left.pop(0)
            for node in nodes.values():
                lab.run(
                    "sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"
                )
        time.sleep(0.2)
    return {name: figures_of(place / name, name, began) for name in nodes}


def figures_of(place: Path, name: str, began: float) -> Figures:
    """A contestant's figures, from what it has written down."""
    done, starts = steps_of(place, name), starts_of(place, name)
    if len(done) < 2:
        return Figures(0.0, 0.0, {})  # it has not begun
    first = {step: when for when, step in reversed(done)}  # when each step was done for the first time
    end = max(first.values()) if len(first) >= STEPS else time.time()
    each = statistics.median(b - a for (a, _), (b, _) in itertools.pairwise(done))
    useful, at = each * len(first), done[0][0] - each
    gaps = [(a, b) for (a, _), (b, _) in itertools.pairwise(done) if any(a < start < b for start in starts)]
    loading = sum(b - each - max(start for start in starts if start < b) for _, b in gaps)
    parts = {
        "first_start": at - began,
        "again": each * (len(done) - len(first)),
        "away": sum(b - a - each for a, b in gaps) - loading,
        "loading": loading,
    }
    return Figures(useful / (end - at), useful / (end - began), {k: round(v, 1) for k, v in parts.items()})


def _reached(place: Path, name: str) -> int:
    return max((step for _, step in steps_of(place / name, name)), default=0)


def _submit_ours(place: Path, node: str) -> None:
    """Through our own profile and batch script; the worker is the training alone."""
    from undo_hpc.cluster.base import Submission
    from undo_hpc.cluster.profile import Profile, StageProfile
    from undo_hpc.cluster.slurm import SlurmCluster
    from undo_hpc.config.schema import StageResources

    python = place / "python"
    command = shlex.join([sys.executable, "-m", "tests.bench.goodput_contestants", "ours", str(place)])
    python.write_text(
        f"#!/bin/bash\ncd {REPO}; export PYTHONPATH={REPO}; unset PYTHONSAFEPATH\nexec {command}\n"
    )
    python.chmod(0o755)
    defaults = StageProfile(partition="lowg", memory_gb=1, cpus_per_task=1, extra={"nodelist": node})
    cluster = SlurmCluster(Profile(python=str(python), gpu_syntax="none", defaults=defaults), place)
    cluster.submit(Submission(place, 0, "train", None, StageResources(), tag="0" * 8, total=1))


def _submit_trainer(lab: Lab, place: Path, node: str) -> None:
    script = place / "job.sh"
    command = shlex.join([sys.executable, "-m", "tests.bench.goodput_contestants", "trainer", str(place)])
    script.write_text(
        f"#!/bin/bash\ntrap : TERM\ncd {REPO}\nsrun {command} & wait $!; code=$?\n"
        '[ "$code" = 75 ] && exec scontrol requeue "$SLURM_JOB_ID"\nexit "$code"\n'
    )
    lab.run(
        "sbatch", "-p", "lowg", "-w", node, "--requeue", "--open-mode=append", "--mem=1G", "-o", str(place / "job.log"), str(script)
    )  # fmt: skip


def _submit_submitit(place: Path, node: str) -> None:
    import submitit

    executor = submitit.SlurmExecutor(folder=place / "submitit-%j", max_num_timeout=20)
    executor.update_parameters(
        time=60, partition="lowg", mem="1G", additional_parameters={"nodelist": node}, setup=[f"cd {REPO}"], use_srun=True
    )  # fmt: skip
    executor.submit(Submitted(), str(place))
