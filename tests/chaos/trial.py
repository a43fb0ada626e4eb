"""One trial: a run is started, disturbed so many times, let to end, and looked at."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.slurm.small import Campaign
from tests.slurmlab import Lab
from tests.slurmlab.processes import command_of, environment_of, job_processes

STAGES = ("generate", "merge", "train", "evaluate", "advance")
PATIENCE_S, A_FAULT_S = 900.0, 90.0  # for a trial, and for each of its faults more
LOOK_S = 0.4  # between two looks at the queue: each is a process
QUIET_S = 2.5  # nothing queued for so long: a person calls the launcher again
STUCK_S = 100.0  # nothing runs, nothing changes


@dataclass
class Note:
    """A fault that happened.

    Attributes:
        what: what it hit.
        at: seconds since 1970.
        task: stage and index that it hit; empty where it hit none.
        harmless: the task was complete all the same.
        relaunches: calls of the launcher that were needed after it.
    """

    kind: str
    stage: str
    what: str
    at: float
    task: str = ""
    harmless: bool = False
    relaunches: int = 0


@dataclass
class Outcome:
    """What a trial found."""

    number: int
    seed: int
    weather: str = ""
    faults: list[Note] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    starts: int = 0
    lost: int = 0
    doubled: int = 0
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a line of a file."""
        return asdict(self)


@dataclass(frozen=True)
class Planned:
    """A fault to come: in the time of a stage, so many seconds after it was seen at work."""

    stage: str
    kind: str
    delay: float


