"""`python -m tests.chaos FAULTS SEED`: small runs on a real SLURM, disturbed until so many faults have happened. See docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.campaign import REPO, long_run
from tests.slurmlab.lab import missing_programs
from tests.slurmlab.processes import installed_version
from undo_hpc.pipeline.run import git_revision

A_TRIAL = 24  # a run to its end costs as much as ten faults


def main(argv: list[str] | None = None) -> int:
    """Runs and prints; 1 where a promise did not hold, 2 where there is no SLURM."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", type=int, nargs="?", default=200)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument(
        "--version", default="", help="another SLURM than the installed one, e.g. 24.11 (as root)"
    )
    parser.add_argument("--trial", type=int, help="this trial of the seed alone")
    parser.add_argument("--each", type=int, default=A_TRIAL, help="faults a trial")
    parser.add_argument("--side", type=int, default=2, help="trials at a time, on a cluster each")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no trial after so long")
    parser.add_argument("--kinds", default="", help="only these kinds of fault, divided by semicolons")
    parser.add_argument("--out", type=Path, default=REPO / "build" / "chaos.json")
    parser.add_argument("--keep", type=Path, help="folder of the undisturbed run and of failed trials, kept")
    given = parser.parse_args(argv)
    if given.version and os.environ.get("UNDO_SLURM_VERSION") != given.version:
        words = [
            sys.executable,
            "-m",
            "tests.slurmlab.versions",
            given.version,
            "--",
            sys.executable,
            "-m",
            "tests.chaos",
        ]
        os.execv(sys.executable, words + (argv or sys.argv[1:]))
    if lacking := missing_programs():
        print(
            f"not installed: {', '.join(lacking)}\n  -> Debian/Ubuntu: apt-get install slurm-wlm munge",
            file=sys.stderr,
        )
        return 2
    place = given.keep or Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    place.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place / "undisturbed", ignore_errors=True)  # with `--keep`, of other code or settings
    long_run(place / "undisturbed").run_locally()
    trials = [given.trial] if given.trial is not None else list(range(-(-given.faults // given.each)))
    outcomes = run(place, given, trials)
    figures = write(given, outcomes)
    show(figures, given)
    if not figures["violations"] and not given.keep:
        shutil.rmtree(place, ignore_errors=True)
    return 1 if figures["violations"] else 0


def run(place: Path, given: argparse.Namespace, trials: list[int]) -> list[dict[str, Any]]:
    """All trials, some at a time; a failed one is printed as soon as it is known."""
    side = max(1, min(given.side, len(trials)))
    outcomes: list[dict[str, Any]] = []

    def read(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            outcome = json.loads(line)
            outcomes.append(outcome)
            write(given, outcomes)  # a round that is cut short leaves what it found
            happened = ", ".join(note["kind"] for note in outcome["faults"])
            print(
                f"trial {outcome['number']}: {outcome['seconds']:.0f} s; {happened}",
                file=sys.stderr,
                flush=True,
            )
            for words in outcome["violations"]:
                print(f"seed {given.seed}, trial {outcome['number']}, commit {git_revision()}: {words}\n"
                      f"  -> again: python -m tests.chaos {given.faults} {given.seed} --trial {outcome['number']} --each {given.each}", flush=True)  # fmt: skip

    slots = []
    for k in range(side):
        words = [str(place), str(given.seed), str(given.each), str(time.time() + 60 * given.minutes)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.slot", *words, ",".join(map(str, trials[k::side])), given.kinds],
            stdout=subprocess.PIPE, text=True, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)},
        )  # fmt: skip
        thread = threading.Thread(target=read, args=(process,))
        thread.start()
        slots.append((process, thread))
    for process, thread in slots:
        process.wait()
        thread.join()
        if process.returncode:
            outcomes.append({"number": -1, "faults": [], "missed": [], "seconds": 0.0, "starts": 0, "lost": 0, "doubled": 0,
                             "violations": [f"a slot ended with {process.returncode}"]})  # fmt: skip
    return outcomes


def write(given: argparse.Namespace, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, which are written down with all outcomes."""
    figures = summary(outcomes, given.seed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"figures": figures, "trials": outcomes}, indent=1))
    return figures


def summary(outcomes: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The figures, with a row a kind of fault."""
    kinds: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for note in outcome["faults"]:
            row = kinds.setdefault(note["kind"], Counter())
            row.update(
                {"faults": 1, "without effect": int(note["harmless"]), "relaunches": note["relaunches"]}
            )
            row["in failed trials"] += bool(outcome["violations"])
    return {
        "commit": git_revision(), "seed": seed, "slurm": installed_version(), "trials": len(outcomes),
        "faults": sum(row["faults"] for row in kinds.values()), "missed": sum(len(o["missed"]) for o in outcomes),
        "lost": sum(o["lost"] for o in outcomes), "doubled": sum(o["doubled"] for o in outcomes),
        "starts": sum(o["starts"] for o in outcomes), "relaunches": sum(row["relaunches"] for row in kinds.values()),
        "violations": sum(bool(o["violations"]) for o in outcomes), "kinds": dict(sorted(kinds.items())),
    }  # fmt: skip


def show(figures: dict[str, Any], given: argparse.Namespace) -> None:
    """The figures as text."""
    print(f"{'kind of fault':45} {'faults':>7} {'no effect':>10} {'relaunches':>11}")
    for kind, row in figures["kinds"].items():
        print(f"{kind:45} {row['faults']:7} {row['without effect']:10} {row['relaunches']:11}")
    print(f"commit {figures['commit']}, seed {figures['seed']}, SLURM {figures['slurm']}: {figures['faults']} faults of {len(figures['kinds'])} kinds "
          f"in {figures['trials']} trials, {figures['starts']} starts of tasks ({figures['missed']} planned faults found nothing to hit)\n"
          f"rows lost {figures['lost']}, doubled {figures['doubled']}; trials in which a promise did not hold: {figures['violations']}; "
          f"launches by a person beside the first: {figures['relaunches']}; details: {given.out}")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
