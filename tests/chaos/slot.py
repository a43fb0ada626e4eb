"""Trials one after the other on a cluster of their own: `python -m tests.chaos.slot PLACE SEED FAULTS_A_TRIAL NUMBER...`, one JSON line each."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.chaos.campaign import long_run, own_disk, with_weather
from tests.chaos.checks import Wanted, check
from tests.chaos.plan import KINDS, plan
from tests.chaos.trial import Note, Outcome, Trial
from tests.slurmlab import Lab, LabSettings
from undo_hpc.system.parent_death import die_with_parent

# 5 s: the least delay of a requeued job; a stock cluster's is 120 s (tests/slurm/ has that).
SETTINGS = LabSettings(cred_expire=5, kill_wait=5, grace=15, slurmd_timeout=10, nodes=4)


def run_trial(
    lab: Lab, place: Path, seed: int, number: int, count: int, wanted: Wanted, kinds: tuple[str, ...] = ()
) -> Outcome:
    """One trial from its plan to its checks; its folder is removed where all held."""
    made, rng = plan(seed, number, count, kinds), random.Random(f"{seed} {number} course")
    out, began = Outcome(number, seed, made.weather), time.monotonic()
    campaign = long_run(place / f"trial-{number}")
    campaign.profile["defaults"]["partition"] = made.partition
    env = with_weather(campaign, rng, made.weather)
    with own_disk(campaign.run_dir) as disk:
        trial = Trial(lab, campaign, rng, out, env, disk)
        try:
            trial.run(list(made.faults), KINDS)
            if not out.violations:
                check(trial, wanted)
        except Exception as error:  # noqa: BLE001 -- a fault of the harness is a failed trial, and the next one goes on
            out.violations.append(f"the trial itself: {type(error).__name__}: {error}")
        for _, end in trial.restore:
            with contextlib.suppress(Exception):
                end()
        if made.weather:
            out.faults.insert(0, Note(f"weather: {made.weather}", "", "", 0.0))
        out.seconds = time.monotonic() - began
        if out.violations:
            (place / f"trial-{number}.logs").write_text(campaign.logs(80))
            with contextlib.suppress(shutil.Error, OSError):
                shutil.copytree(
                    campaign.run_dir, place / f"trial-{number}.run", dirs_exist_ok=True, symlinks=True
                )
        repair(lab)
    shutil.rmtree(campaign.folder, ignore_errors=True)
    return out


def repair(lab: Lab) -> None:
    """The cluster is whole and empty again."""
    if not lab.alive("slurmctld"):
        lab.start_controller()
    for node in lab.nodes:
        if not lab.alive(node):
            lab.start_node(node)
        lab.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
    with contextlib.suppress(TimeoutError):
        lab.clear()
    lab.sweep()
    with contextlib.suppress(TimeoutError):
        lab.wait_idle(30)


def main(
    place: Path, seed: int, count: int, until: float, numbers: list[int], kinds: tuple[str, ...] = ()
) -> int:
    """Prints an outcome a line; no new trial begins after `until` (seconds since 1970)."""
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster ends with us
    os.nice(5)
    wanted = Wanted.of(long_run(place / "undisturbed"))
    with Lab(SETTINGS) as lab:
        os.environ.update(lab.env())
        for number in numbers:
            if time.time() > until:
                break
            print(json.dumps(run_trial(lab, place, seed, number, count, wanted, kinds).as_json()), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(
        main(
            Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]),
            [int(word) for word in sys.argv[5].split(",")],
            tuple(word for word in (sys.argv[6].split(";") if len(sys.argv) > 6 else []) if word),
        )
    )  # fmt: skip
