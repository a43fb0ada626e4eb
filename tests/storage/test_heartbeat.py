"""One rule for when the owner of a lease, or a teacher server, counts as dead."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from undo_hpc.storage import heartbeat
from undo_hpc.storage.heartbeat import STALE_S, alive_here, is_alive, own_process, process_start


def test_a_process_that_is_hidden_from_us_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    assert alive_here(os.getpid(), process_start(os.getpid())) is True
    assert alive_here(os.getpid(), "an earlier process of that number") is False
    assert alive_here(2**22 + 1, "1") is False

    def another_users(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(heartbeat, "process_start", lambda pid: "")  # /proc is mounted with hidepid
    monkeypatch.setattr(os, "kill", another_users)
    assert alive_here(77, "1") is None


@pytest.mark.parametrize(
    ("record", "alive"),
    [
        ({"host": "another-node", "pid": 1, "start": "1", "heartbeat": 0}, True),
        ({"host": "another-node", "pid": 1, "start": "1", "heartbeat": -STALE_S - 5}, False),
        ({"host": "another-node", "pid": 1, "start": "1"}, False),
        ({"heartbeat": 0}, True),
        ({}, False),
    ],
)
def test_elsewhere_the_heartbeat_tells(record: dict[str, Any], alive: bool) -> None:
    if "heartbeat" in record:
        record = record | {"heartbeat": time.time() + record["heartbeat"]}
    assert is_alive(record) is alive


def test_here_the_process_tells_whatever_its_heartbeat() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        record = {"host": socket.gethostname(), "pid": child.pid, "start": process_start(child.pid)}
        assert is_alive(record | {"heartbeat": time.time() - 10 * STALE_S})
        assert is_alive(own_process())
        child.kill()
        child.wait()
        assert not is_alive(record | {"heartbeat": time.time()})
