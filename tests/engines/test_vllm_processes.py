"""The end of processes that vLLM starts, with processes of Python's own."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

import pytest

from undo_hpc.engines.vllm_processes import VllmProcesses


class Core:
    """What the end of vLLM's engine asks of its client."""

    def shutdown(self, timeout: float) -> None:
        assert timeout > 0


def work(runs: Event) -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # as vLLM's do; what started the tests may ignore it
    runs.set()
    time.sleep(600)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> tuple[VllmProcesses, BaseProcess]:
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    processes = VllmProcesses()
    fork = get_context("fork")
    runs = fork.Event()
    with processes.starting():
        engine = fork.Process(target=work, args=(runs,))
        engine.start()
    assert runs.wait(120)
    assert processes.separate
    return processes, engine


def test_an_engine_is_ended(started: tuple[VllmProcesses, BaseProcess]) -> None:
    processes, engine = started
    processes.end(Core())
    engine.join(120)
    assert (
        engine.exitcode == 1 and not processes.separate
    )  # Python's code for a KeyboardInterrupt: it could tidy up


def test_an_engine_that_another_thread_has_seen_dead_is_no_error(
    started: tuple[VllmProcesses, BaseProcess],
) -> None:
    processes, engine = started
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    os.waitpid(
        engine.pid, 0
    )  # as vLLM's own monitor may do: for multiprocessing the process now lives for ever
    assert engine.is_alive()
    processes.end(Core())
    assert not processes.separate
