"""SLURM as our code sees it: text of sbatch, squeue, scontrol and scancel; jobs, arrays, dependencies, requeues, holds, limits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.world import Process, World
from undo_hpc.cluster.commands import TooLate, Unreachable, refusal_error
from undo_hpc.cluster.render import TRIES
from undo_hpc.errors import ExitCode
from undo_hpc.pipeline.stages import RESUBMITTING_STAGES

LIVE = ("PENDING", "RUNNING")
KNOWN_S = 300.0  # MinJobAge: a job that has ended is known for so long
FULL = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"


@dataclass(eq=False)
class Task:
    """A job, or one element of an array."""

    job: Job
    index: int | None
    state: str = "PENDING"
    reason: str = "None"
    restarts: int = 0
    process: Process | None = None
    ended: float = 0.0
    begin: float = 0.0
    silent_until: float = 0.0  # the node where it could not start does not answer until then

    @property
    def id(self) -> str:
        return self.job.id if self.index is None else f"{self.job.id}_{self.index}"


@dataclass(eq=False)
class Job:
    """What an sbatch made."""

    id: str
    name: str
    comment: str
    script: str
    command: list[str]
    dependency: str
    kill_invalid: bool
    beyond: str = ""  # why SLURM does not start it whatever is free
    tasks: list[Task] = field(default_factory=list)


Start = Callable[[Task, dict[str, str]], Process]


class Slurm:
    """The controller and its nodes.

    Args:
        start: makes the process of a task.
        places: tasks that run at once.
    """

    def __init__(self, world: World, start: Start, *, places: int = 3, limit: int = 10**6) -> None:
        self.world, self._start, self.places, self.limit = world, start, places, limit
        self.jobs: dict[str, Job] = {}
        self.down_until = 0.0
        self.lose_reply = self.lose_request = self.fail_launch = False
        self.accepted = 0
        self._next = world.rng.randrange(100, 900)
        foreign = Job("77", "merge-of-somebody", "", "/home/other/job.sh", [], "", False)
        foreign.tasks = [Task(foreign, None, "RUNNING")]
        self.jobs["77"] = foreign

    # -- commands -----------------------------------------------------------------------------------------------------

    def run(self, command: list[str], *, stdin: str = "", timeout: float = 60.0, cluster: str = "") -> str:
        """One command, with the delays and losses of a network."""
        self.world.sleep(self.world.rng.choice((0.01, 0.1, 0.5, 3.0)))
        if self.world.now < self.down_until:
            raise Unreachable("the SLURM controller cannot be reached (connection refused)", hint="later")
        if command[0] == "sbatch" and self.lose_request:
            self.lose_request = False
            raise Unreachable("sbatch gave no answer", hint="later")
        said = getattr(self, f"_{command[0]}")(command)
        self.schedule()
        self.world.sleep(self.world.rng.choice((0.0, 0.05, 1.0)))
        if command[0] == "sbatch" and self.lose_reply:
            self.lose_reply = False
            raise Unreachable("sbatch: Socket timed out on send/recv operation", hint="later")
        return str(said)

    def _sbatch(self, command: list[str]) -> str:
        if command[1] == "--test-only":
            return ""
        text = Path(command[1]).read_text()

        def option(name: str) -> str:
            found = re.search(rf"^#SBATCH --{name}[= ](.*)$", text, re.MULTILINE)
            return shlex.split(found[1])[0] if found else ""

        elements: list[int | None] = [None]
        if array := option("array"):
            elements = []
            for part in array.partition("%")[0].split(","):
                first, _, last = part.partition("-")
                elements += range(int(first), int(last or first) + 1)
        if (
            sum(t.state in LIVE for j in self.jobs.values() if j.id != "77" for t in j.tasks) + len(elements)
            > self.limit
        ):
            raise refusal_error(FULL, "sbatch")
        line = next(line for line in text.splitlines() if line.startswith("undo_task "))
        self._next += 1
        job = Job(
            str(self._next), option("job-name"), option("comment"), command[1], shlex.split(line),
            option("dependency"), "kill-on-invalid-dep" in text,
        )  # fmt: skip
        job.tasks = [Task(job, element) for element in elements]
        self.jobs[job.id] = job
        self.accepted += 1
        return f"Submitted batch job {job.id}\n"

    def _squeue(self, command: list[str]) -> str:
        form = command[command.index("-o") + 1]
        wanted = command[command.index("-j") + 1] if "-j" in command else ""
        if wanted and wanted not in self.jobs:
            raise TooLate("squeue came too late: Invalid job id specified", hint="again")
        every = "-t" in command
        lines = []
        for job in self.jobs.values():
            if wanted and job.id != wanted:
                continue
            for task in job.tasks:
                if task.state in LIVE or (every and self.world.now - task.ended < KNOWN_S):
                    values = {"%F": job.id, "%K": "N/A" if task.index is None else str(task.index), "%i": task.id, "%T": self._shown(task),
                              "%r": task.reason, "%j": job.name, "%k": job.comment, "%o": job.script}  # fmt: skip
                    lines.append("|".join(values[key] for key in form.split("|")))
        return "".join(f"{line}\n" for line in lines)

    def _shown(self, task: Task) -> str:
        """The state as SLURM's commands say it: of a queued task whose last node is silent COMPLETING."""
        silent = task.state == "PENDING" and task.silent_until > self.world.now
        return "COMPLETING" if silent else task.state

    def _scontrol(self, command: list[str]) -> str:
        if command[1:3] == ["show", "config"]:
            return "MaxArraySize = 1001\nKillWait = 30 sec\nJobRequeue = 1\n"
        if command[1] == "release":
            for task in self._named(command[2], "released"):
                if task.state == "PENDING":
                    task.reason = "None"
            return ""
        if command[1:3] == ["show", "federation"]:
            return ""
        if command[1:3] == ["show", "job"]:
            job = self.jobs.get(command[-1])
            lines = (
                []
                if job is None
                else [t for t in job.tasks if t.state in LIVE or self.world.now - t.ended < KNOWN_S]
            )
            if job is None or not lines:
                raise TooLate("scontrol came too late: Invalid job id specified", hint="again")
            return "".join(
                f"JobId={job.id} JobName={job.name} JobState={self._shown(t)} Comment={job.comment} Command={job.script} \n"
                for t in lines
            )
        assert command[1] == "update", command
        values = dict(word.split("=", 1) for word in command[2:])
        tasks = self._named(values["JobId"], "changed")
        if not any(task.state == "PENDING" for task in tasks):
            raise TooLate("scontrol came too late: Job is no longer pending execution", hint="again")
        if "Dependency" in values:
            tasks[0].job.dependency = values["Dependency"]
        return ""

    def _scancel(self, command: list[str]) -> str:
        for word in command[1:]:
            if not word.startswith("-"):
                for task in self._named(word, "cancelled"):
                    self.cancel(task)
        return ""

    def _sacctmgr(self, command: list[str]) -> str:
        return ""

    def _named(self, word: str, what: str) -> list[Task]:
        job_id, _, element = word.partition("_")
        if job_id == "77":
            self.world.violate(f"a job of somebody else was {what}")
        job = self.jobs.get(job_id)
        return [t for t in job.tasks if not element or str(t.index) == element] if job else []

    # -- what happens to jobs -----------------------------------------------------------------------------------------

    def live(self) -> list[Task]:
        """Tasks of ours that wait or run."""
        return [t for j in self.jobs.values() if j.id != "77" for t in j.tasks if t.state in LIVE]

    def running(self) -> list[Task]:
        """Tasks of ours that run."""
        return [t for t in self.live() if t.state == "RUNNING"]

    def moves(self) -> bool:
        """Whether something of ours runs, or will start or be cancelled as things are."""

        def goes(task: Task) -> bool:
            if task.state == "RUNNING" or task.job.beyond or re.search("held|hold", task.reason, re.I):
                return task.state == "RUNNING"
            word = self._dependency(task.job)
            return word == "go" or (word == "never" and task.job.kill_invalid)

        return any(map(goes, self.live()))

    def cancel(self, task: Task) -> None:
        """scancel: no requeue."""
        if task.state in LIVE:
            self._end(task, "CANCELLED")

    def requeue(self, task: Task, *, delay: float = 10.0, kill: bool = True) -> None:
        """Back into the queue; a process that hangs is not killed by it."""
        if task.state == "RUNNING":
            if kill and task.process:
                self.world.kill(task.process)
            if task.process:
                task.process.replaced = True
            task.state, task.process, task.restarts = "PENDING", None, task.restarts + 1
            task.begin = self.world.now + delay
            self.world.at(delay + 0.1, self.schedule)

    def _end(self, task: Task, state: str) -> None:
        if task.process:
            self.world.kill(task.process)
        task.state, task.process, task.ended = state, None, self.world.now
        self.world.at(0.5, self.schedule)

    def schedule(self) -> None:
        """Starts what may start; cancels what never can."""
        if self.world.now < self.down_until:
            self.world.at(self.down_until - self.world.now + 1, self.schedule)
            return
        for job in self.jobs.values():
            waiting = [
                t for t in job.tasks if t.state == "PENDING" and not re.search("held|hold", t.reason, re.I)
            ]
            if not waiting:
                continue
            word = self._dependency(job)
            for task in waiting:
                if word == "never":
                    task.reason = "DependencyNeverSatisfied"
                    if job.kill_invalid:
                        self._end(task, "CANCELLED")
                elif word == "wait":
                    task.reason = "Dependency"
                elif job.beyond:
                    task.reason = job.beyond
                elif (
                    len(self.running()) >= self.places or max(task.begin, task.silent_until) > self.world.now
                ):
                    task.reason = "Resources"
                elif self.fail_launch:
                    self.fail_launch = False
                    task.reason = "launch failed requeued held"
                    silent_s = self.world.rng.choice((0.0, 30.0, 600.0))
                    task.silent_until = self.world.now + silent_s
                    self.world.at(silent_s + 0.1, self.schedule)
                else:
                    self._run(task)

    def _dependency(self, job: Job) -> str:
        kind, *ids = job.dependency.split(":") if job.dependency else [""]
        answer = "go"
        for name in ids:
            before = self.jobs.get(name)
            if before is None:  # forgotten
                continue
            if any(t.state in LIVE for t in before.tasks):
                answer = "wait"
            elif kind == "afterok" and any(t.state != "COMPLETED" for t in before.tasks):
                return "never"
        return answer

    def _run(self, task: Task) -> None:
        task.state, task.reason = "RUNNING", "None"
        number = task.job.id if task.index is None else f"{task.job.id}{task.index:03d}"
        env = {
            "SLURM_JOB_ID": number,
            "SLURM_RESTART_COUNT": str(task.restarts),
            "UNDO_CONTINUES_RUN": "1",
            "UNDO_VISIBLE_WITHIN_S": "0",
        }
        if task.index is not None:
            env |= {"SLURM_ARRAY_JOB_ID": task.job.id, "SLURM_ARRAY_TASK_ID": str(task.index)}
        process = task.process = self._start(task, env)
        work = process.work

        def body() -> int:
            code = int(work())
            if task.process is process:
                task.process = None
                again = (
                    code == ExitCode.FAILED
                    and task.job.command[1] in RESUBMITTING_STAGES
                    and task.restarts < TRIES
                )
                if code == ExitCode.REQUEUE or again:
                    self.requeue(task)
                else:
                    self._end(task, "COMPLETED" if code == 0 else "FAILED")
            return code

        process.work = body
        self.world.start(process, 0.2)
