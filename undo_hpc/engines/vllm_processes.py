"""The processes that vLLM starts beside ours (its engine, and workers where there are several GPUs), from start to end.

Three things that vLLM 0.32 leaves to us:

* SLURM signals every process of a step. vLLM's would end at once and report the requests under way as aborted, before
  ours has saved. So they are started with those signals blocked, which a child inherits however it is started, and ours
  alone decides. It ends them with SIGINT, which vLLM takes like SIGTERM.
* An engine process that dies without an exit status (SIGKILL, the out-of-memory killer) leaves `LLMEngine.step` waiting for
  ever. So a thread waits for its end and passes it on.
* When our own process is killed they would stay, and keep the GPU's memory. So they ask Linux to be killed with us.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children, connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from undo_hpc.errors import EngineError
from undo_hpc.system.parent_death import DIE_WITH_PARENT, die_with_parent_if_asked

log = logging.getLogger(__name__)

_BLOCKED_SIGNALS = (
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)  # what asks a task to save (cluster.signals)
_SHUTDOWN_S = 8.0  # for an engine process to end by itself: a preempted task may have 30 s in all
_KILL_S = 30.0  # for the driver to take back the memory of a killed one

os.register_at_fork(after_in_child=die_with_parent_if_asked)  # spawned ones: see undo_hpc.worker


class VllmProcesses:
    """The processes of one start of vLLM. Empty where vLLM runs in our own process."""

    def __init__(self) -> None:
        self._engines: list[BaseProcess] = []
        self._all: list[Any] = []  # psutil.Process, workers of the engines too

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Around the call that starts vLLM."""
        if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") == "0":
            yield
            return
        earlier, engines = _descendants(), set(active_children())
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
        # Python's own helper is shared by all of them. Its start lets SIGTERM in again (Python 3.11), hence first.
        resource_tracker.ensure_running()
        earlier |= {p for p in _descendants() if p not in earlier}
        signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_SIGNALS)
        os.environ[DIE_WITH_PARENT] = "KILL"
        try:
            yield
        finally:
            os.environ.pop(DIE_WITH_PARENT, None)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._engines = [child for child in active_children() if child not in engines]
            self._all = [process for process in _descendants() if process not in earlier]

    @property
    def separate(self) -> bool:
        """Whether vLLM's engine runs in a process of its own."""
        return bool(self._engines)

    def watch(self, engine_core: Any) -> None:
        """Makes the end of an engine process an error of the `step` that waits for it."""
        queue = getattr(engine_core, "outputs_queue", None)
        if queue is None or not self._engines:
            return
        ends = [engine.sentinel for engine in self._engines]

        def pass_on() -> None:
            connection.wait(ends)
            queue.put(EngineError("vLLM's engine process has died; its last lines are in the log above"))

        threading.Thread(target=pass_on, daemon=True, name="vllm-watch").start()

    def end(self, engine_core: Any) -> None:
        """Ends them and waits until they and their GPU memory are gone; kills what does not end."""
        engines = {engine.pid for engine in self._engines}
        for process in self._all:
            if process.pid in engines:
                _signal(process, signal.SIGINT)
        engine_core.shutdown(timeout=_SHUTDOWN_S)
        if left := _still_running(self._all, _SHUTDOWN_S):
            log.warning("vLLM: %d processes do not end and are killed", len(left))
            for process in left:
                _signal(process, signal.SIGKILL)
            _still_running(left, _KILL_S)
        self._engines, self._all = [], []


def _descendants() -> set[Any]:
    import psutil

    return set(psutil.Process().children(recursive=True))


def _signal(process: Any, signum: signal.Signals) -> None:
    """To that very process (not to another that got its number); nothing where it has ended, also in this moment."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process.send_signal(signum)


def _still_running(processes: list[Any], seconds: float) -> list[Any]:
    """Those that still run after that time at most."""
    import psutil

    def runs(process: Any) -> bool:
        try:
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