class Trial:
    """A run on its way, with what the faults need to know of it.

    Attributes:
        disk: whether the run lies on a file system of its own.
    """

    def __init__(
        self, lab: Lab, campaign: Campaign, rng: random.Random, out: Outcome, env: dict[str, str], disk: bool
    ) -> None:
        self.lab, self.campaign, self.rng, self.out, self.disk = lab, campaign, rng, out, disk
        self.run_dir = campaign.run_dir
        self.at = self.run_dir / "iter_000"
        self._env = lab.env() | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | env
        self.restore: list[tuple[float, Callable[[], None]]] = []  # what ends by itself, and when
        self.held: set[str] = (
            set()
        )  # jobs that a fault held for a while: a controller that is killed then forgets their release
        self._changed = (time.monotonic(), "")
        self._empty_since: float | None = None

    # -- the launcher -------------------------------------------------------------------------------------------------

    def start_launcher(self) -> subprocess.Popen[str]:
        """The launcher, as a process of its own."""
        command = self.campaign.command("--profile", str(self.campaign.folder / "profile.yaml"))
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._env,
            cwd=self.campaign.folder,
        )  # fmt: skip

    def launch(self) -> tuple[int, str]:
        """The launcher's exit code and words."""
        process = self.start_launcher()
        said = self.words_of(process)
        if "Traceback" in said:
            self.violate(f"a traceback of the launcher: {said[-600:]}")
        return process.returncode, said

    def words_of(self, process: subprocess.Popen[str]) -> str:
        """What a launcher said, once it has ended; what ends by itself meanwhile (a controller's absence) does so."""
        began = time.monotonic()
        while True:
            try:
                return process.communicate(timeout=0.5)[0]
            except subprocess.TimeoutExpired:
                self._end_what_is_over(time.monotonic())
            if time.monotonic() - began > PATIENCE_S:
                process.kill()
                said = process.communicate()[0]
                self.violate(f"the launcher has not ended after {PATIENCE_S:.0f} s: {said[-300:]}")
                return said

    def violate(self, words: str) -> None:
        """A promise that does not hold."""
        self.out.violations.append(words)

    # -- what is there ------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the iteration is complete."""
        return (self.at / "advance.manifest.json").exists()

    def jobs(self) -> list[dict[str, str]]:
        """The queue; nothing where the controller is down."""
        try:
            return self.lab.jobs()
        except (RuntimeError, subprocess.TimeoutExpired):
            return [
                {
                    "id": "?",
                    "name": "?",
                    "state": "?",
                    "reason": "the controller does not answer",
                    "comment": "",
                }
            ]

    def tasks(self, stage: str, state: str = "RUNNING") -> list[str]:
        """Ids of a stage's tasks in a state."""
        return [j["id"] for j in self.jobs() if j["name"].startswith(f"{stage}-i") and j["state"] == state]

    def processes(self, stage: str, pattern: str) -> list[int]:
        """Processes of a stage's tasks whose command matches."""
        found = []
        for pid in job_processes(self.lab.slurm_conf):
            command = command_of(pid)
            if re.search(pattern, command) and environment_of(pid).get("SLURM_JOB_NAME", "").startswith(
                f"{stage}-i"
            ):
                found.append(pid)
        return found

    def workers(self, stage: str) -> list[int]:
        """The Python processes of a stage's tasks."""
        return [
            p
            for p in self.processes(stage, r"-m undo_hpc\.(worker|training) ")
            if "srun" not in command_of(p)[:40]
        ]

    @staticmethod
    def task_of(pid: int) -> str:
        """stage-index that a process works for."""
        env = environment_of(pid)
        return (
            f"{env.get('SLURM_JOB_NAME', '').split('-i')[0]}-{int(env.get('SLURM_ARRAY_TASK_ID') or 0):05d}"
        )

    # -- the course ---------------------------------------------------------------------------------------------------

    def run(self, plan: list[Planned], kinds: dict[str, Callable[[Trial, str], Note | None]]) -> None:
        """Starts the run, disturbs it as planned, and waits until it has ended."""
        began = time.monotonic()
        if not (plan and plan[0].stage == "launch"):
            code, said = self.launch()
            if code:
                self.violate(f"the first launch: exit {code}: {said[-500:]}")
                return
        due: float | None = None
        todo, tries = list(plan), 0
        while True:
            now = time.monotonic()
            if now - began > PATIENCE_S + A_FAULT_S * len(plan):
                self.violate(f"no end after {now - began:.0f} s; queue {self.jobs()[:6]}")
                return
            self._end_what_is_over(now)
            if not self.restore and not self.lab.controller_lives():
                self.lab.start_controller()  # a site's systemd does; 22.05 was seen to die by itself
            if todo:
                fault = todo[0]
                if due is None and self._is_time(fault):
                    due = now + fault.delay
                if due is not None and now >= due:
                    note = kinds[fault.kind](self, self._at_work(fault.stage))
                    if note is not None:
                        self.out.faults.append(note)
                    tries += 1
                    if note is not None or tries > 20 or (self.ended and not self.jobs()):
                        if note is None:
                            self.out.missed.append(fault.kind)
                        todo.pop(0)
                        due, tries = None, 0
                    else:
                        time.sleep(LOOK_S)
                    continue
            if not self._watch(now):
                if not todo and not self.restore:
                    return
                if todo and not self._is_time(todo[0]) and self.ended:
                    self.out.missed.append(todo.pop(0).kind)  # its stage is over
            time.sleep(LOOK_S)

    def _is_time(self, fault: Planned) -> bool:
        if fault.stage in ("launch", "end"):
            return fault.stage == "launch" or (self.ended and not self.jobs())
        later = STAGES[STAGES.index(fault.stage) :]
        running = [j["name"].split("-i")[0] for j in self.jobs() if j["state"] == "RUNNING"]
        return any(stage in later for stage in running)

    def _at_work(self, stage: str) -> str:
        """The stage that a fault hits: its own, or one behind it where that is at work by now."""
        if stage not in STAGES:
            return stage
        running = {j["name"].split("-i")[0] for j in self.jobs() if j["state"] == "RUNNING"}
        return next((name for name in STAGES[STAGES.index(stage) :] if name in running), stage)

    def _end_what_is_over(self, now: float) -> None:
        for entry in list(self.restore):
            if now >= entry[0]:
                self.restore.remove(entry)
                entry[1]()

    def _watch(self, now: float) -> bool:
        """Whether something moves; where nothing does, and the run has not ended, the person's command is given."""
        jobs = self.jobs()
        look = json.dumps([(j["id"], j["state"], j["reason"]) for j in jobs])
        if look != self._changed[1] or any(j["state"] == "RUNNING" for j in jobs):
            self._changed = now, look
        self._empty_since = None if jobs else self._empty_since or now
        if self.restore:
            return True
        held = any("launch failed" in j["reason"] or j["reason"].startswith("JobHeld") for j in jobs)
        stuck = bool(jobs) and now - self._changed[0] > (10.0 if held else STUCK_S)
        quiet = self._empty_since is not None and now - self._empty_since > QUIET_S
        if quiet and self.ended and not self.missing_after_damage():
            return False
        if quiet or stuck:
            self._relaunch("queue empty" if quiet else f"nothing moves: {jobs[:4]}")
            self._empty_since, self._changed = None, (time.monotonic(), "")
        return True

    def missing_after_damage(self) -> bool:
        """Whether a fault at the end has taken something away that nobody has made again yet."""
        last = self.out.faults[-1] if self.out.faults else None
        return last is not None and last.stage == "end" and last.relaunches == 0

    def _relaunch(self, why: str) -> None:
        from undo_hpc.observe.status import collect_status
        from undo_hpc.pipeline.run import open_run

        if (self.run_dir / "config.resolved.json").exists():
            view = collect_status(open_run(self.run_dir))
            release, _, jobs = view.next_command.rpartition(" ")
            if release == "scontrol release" and set(jobs.split(",")) <= self.held:
                self.lab.run(*view.next_command.split(), check=False)
                if self.out.faults:
                    self.out.faults[-1].relaunches += 1
                return
            if not self.ended and "run_iteration" not in view.next_command:
                self.violate(f"{why}, and status says: {view.next_command!r} ({view.next_why})")
        code, said = self.launch()
        if self.out.faults:
            self.out.faults[-1].relaunches += 1
        if code not in (0, 3) and not self.restore:
            self.violate(f"the launcher, called again ({why}): exit {code}: {said[-500:]}")

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """What ends a fault, after so many seconds."""
        self.restore.append((time.monotonic() + seconds, what))


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Whether the process was still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def events_of(at: Path, task: str) -> list[dict[str, Any]]:
    """A task's events."""
    path = at / "events" / f"{task}.jsonl"
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
