"""One owner at a time; a dead owner is followed at once, a zombie publishes nothing."""

import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from undo_hpc.errors import LeaseError
from undo_hpc.storage.lease import STALE_S, Lease


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


def test_a_silent_owner_on_another_host_is_followed_after_a_while(tmp_path: Path) -> None:
    old = Lease(tmp_path / "l", "x")
    assert old._take()
    _rewrite(tmp_path / "l", host="elsewhere")
    with pytest.raises(LeaseError), Lease(tmp_path / "l", "x"):
        pass
    _rewrite(
        tmp_path / "l",
        host="elsewhere",
        heartbeat=orjson.loads((tmp_path / "l").read_bytes())["heartbeat"] - STALE_S - 1,
    )
    with Lease(tmp_path / "l", "x"):
        assert not old.still_ours()
        with pytest.raises(LeaseError, match="taken over"):
            old.check()


def test_a_requeued_job_follows_its_zombie_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    zombie = Lease(tmp_path / "l", "x")
    assert zombie._take()
    _rewrite(tmp_path / "l", host="failed-node")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with Lease(tmp_path / "l", "x"), pytest.raises(LeaseError):
        zombie.check()


def test_the_same_job_id_given_twice_is_no_proof_of_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    first = Lease(tmp_path / "l", "x")
    assert first._take()
    _rewrite(tmp_path / "l", host="another-node")
    with pytest.raises(LeaseError), Lease(tmp_path / "l", "x"):
        pass


def test_many_at_once_have_one_winner(tmp_path: Path) -> None:
    winners, barrier = [], threading.Barrier(8)

    def contend() -> None:
        lease = Lease(tmp_path / "l", "x")
        barrier.wait()
        if lease._take():
            winners.append(lease)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
