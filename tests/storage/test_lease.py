"""One owner at a time; a dead owner is followed at once, a zombie publishes nothing."""

import errno
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from undo_hpc.errors import LeaseError, StorageError
from undo_hpc.storage import lease as lease_module
from undo_hpc.storage.heartbeat import STALE_S
from undo_hpc.storage.lease import Lease


def test_a_second_owner_is_refused_with_a_name(tmp_path: Path) -> None:
    with (
        Lease(tmp_path / "l", "the run"),
        pytest.raises(LeaseError, match="the run is in use by process"),
        Lease(tmp_path / "l", "the run"),
    ):
        pass
    with Lease(tmp_path / "l", "the run"):
        pass


def test_a_killed_owner_is_followed_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom undo_hpc.storage.lease import Lease\n"
        "Lease(Path(sys.argv[1]), 'x').__enter__()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "l")], check=False).returncode == -9
    assert (tmp_path / "l").exists()
    with Lease(tmp_path / "l", "x") as lease:
        assert lease.still_ours()


def _rewrite(path: Path, **changes: object) -> None:
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


def test_a_silent_owner_on_another_host_is_followed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Lease(tmp_path / "l", "x")
    assert old._try_acquire()
    _rewrite(tmp_path / "l", host="elsewhere")
    with pytest.raises(LeaseError), Lease(tmp_path / "l", "x"):
        pass
    monkeypatch.setattr(lease_module, "WATCH_S", 0.2)
    _rewrite(tmp_path / "l", host="elsewhere", heartbeat=time.time() - STALE_S - 1)
    with Lease(tmp_path / "l", "x"):
        assert not old.still_ours()
        with pytest.raises(LeaseError, match="taken over"):
            old.check()


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_beating_owner_whose_clock_is_wrong_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    monkeypatch.setattr(lease_module, "WATCH_S", 2.0)
    over = threading.Event()

    def beat() -> None:
        (tmp_path / "next").write_bytes(
            orjson.dumps({"host": "elsewhere", "token": "t", "heartbeat": time.time() + skew})
        )
        (tmp_path / "next").replace(tmp_path / "l")

    def go_on() -> None:
        while not over.wait(0.01):
            beat()

    beat()
    owner = threading.Thread(target=go_on)
    owner.start()
    try:
        with pytest.raises(LeaseError, match="elsewhere"), Lease(tmp_path / "l", "x"):
            pass
    finally:
        over.set()
        owner.join()


WRONG_VALUES = [
    {"heartbeat": "soon"},
    {"heartbeat": None},
    {"heartbeat": "nan"},
    {"pid": "12"},
    {"pid": None},
    {"restart": "no"},
    {"job": 7},
    {"token": ["t"]},
    {"host": None},
    {"start": 5},
]
DAMAGES = [
    b"\0" * 200,
    b'{"token": "a',
    b"[1]",
    b"",
    *(json.dumps(values).encode() for values in WRONG_VALUES),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lease_that_a_crash_has_damaged_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setattr(lease_module, "WATCH_S", 0.1)
    (tmp_path / "l").write_bytes(damage)
    with Lease(tmp_path / "l", "x") as lease:
        lease.check()
    assert list(tmp_path.iterdir()) == []


def test_a_heartbeat_that_comes_late_does_not_land_on_the_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "HEARTBEAT_S", 0.01)
    zombie, successor = Lease(tmp_path / "l", "x"), Lease(tmp_path / "l", "x")
    text, taken = zombie._content, threading.Event()

    def held_up() -> (
        bytes
    ):  # the zombie's node hangs in the middle of a beat, long enough to be declared dead
        if (tmp_path / "l").exists() and not taken.is_set():
            (tmp_path / "l").unlink()
            assert successor._try_acquire()
            taken.set()
        return text()

    monkeypatch.setattr(zombie, "_content", held_up)
    with zombie:
        assert taken.wait(120)
        assert zombie._thread is not None
        zombie._thread.join(120)  # its next beat finds the successor, and it gives up
        assert not zombie._thread.is_alive()
        assert successor.still_ours()
    assert successor.still_ours()


def test_a_requeued_job_follows_its_zombie_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    zombie = Lease(tmp_path / "l", "x")
    assert zombie._try_acquire()
    _rewrite(tmp_path / "l", host="failed-node")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with Lease(tmp_path / "l", "x"), pytest.raises(LeaseError):
        zombie.check()


def test_the_same_job_id_given_twice_is_no_proof_of_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    first = Lease(tmp_path / "l", "x")
    assert first._try_acquire()
    _rewrite(tmp_path / "l", host="another-node")
    with pytest.raises(LeaseError), Lease(tmp_path / "l", "x"):
        pass


def test_many_at_once_have_one_winner(tmp_path: Path) -> None:
    winners, barrier = [], threading.Barrier(8)

    def contend() -> None:
        lease = Lease(tmp_path / "l", "x")
        barrier.wait()
        if lease._try_acquire():
            winners.append(lease)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1


def test_a_lease_that_cannot_be_given_back_does_not_hide_why_the_work_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(StorageError, match="the disk is full"), Lease(tmp_path / "lease", "the task"):
        monkeypatch.setattr(Path, "rename", read_only)
        raise StorageError("the disk is full")
