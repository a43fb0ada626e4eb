"""Signals that mean "save soon", and what they are about: the task is preempted, or its time is nearly up.

SLURM says it in different ways, and all mean the same to a stage: SIGTERM at the start of a grace time (or just before the
end, where there is none), SIGUSR1 some time before the time limit (our --signal), SIGUSR2 from tools that send their own.
Which it was is derived from the job's real end, start + time limit: its EndTime is moved forward when it is preempted.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
EARLY_S = 75.0  # SLURM looks at time limits in rounds: the lead signal may come a minute early
LATE_S = 35.0  # and the end may come half a minute late


def own_job(env: Mapping[str, str]) -> str:
    """The id of this job as scontrol takes it, or nothing. The bare id of an array's last task would mean the whole array."""
    if env.get("SLURM_ARRAY_JOB_ID"):
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env.get('SLURM_ARRAY_TASK_ID', '0')}"
    return env.get("SLURM_JOB_ID", "")


def seconds_of(limit: str) -> float | None:
    """SLURM's [days-]hours:minutes:seconds in seconds; None for UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def real_end(description: str) -> float | None:
    """Start + time limit out of `scontrol show job -o`, in seconds since 1970; None where there is no limit.

    The start is read in seconds since 1970: an hour of local time comes twice where clocks are put back.
    """
    values = dict(re.findall(r"(\w+)=(\S+)", description))
    limit = seconds_of(values.get("TimeLimit", ""))
    start = values.get("StartTime", "")
    return None if limit is None or not start.isdigit() else int(start) + limit


def ask_end(env: Mapping[str, str]) -> float | None:
    """The real end of this job; None outside SLURM, without a limit, or where the controller does not answer.

    In a container, where SLURM's commands are missing, the end as it was when the task began (UNDO_JOB_END, from the prelude).
    """
    job = own_job(env)
    if not job:
        return None
    try:
        done = subprocess.run(
            ["scontrol", "show", "job", "-o", job],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=15,
            check=False,
            env=os.environ | {"SLURM_TIME_FORMAT": "%s"},
        )  # a site may have set another
    except FileNotFoundError:
        told = env.get("UNDO_JOB_END", "")
        return float(told) if told.isdigit() else None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return real_end(done.stdout) if done.returncode == 0 else None


class StopSignals:
    """Catches the signals and remembers them; a context manager that puts the old handlers back.

    Args:
        env: the environment (SLURM's variables, and UNDO_SIGNAL_LEAD: seconds between our signal and the time limit).
        end: asks for the job's real end.
    """

    def __init__(
        self, env: Mapping[str, str] | None = None, end: Callable[[Mapping[str, str]], float | None] = ask_end
    ) -> None:
        self._env = dict(os.environ if env is None else env)
        self._ask = end
        self._end: float | None = None
        self._asked = False
        self._signal: int | None = None
        self._when = 0.0
        self._reason = ""
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal, self._when = number, time.time()

    def requested(self) -> bool:
        """Whether the task was asked to save and stop."""
        return self._signal is not None

    def time_left_s(self) -> float | None:
        """Seconds until the time limit; None where there is none or it is not known."""
        if not self._asked:
            self._end, self._asked = self._ask(self._env), True
        return None if self._end is None else self._end - time.time()

    @property
    def reason(self) -> str:
        """'preempted', 'timeout', 'stopped' (outside SLURM), or empty where nothing was asked."""
        if self._signal is None:
            return ""
        if not self._reason:
            if not own_job(self._env):
                self._reason = "stopped"
            else:
                # Asked again: a limit may have been changed meanwhile. What was known before serves where nobody answers.
                end = self._ask(self._env) or self._end
                self._reason = classify(
                    self._signal, self._when, end, float(self._env.get("UNDO_SIGNAL_LEAD", "120"))
                )
        return self._reason

    def requeue_reason(self) -> str:
        """Why a stage asks to be started again, also where it heard the signal itself or watched the clock (training does)."""
        if self._signal is None:
            self._signal, self._when = int(signal.SIGUSR1), time.time()
        return self.reason


def classify(number: int, when: float, end: float | None, lead_s: float) -> str:
    """'timeout' where the real end explains a signal at that time, else 'preempted'."""
    if end is None:
        return "preempted"
    margin = lead_s + EARLY_S if number in (signal.SIGUSR1, signal.SIGUSR2) else LATE_S
    return "timeout" if end - when <= margin else "preempted"


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a task was started again, by cause. `lost` died without an exit status (SIGKILL, a node's failure)."""

    preempted: int = 0
    timeout: int = 0
    lost: int = 0


def count_restarts(events: Iterable[Mapping[str, Any]]) -> Restarts:
    """Restarts out of a task's events (the present start is not counted as lost)."""
    preempted = timeout = lost = 0
    open_start = False
    for event in events:
        if event.get("kind") == "start":
            lost += open_start
            open_start = True
        elif event.get("kind") == "end":
            open_start = False
            if event.get("status") == "requeue":
                timeout += event.get("reason") == "timeout"
                preempted += event.get("reason") == "preempted"
    return Restarts(preempted, timeout, lost)
