"""What must hold after a trial, whatever happened in it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.campaign import files_of, ids_of
from tests.chaos.trial import Note, Outcome, Trial, events_of
from tests.slurm.small import Campaign
from tests.slurmlab.processes import command_of, job_processes, wait_until


@dataclass
class Wanted:
    """The run that nothing happened to."""

    results: dict[str, str]
    ids: Counter[str] = field(default_factory=Counter)
    files: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, campaign: Campaign) -> Wanted:
        """Its digests, rows and files."""
        return cls(campaign.results(), ids_of(campaign.run_dir), files_of(campaign.run_dir))


def check(trial: Trial, wanted: Wanted) -> None:
    """Compares, and writes what does not hold into the outcome."""
    _processes(trial)
    code, said = trial.launch()
    if code != 0 or "nothing to do" not in said:
        trial.violate(f"a last launch finds something to do: exit {code}: {said[-400:]}")
    if jobs := trial.jobs():
        trial.violate(f"jobs are left: {jobs[:4]}")
    compare(trial.campaign, wanted, trial.out)
    trial.out.starts = sum(len(_starts(path)) for path in (trial.at / "logs").glob("*.log"))
    for note in trial.out.faults:
        _visible(trial, note)


def compare(campaign: Campaign, wanted: Wanted, out: Outcome) -> None:
    """Rows, bytes and files of a finished run with those of the undisturbed one."""
    got, results = ids_of(campaign.run_dir), campaign.results()
    out.lost, out.doubled = (wanted.ids - got).total(), (got - wanted.ids).total()
    if out.lost or out.doubled:
        out.violations.append(f"rows lost {out.lost}, doubled {out.doubled}")
    names = wanted.results.keys() | results.keys()
    if different := sorted(name for name in names if wanted.results.get(name) != results.get(name)):
        out.violations.append(f"other bytes than the undisturbed run: {different}")
    if left := {name for name in files_of(campaign.run_dir) - wanted.files if not _set_aside(name)}:
        out.violations.append(f"files are left: {sorted(left)[:6]}")


def _set_aside(name: str) -> bool:
    """Evidence that was damaged is kept under another name."""
    return ".damaged" in name


def _processes(trial: Trial) -> None:
    def quiet() -> bool:
        return not [
            pid for pid in job_processes(trial.lab.slurm_conf) if str(trial.run_dir) in command_of(pid)
        ]

    try:
        wait_until(quiet, 90, "processes of the run to end", every=0.5)
    except TimeoutError:
        names = [command_of(pid)[:120] for pid in job_processes(trial.lab.slurm_conf)]
        trial.violate(f"processes are left: {names[:4]}")


def _starts(log: Path) -> list[str]:
    """The starts that the batch script wrote into a log."""
    return re.findall(
        r"undo: (\w+) \d+ (\d+)-\d+: job \S+ start \d+", log.read_text(errors="replace").replace(",", "")
    )


def _found_complete(log: Path, stage: str, index: int) -> int:
    return log.read_text(errors="replace").count(f"{stage} {index} of iteration 0 is complete already")


def _visible(trial: Trial, note: Note) -> None:
    """Where a task was started more than once, its events or the journal say so."""
    if not note.task:
        return
    stage, _, index = note.task.rpartition("-")
    logs = list((trial.at / "logs").glob(f"{stage}-*.log"))
    begun = sum((stage, str(int(index))) == start for path in logs for start in _starts(path))
    # Hit when its work was done, it starts again and finds all complete: there is nothing to tell.
    begun -= sum(_found_complete(path, stage, int(index)) for path in logs)
    events = events_of(trial.at, note.task)
    starts = [event for event in events if event["kind"] == "start"]
    # Of one that was killed before its first word only the job's log can tell.
    begun = min(begun, len(starts))
    ends = [event for event in events if event["kind"] == "end" and event["status"] == "complete"]
    said = (
        len(starts) > len(ends)
        or any(start["restart"] != "0" for start in starts)
        or _submissions(trial, stage) > 1
    )
    note.harmless = begun <= 1
    if begun > 1 and not said:
        trial.violate(f"{note.kind} of {note.task}: {begun} starts, and nothing in the events tells why")


def _submissions(trial: Trial, stage: str) -> int:
    path = trial.run_dir / "submissions.jsonl"
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return sum(row.get("event") == "intent" and row.get("stage") == stage for row in rows)
