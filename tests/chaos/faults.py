"""What happens to processes, jobs, daemons and launchers. A fault returns a note of what it hit, or None where there is nothing to hit yet."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from tests.chaos.trial import Note, Trial, kill
from tests.slurmlab.processes import command_of, job_processes

Fault = Callable[[Trial, str], Note | None]


def _note(trial: Trial, kind: str, stage: str, what: str, task: str = "") -> Note:
    return Note(kind, stage, what, time.time(), task)


# -- processes --------------------------------------------------------------------------------------------------------


def _signalled(kind: str, pattern: str, number: int = signal.SIGKILL) -> Fault:
    def fault(trial: Trial, stage: str) -> Note | None:
        pids = trial.processes(stage, pattern)
        if not pids:
            return None
        pid = trial.rng.choice(sorted(pids))
        task = trial.task_of(pid)
        return _note(trial, kind, stage, f"pid {pid}", task) if kill(pid, number) else None

    return fault


def _stepd_killed(trial: Trial, stage: str) -> Note | None:
    """It carries no variables of its job; its title names the job's plain number."""
    tasks = trial.tasks(stage)
    if not tasks:
        return None
    job = trial.rng.choice(sorted(tasks))
    title = re.compile(rf"slurmstepd: \[{trial.lab.show(job).get('JobId', '?')}[.\]]")
    pids = [pid for pid in job_processes(trial.lab.slurm_conf) if title.match(command_of(pid))]
    if not pids or not kill(pid := trial.rng.choice(sorted(pids))):
        return None
    return _note(trial, "kill: slurmstepd", stage, f"pid {pid}", f"{stage}-{_index(job):05d}")


def _whole_task(trial: Trial, stage: str) -> Note | None:
    """All processes of a task at once, the batch script among them."""
    tasks = sorted({trial.task_of(pid) for pid in trial.workers(stage)})
    if not tasks:
        return None
    task = trial.rng.choice(tasks)
    for pid in trial.processes(stage, "."):
        if trial.task_of(pid) == task:
            kill(pid)
    return _note(trial, "kill: all of a task", stage, task, task)


# -- jobs ---------------------------------------------------------------------------------------------------------------


def _index(job: str) -> int:
    return int(job.partition("_")[2] or 0)


def _told(kind: str, *command: str, state: str = "RUNNING") -> Fault:
    """One of SLURM's commands about a task of the stage."""

    def fault(trial: Trial, stage: str) -> Note | None:
        tasks = trial.tasks(stage, state)
        if not tasks:
            return None
        job = trial.rng.choice(sorted(tasks))
        trial.lab.run(*command, job, check=False)
        return _note(trial, kind, stage, f"job {job}", f"{stage}-{_index(job):05d}")

    return fault


def _preempted(trial: Trial, stage: str) -> Note | None:
    """A job of a higher priority takes the node; the run's partition gives grace time, or none."""
    tasks = trial.tasks(stage)
    if not tasks:
        return None
    job = trial.rng.choice(sorted(tasks))
    node = trial.lab.show(job).get("NodeList", "")
    if node not in trial.lab.nodes:
        return None
    trial.lab.run(
        "sbatch", "-J", "rival", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1", check=False
    )  # fmt: skip
    how = "grace" if trial.campaign.profile["defaults"]["partition"] == "lowg" else "no grace"
    return _note(trial, f"preempted, {how}", stage, f"job {job} on {node}", f"{stage}-{_index(job):05d}")


def _waiting_cancelled(trial: Trial, stage: str) -> Note | None:
    """A job that still waits is cancelled, whichever it is."""
    waiting = sorted(
        {j["id"].split("_")[0] for j in trial.jobs() if j["state"] == "PENDING" and "-undo-" in j["name"]}
    )
    if not waiting:
        return None
    job = trial.rng.choice(waiting)
    name = trial.lab.show(job).get("JobName", "?").split("-i")[0]
    trial.lab.run("scancel", job, check=False)
    return _note(trial, "scancel of a waiting job", name, f"job {job} ({name})")


# -- daemons ------------------------------------------------------------------------------------------------------------


def _node_of(trial: Trial, stage: str) -> tuple[str, str]:
    for job in sorted(trial.tasks(stage), key=lambda _: trial.rng.random()):
        node = trial.lab.show(job).get("NodeList", "")
        if node in trial.lab.nodes and trial.lab.alive(node):
            return job, node
    return "", ""


