"""Signals that mean "save soon", and what they are about."""

import os
import signal
import time
from pathlib import Path

import pytest

from undo_hpc.cluster.signals import (
    StopSignals,
    ask_end,
    classify,
    count_restarts,
    own_job,
    real_end,
    seconds_of,
)

JOB = {"SLURM_JOB_ID": "7", "UNDO_SIGNAL_LEAD": "60"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_each_signal_is_remembered_and_old_handlers_come_back(number: signal.Signals) -> None:
    seen: list[int] = []
    old = signal.signal(number, lambda n, f: seen.append(n))
    try:
        with StopSignals({}) as soon:
            assert not soon.requested() and soon.reason == ""
            os.kill(os.getpid(), number)
            assert soon.requested() and soon.reason == "stopped"
        os.kill(os.getpid(), number)
        assert seen == [number]
    finally:
        signal.signal(number, old)


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), StopSignals({}):
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "left", "expected"),
    [
        (signal.SIGUSR1, 60, "timeout"),  # our own lead signal
        (signal.SIGUSR1, 118, "timeout"),  # a minute early, as SLURM does
        (signal.SIGUSR1, 3000, "preempted"),  # a site that sends the job's own signal when it preempts
        (signal.SIGTERM, 3000, "preempted"),
        (signal.SIGTERM, 100, "preempted"),  # within the lead: SIGTERM is not sent that early
        (signal.SIGTERM, -5, "timeout"),
        (signal.SIGUSR2, 10, "timeout"),
    ],
)
def test_the_real_end_tells_a_timeout_from_a_preemption(number: int, left: float, expected: str) -> None:
    assert classify(number, 1000.0, 1000.0 + left, 60.0) == expected


def test_the_end_is_start_plus_limit_whatever_a_preemption_does_to_endtime() -> None:
    text = "JobId=3 JobState=RUNNING RunTime=00:00:09 TimeLimit=00:10:00 StartTime=1795337011 EndTime=1795337020 X=1"
    assert real_end(text) == 1795337611
    assert real_end("TimeLimit=UNLIMITED StartTime=1795337011") is None
    assert real_end("TimeLimit=00:10:00 StartTime=Unknown") is None


def test_a_changed_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [time.time() + 60, time.time() + 7200]  # the limit was raised meanwhile
    with StopSignals(JOB, lambda env: ends.pop(0)) as soon:
        left = soon.time_left_s()
        assert left is not None and 50 < left <= 60
        os.kill(os.getpid(), signal.SIGUSR1)
        assert soon.reason == "preempted"


def test_in_a_container_without_slurms_commands_the_end_is_what_the_batch_script_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_end(JOB | {"UNDO_JOB_END": "1795337611"}) == 1795337611
    assert ask_end(JOB | {"UNDO_JOB_END": "N/A"}) is None and ask_end(JOB) is None


def test_limits_in_words() -> None:
    assert seconds_of("2-03:04:05") == ((2 * 24 + 3) * 60 + 4) * 60 + 5
    assert seconds_of("01:00:00") == 3600
    assert seconds_of("10:30") == 630
    assert seconds_of("UNLIMITED") is None


def test_a_task_of_an_array_never_names_the_whole_array() -> None:
    assert own_job({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}) == "12_3"
    assert own_job({"SLURM_JOB_ID": "12"}) == "12"
    assert own_job({}) == ""


def test_restarts_are_counted_by_cause() -> None:
    start, events = {"kind": "start"}, []
    for reason in ("preempted", "timeout", "timeout"):
        events += [start, {"kind": "end", "status": "requeue", "reason": reason}]
    events += [start, start]  # one start ended without a word
    found = count_restarts(events)
    assert (found.preempted, found.timeout, found.lost) == (1, 2, 1)
