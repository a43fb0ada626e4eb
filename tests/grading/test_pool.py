"""The pool: order, laziness, deadlines, memory, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from undo_hpc.errors import ConfigError, UndoError
from undo_hpc.grading import Checker, GradeItem, GradeOptions, grade, grade_many
from undo_hpc.grading import pool as pool_module
from undo_hpc.grading.decide import decide
from undo_hpc.records import Grade

ALGEBRA = "\\int_0^1 2x dx"  # only algebra can decide it
SLOW = "\\int_0^1 \\frac{\\sin(x^3) \\cos(x^5)}{\\sqrt{1+x^7+x^{11}}} dx"  # and this takes it very long


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(checker: Checker) -> list[int]:
    return [worker.process.pid for worker in checker._pool]


def eventually(condition: object, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_all_is_graded(workers: int) -> None:
    items = [GradeItem(f"\\boxed{{{i}}}", str(i if i % 3 else i + 1)) for i in range(500)]
    items[100] = GradeItem(f"\\boxed{{{ALGEBRA}}}", "1")
    items[200] = GradeItem(f"\\boxed{{{ALGEBRA}}}", "2")
    with Checker(workers, deadline_s=60.0) as checker:
        grades = list(checker.grade_many(items))
    expected = [bool(i % 3) for i in range(500)]
    expected[100], expected[200] = True, False
    assert [g.correct for g in grades] == expected
    assert grades[100].method == grades[200].method == "algebra"


@pytest.mark.parametrize("workers", [1, 2])
def test_it_streams_with_a_bounded_window(workers: int) -> None:
    taken = 0

    def endless() -> Iterator[GradeItem]:
        nonlocal taken
        while True:
            taken += 1
            yield GradeItem("\\boxed{1}", "1")

    with Checker(workers, deadline_s=60.0) as checker:
        stream = checker.grade_many(endless())
        assert all(next(stream).correct for _ in range(1000))
        assert taken <= 1000 + pool_module.WINDOW_ITEMS + 10 * pool_module.JOB_ITEMS
        stream.close()
        assert checker.grade(GradeItem("2", "2")).correct


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_answer_times_out_and_the_rest_goes_on(workers: int) -> None:
    items = [
        GradeItem("1", "1"),
        GradeItem(f"\\boxed{{{SLOW}}}", "0.25"),
        GradeItem(f"\\boxed{{{ALGEBRA}}}", "1"),
        GradeItem("2", "2"),
    ]
    assert not isinstance(decide(items[1]), Grade)  # the grammar leaves it open
    with Checker(workers, deadline_s=600.0) as checker:
        checker.warm()
        checker.deadline_s = 1.5
        before = pids(checker)
        start = time.monotonic()
        first = [checker.grade(items[1])] if workers == 1 else list(checker.grade_many([items[1]]))
        took = time.monotonic() - start
        checker.deadline_s = 600.0
        rest = list(checker.grade_many(items[2:]))
        assert first[0].verdict == "timeout"
        assert took < 300
        assert [g.verdict for g in rest] == ["correct", "correct"]
        assert not all(alive(pid) for pid in before)


def test_a_killed_worker_is_replaced_and_its_items_are_graded() -> None:
    with Checker(2, deadline_s=60.0) as checker:
        checker.warm()
        victim = pids(checker)[0]
        items = [GradeItem(f"\\boxed{{{i}}}", str(i)) for i in range(2000)]
        stream = checker.grade_many(items)
        found = [next(stream)]
        os.kill(victim, signal.SIGKILL)
        found += list(stream)
        assert len(found) == 2000
        assert all(g.correct for g in found)


def test_a_signal_to_all_processes_of_a_step_changes_no_verdict() -> None:
    """As SLURM sends it before a preemption and at a time limit: the task saves, its workers go on grading until it ends."""
    with Checker(2, deadline_s=60.0) as checker:
        checker.warm()
        before = pids(checker)
        items = [GradeItem(f"\\boxed{{{i}}}", str(i + i % 2)) for i in range(2000)]
        stream = checker.grade_many(items)
        found = [next(stream)]
        for pid in before:
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT):
                os.kill(pid, number)
        found += list(stream)
        assert [g.verdict for g in found] == ["correct", "wrong"] * 1000
        assert pids(checker) == before


def test_a_start_may_take_longer_than_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a crowded machine the first words of a worker come late: that is no deadline of an item."""
    slow = "import runpy, sys, time; time.sleep(3); sys.argv[0] = 'worker'; runpy.run_module('undo_hpc.grading.worker', run_name='__main__')"
    monkeypatch.setattr(pool_module, "python_module", lambda _, *words: [sys.executable, "-c", slow, *words])
    with Checker(1, deadline_s=1.0) as checker:
        assert checker.grade(GradeItem("\\boxed{7}", "7")).verdict == "correct"


