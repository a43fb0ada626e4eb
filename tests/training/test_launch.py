"""Ranks started as users start them: by run_ranks, by srun's variables with no port given, by torchrun's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import PATIENCE_S, Trainings, metrics, same_bits, weights
from undo_hpc.errors import ExitCode
from undo_hpc.training import launch
from undo_hpc.training.launch import free_port, run_ranks
from undo_hpc.training.spec import TrainSpec


def saved(spec: TrainSpec) -> Path:
    """The spec's file."""
    path = Path(spec.work_dir).parent / "spec.json"
    spec.save(path)
    return path


def test_run_ranks_gives_the_same_weights_as_srun_variables(trainings: Trainings, tmp_path: Path) -> None:
    one, two = trainings.spec(zero_stage=1), trainings.spec(zero_stage=1)
    assert run_ranks(saved(one), 2, log_dir=tmp_path) == ExitCode.COMPLETE, (
        tmp_path / "rank-00.log"
    ).read_text()
    assert "published" in (tmp_path / "rank-00.log").read_text()
    assert (tmp_path / "rank-01.log").exists()

    # srun's variables and no port: rank 0 publishes one through the work directory
    command = [sys.executable, "-m", "undo_hpc.training", str(saved(two))]
    env = {
        k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    } | {
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": "1",
        "SLURM_RESTART_COUNT": "1",
    }
    ranks = [
        subprocess.Popen(command, env=env | {"SLURM_PROCID": str(r), "SLURM_LOCALID": str(r)}) for r in (1, 0)
    ]
    try:
        assert [p.wait(PATIENCE_S) for p in ranks] == [0, 0]
    finally:
        for p in ranks:
            p.kill()
    assert same_bits(weights(one), weights(two))
    assert not list(Path(two.work_dir).glob("meeting-*"))


def test_a_rank_waits_for_the_first_with_a_bound_and_says_what_for(tmp_path: Path) -> None:
    from undo_hpc.errors import TrainingError
    from undo_hpc.training.ranks import RankInfo, rendezvous

    with pytest.raises(TrainingError, match=r"waited 0 s for .*meeting-9-0-0\.json"):
        rendezvous(RankInfo(1, 2, 1), tmp_path, {"SLURM_JOB_ID": "9"}, patience_s=0.3)


def test_a_signal_to_the_launcher_reaches_the_ranks(trainings: Trainings, tmp_path: Path) -> None:
    spec = trainings.spec("signalled", rows=200, epochs=500.0, zero_stage=1)
    code = f"import sys; from undo_hpc.training.launch import run_ranks; sys.exit(run_ranks({str(saved(spec))!r}, 2))"
    launcher = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not metrics(spec):
            assert time.monotonic() < deadline and launcher.poll() is None
            time.sleep(0.1)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(PATIENCE_S) == ExitCode.REQUEUE
    finally:
        launcher.kill()
    assert list((Path(spec.work_dir) / "checkpoints").glob("step-*"))


def test_a_signal_before_the_imports_are_done_asks_for_a_requeue(trainings: Trainings) -> None:
    spec = trainings.spec("early")
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; from undo_hpc.training.launch import run_ranks; print('up', flush=True); "
            f"sys.exit(run_ranks({str(saved(spec))!r}, 2))",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert launcher.stdout is not None and launcher.stdout.readline() == "up\n"
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        deadline = time.monotonic() + PATIENCE_S
        while len(children.read_text().split()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(PATIENCE_S) == ExitCode.REQUEUE
    finally:
        launcher.kill()
        launcher.stdout.close() if launcher.stdout else None
    assert not Path(spec.out_dir).exists()


def test_a_rank_that_waits_for_the_others_leaves_when_asked(trainings: Trainings) -> None:
    """It waits inside torch, where Python hears no signal; and there is nothing to save yet."""
    spec, port = trainings.spec("waiting"), free_port()
    env = os.environ | {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    rank = subprocess.Popen(
        [sys.executable, "-m", "undo_hpc.training", str(saved(spec))],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while socket.socket().connect_ex(
            ("127.0.0.1", port)
        ):  # it listens: the rest of its way to the other rank is torch's
            assert time.monotonic() < deadline and rank.poll() is None
            time.sleep(0.1)
        rank.send_signal(signal.SIGUSR1)
        out, _ = rank.communicate(timeout=PATIENCE_S)
    finally:
        rank.kill()
    assert rank.returncode == ExitCode.REQUEUE and "stopped while loading (signal)" in out


def test_a_rank_that_dies_ends_the_others_even_where_they_do_not_answer(
    trainings: Trainings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, float], None],
) -> None:
    monkeypatch.setattr(launch, "_GRACE_S", 2.0)  # 20 else
    spec = trainings.spec("dying", rows=200, epochs=500.0, zero_stage=1)
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(run_ranks(saved(spec), 2, log_dir=tmp_path)))
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not metrics(spec):
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.1)
    mine = [
        int(p) for p in Path(f"/proc/{os.getpid()}/task").glob("*/children") for p in p.read_text().split()
    ]
    ranks = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in mine}
    victims = [
        pid
        for pid, command in ranks.items()
        if "undo_hpc.training" in command and str(spec.run_id) in command
    ]
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGSTOP)
    os.kill(victims[1], signal.SIGKILL)
    began = time.monotonic()
    thread.join(PATIENCE_S)
    record_property("seconds_until_all_have_ended", time.monotonic() - began)
    assert result == [ExitCode.FAILED]
    assert not any(Path(f"/proc/{pid}").exists() for pid in victims)


def test_wrong_input_keeps_its_code(trainings: Trainings) -> None:
    spec = replace(trainings.spec(), data=["/nowhere.parquet"])
    assert run_ranks(saved(spec), 2) == ExitCode.WRONG_INPUT


def test_a_training_starts_without_a_compiler(trainings: Trainings) -> None:
    """DeepSpeed's hidden builds would need one; here a compiler's call fails loudly."""
    spec = trainings.spec(zero_stage=2, offload="optimizer")  # DeepSpeed's own CPU Adam would be compiled
    trap = trainings.root / "bin"
    trap.mkdir()
    for name in ("gcc", "g++", "cc", "c++", "ninja", "nvcc", "clang"):
        (trap / name).write_text(f"#!/bin/sh\necho {name} >> {trap}/called\nexit 1\n")
        (trap / name).chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{trap}:{os.environ['PATH']}",
        "CC": str(trap / "cc"),
        "CXX": str(trap / "c++"),
    }
    assert run_ranks(saved(spec), 1, env=env) == ExitCode.COMPLETE
    assert not (trap / "called").exists()


LISTENERS = """
import os
from pathlib import Path
from undo_hpc.training.ranks import DistContext, RankInfo
alone = DistContext(RankInfo(0, 1, 0), Path("."), {})
own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
print(os.environ["GLOO_SOCKET_IFNAME"], {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_rank_alone_is_reached_from_no_other_node(tmp_path: Path) -> None:
    """Gloo listens where the name of the node leads, also for one rank; a thousand connections of whoever likes ended it."""
    done = subprocess.run(
        [sys.executable, "-c", LISTENERS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() in ("lo {'0100007F'}", "lo set()")