def _slurmd(kind: str, *, down: bool, power: bool) -> Fault:
    """slurmd is killed; `down`: the controller takes the node for dead; `power`: all that runs there dies, too."""

    def fault(trial: Trial, stage: str) -> Note | None:
        job, node = _node_of(trial, stage)
        if not node:
            return None
        trial.lab.kill(node)
        if power:
            trial.lab.sweep(node)
        if down:
            trial.lab.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=chaos", check=False)
        trial.later(trial.rng.uniform(1.0, 8.0), lambda: _node_back(trial, node))
        return _note(trial, kind, stage, f"{node}, job {job}", f"{stage}-{_index(job):05d}")

    return fault


def _node_back(trial: Trial, node: str) -> None:
    trial.lab.start_node(node)
    time.sleep(1.0)
    trial.lab.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)


def _controller(kind: str, number: int) -> Fault:
    def fault(trial: Trial, stage: str) -> Note | None:
        if not trial.lab.alive("slurmctld"):
            return None
        if number == signal.SIGKILL:
            trial.lab.kill("slurmctld")
        else:
            trial.lab.stop_controller()
        away = trial.rng.uniform(0.0, 8.0)
        trial.later(away, trial.lab.start_controller)
        return _note(trial, kind, stage, f"away for {away:.1f} s")

    return fault


# -- launchers ----------------------------------------------------------------------------------------------------------


def _launchers(count: int) -> Fault:
    def fault(trial: Trial, stage: str) -> Note | None:
        processes = [trial.start_launcher() for _ in range(count)]
        said = [trial.words_of(process) for process in processes]
        for text, process in zip(said, processes, strict=True):
            if "Traceback" in text or (process.returncode not in (0, 1, 3) and "put it back" not in text):
                trial.violate(f"a further launcher: exit {process.returncode}: {text[-400:]}")
        return _note(
            trial,
            f"{count} further launcher{'s' * (count > 1)}",
            stage,
            f"exit {[p.returncode for p in processes]}",
        )

    return fault


def _launcher_killed(trial: Trial, stage: str) -> Note | None:
    process = trial.start_launcher()
    lived = trial.rng.choice((trial.rng.uniform(0.2, 2.0), trial.rng.uniform(1.0, 6.0)))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=lived)
    process.kill()
    threading.Thread(target=process.communicate, daemon=True).start()
    return _note(trial, "launcher killed", stage, f"after {lived:.2f} s")


WORKER = r"-m undo_hpc\.worker "
PROCESSES: dict[str, Fault] = {
    "kill: worker": _signalled("kill: worker", r"^(?!srun).*" + WORKER),
    "kill: rank": _signalled("kill: rank", r"^(?!srun).*-m undo_hpc\.training "),
    "kill: srun": _signalled("kill: srun", "^srun "),
    "kill: batch script": _signalled("kill: batch script", "slurm_script"),
    "kill: slurmstepd": _stepd_killed,
    "kill: all of a task": _whole_task,
    "SIGTERM to a worker": _signalled("SIGTERM to a worker", r"^(?!srun).*" + WORKER, signal.SIGTERM),
    "SIGUSR1 to a worker": _signalled("SIGUSR1 to a worker", r"^(?!srun).*" + WORKER, signal.SIGUSR1),
}
JOBS: dict[str, Fault] = {
    "scancel": _told("scancel", "scancel"),
    "scancel --signal=KILL": _told("scancel --signal=KILL", "scancel", "--signal=KILL"),
    "scancel --signal=TERM": _told("scancel --signal=TERM", "scancel", "--signal=TERM"),
    "scancel --signal=USR2": _told("scancel --signal=USR2", "scancel", "--signal=USR2"),
    "scancel --full --signal=TERM": _told(
        "scancel --full --signal=TERM", "scancel", "--full", "--signal=TERM"
    ),
    "scancel --batch --signal=KILL": _told(
        "scancel --batch --signal=KILL", "scancel", "--batch", "--signal=KILL"
    ),
    "requeue": _told("requeue", "scontrol", "requeue"),
    "preempted": _preempted,
    "scancel of a waiting job": _waiting_cancelled,
}
DAEMONS: dict[str, Fault] = {
    "slurmd killed, back soon": _slurmd("slurmd killed, back soon", down=False, power=False),
    "slurmd killed, node down": _slurmd("slurmd killed, node down", down=True, power=False),
    "node loses power": _slurmd("node loses power", down=True, power=True),
    "slurmctld killed": _controller("slurmctld killed", signal.SIGKILL),
    "slurmctld restarted": _controller("slurmctld restarted", signal.SIGTERM),
}
LAUNCHERS: dict[str, Fault] = {
    "1 further launcher": _launchers(1),
    "2 further launchers": _launchers(2),
    "launcher killed": _launcher_killed,
}