def test_a_worker_that_never_starts_is_an_error_that_says_how_long_it_was_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "python_module", lambda *_: ["sleep", "600"])
    monkeypatch.setattr(pool_module, "_START_SECONDS", 0.5)
    with Checker(1) as checker:
        with pytest.raises(UndoError, match=r"did not start within 0\.5 s"):
            checker.grade(GradeItem("\\boxed{7}", "7"))
        before = pids(checker)
    assert not any(alive(pid) for pid in before)


def test_memory_of_the_worker_is_limited() -> None:
    with Checker(1, deadline_s=60.0, memory_mb=1024) as checker:
        checker.warm()
        limits = Path(f"/proc/{pids(checker)[0]}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert str(1024 * 1024 * 1024) in line


def test_no_process_is_left_behind() -> None:
    checker = Checker(2, deadline_s=60.0)
    checker.warm()
    workers = pids(checker)
    assert all(alive(pid) for pid in workers)
    checker.close()
    assert not any(alive(pid) for pid in workers)


def test_workers_end_with_a_parent_that_was_killed() -> None:
    code = (
        "import sys, time\nfrom undo_hpc.grading import Checker\nc = Checker(2, 60.0); c.warm()\n"
        "print(*[w.process.pid for w in c._pool], flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(workers) == 2
    assert eventually(lambda: not any(alive(pid) for pid in workers))


def test_the_module_function_leaves_nothing_at_exit() -> None:
    code = (
        "from undo_hpc import grading\nimport sys\n"
        f"print(grading.grade({f'boxed: {ALGEBRA}'!r}.replace('boxed: ', ''), '1').verdict)\n"
        "print(*[w.process.pid for c in grading._checkers.values() for w in c._pool])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    verdict, workers = done.stdout.splitlines()
    assert verdict == "correct"
    assert workers and not any(alive(int(pid)) for pid in workers.split())


def test_the_import_is_cheap() -> None:
    code = "import sys, undo_hpc.grading; print([m for m in ('sympy','math_verify','mpmath','torch','numpy','transformers') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
        ).stdout.strip()
        == "[]"
    )


def test_grade_and_grade_many() -> None:
    assert grade("so \\boxed{0.5}", "1/2").correct
    assert grade("The answer is (B).", "B", options=GradeOptions(kind="letter", choices=("1", "2"))).correct
    assert grade("two", "B", options=GradeOptions(kind="letter", choices=("one", "two"))).correct
    assert [g.verdict for g in grade_many([("1", "1"), ("", "1"), ("2", "1")], workers=1)] == [
        "correct",
        "no_answer",
        "wrong",
    ]


@pytest.mark.parametrize(
    "arguments", [(0, 5.0, 2048), (10**6, 5.0, 2048), (1, 0.0, 2048), (1, float("nan"), 2048), (1, 5.0, 10)]
)
def test_senseless_settings_are_refused(arguments: tuple[int, float, int]) -> None:
    with pytest.raises(ConfigError):
        Checker(*arguments)


def test_an_error_of_the_caller_passes_through_and_leaves_the_pool_usable() -> None:
    def broken() -> Iterator[GradeItem]:
        yield GradeItem("1", "1")
        raise RuntimeError("of the caller")

    with Checker(2, deadline_s=60.0) as checker:
        with pytest.raises(RuntimeError, match="of the caller"):
            list(checker.grade_many(broken()))
        assert [g.correct for g in checker.grade_many([GradeItem("1", "1")])] == [True]


def test_an_interrupted_end_can_be_ended_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C while the workers end: the first is the error that counts, and no worker stays."""
    checker = Checker(workers=2)
    checker.warm()
    first, second = checker._pool
    wait, calls = second.process.wait, []

    def interrupted() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return wait()

    monkeypatch.setattr(second.process, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checker.close()
    checker.close()
    assert checker._pool == [] and eventually(lambda: not any(alive(w.process.pid) for w in (first, second)))
