"""A warm process starts workers as copies of itself: with their own log, environment, name and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from undo_hpc.errors import ExitCode
from undo_hpc.system.forking import Forked
from undo_hpc.system.parent_death import DIE_WITH_PARENT
from undo_hpc.system.warm import WarmProcess, WarmServer

# A worker: `exit N` ends with N, `say` prints, `sleep` waits and saves when it is asked to, `fail` raises.
SERVER = """
import os, signal, sys, time, json
from undo_hpc.system.parent_death import die_with_parent_if_asked
from undo_hpc.system.warm import serve
loaded = "once"
def work(argv):
    die_with_parent_if_asked(pass_on=False)
    if argv[0] == "say":
        print(loaded, os.environ["WHO"], os.environ.get("ONLY_OF_THE_SERVER"), sys.stdin.read(), flush=True)
        print(open("/proc/self/cmdline").read().replace(chr(0), " "), file=sys.stderr)
        return 0
    if argv[0] == "sleep":
        def save(*_):
            print("saved", flush=True)
            os._exit(75)
        signal.signal(signal.SIGTERM, save)
        print("ready", os.getpid(), flush=True)
        time.sleep(600)
    if argv[0] == "stubborn":
        signal.signal(signal.SIGTERM, lambda *_: print("not yet", flush=True))
        print("ready", flush=True)
        while True:
            time.sleep(600)
    if argv[0] == "fail":
        raise ValueError("broken")
    sys.exit(int(argv[1]))
die_with_parent_if_asked(pass_on=False)
serve(int(sys.argv[1]), work, ["-m", "a.worker"])
"""


@pytest.fixture
def server() -> Iterator[WarmServer]:
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root), "ONLY_OF_THE_SERVER": "1", DIE_WITH_PARENT: "TERM"}
    warm = WarmServer([sys.executable, "-c", SERVER], env)
    yield warm
    warm.close()


def start(server: WarmServer, log: Path, *argv: str) -> WarmProcess:
    env = {k: v for k, v in os.environ.items() if k != "ONLY_OF_THE_SERVER"} | {
        "WHO": "me",
        DIE_WITH_PARENT: "TERM",
    }
    return server.start(argv, log, env)


def until_said(log: Path, word: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if log.exists() and word in (text := log.read_text()):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{log} never said {word}")


def test_workers_end_with_their_own_codes_and_write_their_own_logs(
    server: WarmServer, tmp_path: Path
) -> None:
    many = [start(server, tmp_path / f"{k}.log", "exit", str(k)) for k in range(5)]
    said = start(server, tmp_path / "said.log", "say", "x")
    failed = start(server, tmp_path / "failed.log", "fail")
    assert [process.wait(120) for process in many] == [0, 1, 2, 3, 4]
    assert said.wait(120) == 0
    first, name = (tmp_path / "said.log").read_text().splitlines()
    assert first.split() == ["once", "me", "None"], "its own environment, and nothing to read"
    assert name.strip() == f"{sys.executable} -m a.worker say x"
    assert failed.wait(120) == 1 and "ValueError: broken" in (tmp_path / "failed.log").read_text()


def test_a_worker_is_asked_to_save_and_is_killed(server: WarmServer, tmp_path: Path) -> None:
    asked, killed = (start(server, tmp_path / name, "sleep") for name in ("asked", "killed"))
    with pytest.raises(subprocess.TimeoutExpired):
        asked.wait(0.05)
    until_said(tmp_path / "asked", "ready")
    asked.send_signal(signal.SIGTERM)
    assert asked.wait(120) == 75 and "saved" in (tmp_path / "asked").read_text()
    killed.kill()
    assert killed.wait(120) == -signal.SIGKILL
    killed.send_signal(signal.SIGTERM)  # nobody is there any more
    assert killed.poll() == -signal.SIGKILL


def test_workers_save_where_the_warm_process_is_gone(server: WarmServer, tmp_path: Path) -> None:
    worker = start(server, tmp_path / "log", "sleep")
    until_said(tmp_path / "log", "ready")
    server._process.kill()
    assert worker.wait(120) == ExitCode.REQUEUE and worker.is_lost, "nobody can tell its code any more"
    assert not server.alive
    assert "saved" in (tmp_path / "log").read_text(), "it was waited for"
    later = start(server, tmp_path / "later", "sleep")
    assert later.wait(120) == ExitCode.REQUEUE and not (tmp_path / "later").exists()


def test_workers_of_a_dead_warm_process_are_waited_for_and_signalled(
    server: WarmServer, tmp_path: Path
) -> None:
    worker = start(server, tmp_path / "log", "stubborn")
    until_said(tmp_path / "log", "ready")
    server._process.kill()
    until_said(tmp_path / "log", "not yet")
    assert worker.poll() is None and not worker.is_lost
    worker.kill()
    assert worker.wait(120) == ExitCode.REQUEUE and worker.is_lost
    worker.kill()  # nobody is there any more


def test_a_signal_while_it_imports_starts_nothing(tmp_path: Path) -> None:
    warm = WarmServer([sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
    workers = [start(warm, tmp_path / name, "sleep") for name in ("a", "b")]
    workers[0].send_signal(signal.SIGTERM)
    assert [worker.wait(120) for worker in workers] == [-signal.SIGTERM] * 2
    assert not any(worker.is_lost for worker in workers) and not warm.alive
    warm.close()


def test_a_copy_is_watched_as_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "atexit._run_exitfuncs", lambda: None
    )  # pytest's remove folders of earlier runs, for minutes
    with (tmp_path / "log").open("ab") as log:
        forked = Forked(lambda: os.write(1, b"here\n") + 2, command=["a"], env=os.environ, log=log.fileno())
    assert forked.wait(60) == 7 == forked.poll() == forked.returncode
    assert (tmp_path / "log").read_text() == "here\n"
    sleeping = Forked(lambda: time.sleep(600) or 0, command=["a"], env=os.environ)  # type: ignore[func-returns-value]
    assert sleeping.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        sleeping.wait(0.05)
    sleeping.terminate()
    assert sleeping.wait() == -signal.SIGTERM


def test_a_signal_at_once_after_the_fork_is_not_lost() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # of this process; a copy has its own
    try:
        for _ in range(20):
            child = Forked(lambda: time.sleep(600) or 0, command=["a"], env=os.environ)  # type: ignore[func-returns-value]
            child.terminate()
            try:
                assert child.wait(60) == -signal.SIGTERM
            finally:
                child.kill()
    finally:
        signal.signal(signal.SIGTERM, before)
