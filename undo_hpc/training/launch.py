"""Starts the ranks of a training on one machine: a free port, signals passed on, no rank left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from undo_hpc.errors import ExitCode
from undo_hpc.storage.opening import open_append
from undo_hpc.system.forking import Forked, is_warm
from undo_hpc.system.invocation import python_module

_GRACE_S = 20.0  # between SIGTERM and SIGKILL for ranks whose neighbour died
Process = subprocess.Popen[bytes] | Forked
_PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def never() -> bool:
    """The `should_stop` of a caller that heard nothing."""
    return False


def run_ranks(
    spec_path: Path | str,
    ranks: int,
    *,
    env: Mapping[str, str] | None = None,
    log_dir: Path | None = None,
    should_stop: Callable[[], bool] = never,
) -> int:
    """Runs `ranks` processes of one training to their end and returns the training's exit code.

    SIGTERM, SIGUSR1, SIGUSR2 and SIGINT are passed on to all ranks. When a rank fails, the others are asked to end, and killed where
    they do not within 20 s. A killed rank counts as failed.

    Args:
        env: the environment of the ranks; this process's own by default. OMP_NUM_THREADS is 1 where it is not set.
        log_dir: where rank-NN.log files go (appended); None leaves output where this process's goes.
        should_stop: whether the caller heard a signal before this began to listen; nothing is started then.
    """
    base = dict(os.environ if env is None else env)
    for name in [n for n in base if n.startswith(("SLURM_PROCID", "SLURM_LOCALID"))]:
        del base[name]  # of the step around us, not of these ranks
    base.setdefault("OMP_NUM_THREADS", "1")
    if ranks == 1:
        variables = [{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}]
    else:
        port = str(free_port())
        variables = [
            {
                "RANK": str(r),
                "WORLD_SIZE": str(ranks),
                "LOCAL_RANK": str(r),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            for r in range(ranks)
        ]
    return _run(spec_path, [base | own for own in variables], log_dir, should_stop)


def run_this_rank(
    spec_path: Path | str, env: Mapping[str, str], should_stop: Callable[[], bool] = never
) -> int:
    """Runs the one rank that a cluster's launcher (srun) started this process for, under the variables it gave."""
    return _run(spec_path, [dict(env)], None, should_stop)


def _run(
    spec_path: Path | str,
    environments: Sequence[dict[str, str]],
    log_dir: Path | None,
    should_stop: Callable[[], bool],
) -> int:
    """One process for each environment, watched to their end."""
    command = python_module("undo_hpc.training", str(spec_path))
    processes: list[Process] = []
    passed: set[int] = set()
    with _passing_on(processes, passed), contextlib.ExitStack() as files:
        if should_stop():  # asked after we began to listen: no signal falls between the two
            return ExitCode.REQUEUE
        for rank, environment in enumerate(environments):
            log = None
            if log_dir is not None:
                log_dir.mkdir(parents=True, exist_ok=True)
                log = files.enter_context(open_append(log_dir / f"rank-{rank:02d}.log"))
            if is_warm():  # torch is imported here already
                work = partial(_rank, str(spec_path))
                fd = log.fileno() if log else None
                processes.append(Forked(work, command=command, env=environment, log=fd))
            else:
                processes.append(
                    subprocess.Popen(
                        command, env=environment, stdout=log, stderr=subprocess.STDOUT if log else None
                    )
                )
            for number in tuple(passed):  # it came before this process was there
                processes[-1].send_signal(number)
        try:
            return _watch(processes, passed)
        finally:
            _end(processes, grace_s=0.0)


def _rank(spec_path: str) -> int:
    """A rank in a copy of this process."""
    from undo_hpc.training.__main__ import main

    code = main([spec_path], time.monotonic())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as `python -m undo_hpc.training` ends: other ranks may hang in a collective


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _passing_on(processes: list[Process], passed: set[int]) -> Iterator[None]:
    """Signals to this process go to the ranks; only the main thread may listen, others leave signals alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, _: FrameType | None) -> None:
        passed.add(number)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(processes: list[Process], passed: set[int]) -> int:
    """Waits for all; when one leaves early, ends the rest. Its code is the training's; one that asks for a new start comes first."""
    waiters = [threading.Thread(target=p.wait, daemon=True) for p in processes]
    for waiter in waiters:
        waiter.start()
    while running := [w for w in waiters if w.is_alive()]:
        codes = [_code(code, passed) for p in processes if (code := p.returncode) is not None]
        if early := next((c for c in codes if c in (ExitCode.REQUEUE, ExitCode.INTERRUPTED)), 0):
            # It has saved with all others, or heard a signal while it loaded. The others leave now, or wait for it in vain.
            _end(processes, _GRACE_S)
            return early
        if failed := next((c for c in codes if c), 0):
            _end(processes, _GRACE_S)
            return failed
        running[0].join(0.2)
    codes = [_code(p.wait(), passed) for p in processes]
    return next((c for c in codes if c in (ExitCode.REQUEUE, ExitCode.INTERRUPTED)), max(codes))


def _code(returncode: int, passed: set[int]) -> int:
    """The exit code of a rank. One that a passed-on signal killed had not begun yet: start it again."""
    if returncode >= 0:
        return returncode
    if -returncode in passed:
        return ExitCode.INTERRUPTED if -returncode == signal.SIGINT else ExitCode.REQUEUE
    return ExitCode.FAILED


def _end(processes: list[Process], grace_s: float) -> None:
    """Ends those that still run: asked first, then killed."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
