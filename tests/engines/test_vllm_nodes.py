"""One vLLM over several nodes: how it is spread, and how the nodes find each other."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.engines import vllm_nodes
from undo_hpc.errors import ConfigError, EngineError
from undo_hpc.storage.atomic import read_json


@pytest.mark.parametrize(
    ("given", "nodes", "gpus", "sizes"),
    [
        ({}, 2, 8, (8, 2)),
        ({"tensor_parallel_size": 16, "pipeline_parallel_size": 1}, 2, 8, (16, 1)),
        ({"pipeline_parallel_size": 4}, 2, 8, (4, 4)),
        ({}, 3, 0, (1, 3)),
        ({"tensor_parallel_size": 4}, 2, 8, None),  # eight of sixteen GPUs would stand idle
        ({"tensor_parallel_size": 8, "pipeline_parallel_size": 3}, 2, 8, None),
        ({"data_parallel_size": 2}, 2, 8, None),
    ],
)
def test_tensor_times_pipeline_parallel_is_every_gpu_of_every_node(
    given: dict[str, Any], nodes: int, gpus: int, sizes: tuple[int, int] | None
) -> None:
    if sizes is None:
        with pytest.raises(ConfigError):
            vllm_nodes.spread(given, nodes, gpus)
        return
    spread = vllm_nodes.spread(given, nodes, gpus)
    assert (spread["tensor_parallel_size"], spread["pipeline_parallel_size"]) == sizes
    assert spread["nnodes"] == nodes and spread["distributed_executor_backend"] == "mp"
    assert ("compilation_config" in spread) == (not gpus and sizes[1] > 1), "a pipeline on CPUs is warmed up"


@pytest.fixture
def meeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The meeting file of a task on two nodes."""
    path = tmp_path / "meeting.json"
    monkeypatch.setenv(vllm_nodes.MEETING, str(path))
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/local/cache")
    monkeypatch.delenv("VLLM_HOST_IP", raising=False)
    monkeypatch.setattr(vllm_nodes, "_LOOK_EVERY_S", 0.05)
    yield path
    os.environ.pop("VLLM_HOST_IP", None)


def in_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, errors


def wait(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def test_the_others_start_with_the_same_arguments_start_again_and_end_with_the_first(
    meeting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm_nodes.write_json(meeting, {"step": "6-0-0", "arguments": {"model": "of an earlier start"}})
    started: list[tuple[dict[str, Any], subprocess.Popen[bytes]]] = []

    def start(arguments: dict[str, Any], rank: int, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        assert rank == 1 and variables["VLLM_CPU_KVCACHE_SPACE"] == "1"
        assert "VLLM_CACHE_ROOT" not in variables, "each node has its own: here another user may have made it"
        process = subprocess.Popen(["sleep", "600"], start_new_session=True)
        started.append((arguments, process))
        return process

    monkeypatch.setattr(vllm_nodes, "_start", start)
    thread, errors = in_thread(lambda: vllm_nodes.follow(meeting, 1))
    arguments = vllm_nodes.spread({"model": "m"}, 2, 0)
    mine = vllm_nodes.meet(arguments)
    assert mine["node_rank"] == 0 and "sk-secret" not in meeting.read_text()
    wait(lambda: len(started) == 1)
    assert started[0][0] == {key: value for key, value in mine.items() if key != "node_rank"}
    again = vllm_nodes.meet(arguments)
    assert again["master_port"] != mine["master_port"]
    wait(lambda: len(started) == 2)
    assert started[0][1].poll() is not None, "those of the first start are gone"
    vllm_nodes.dismiss()
    thread.join(60)
    assert not thread.is_alive() and not errors and started[1][1].poll() is not None


def test_workers_that_end_by_themselves_are_an_error(meeting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_nodes, "_start", lambda *_: subprocess.Popen(["false"], start_new_session=True))
    vllm_nodes.meet(vllm_nodes.spread({"model": "m"}, 2, 0))
    with pytest.raises(EngineError, match="ended with code 1"):
        vllm_nodes.follow(meeting, 1)
    assert "arguments" in read_json(meeting)


def test_on_one_node_nothing_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm_nodes.MEETING, raising=False)
    assert vllm_nodes.meet({"model": "m"}) == {"model": "m"} and vllm_nodes.node_count() == 1
    vllm_nodes.dismiss()


def test_no_node_takes_its_sockets_folder_from_the_first(
    meeting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first node's folder is on its own disk: on another node there is none of its name, or one that another user has made."""
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/tmp/undo-vllm-of-the-first-node")
    vllm_nodes.meet(vllm_nodes.spread({"model": "m"}, 2, 0))
    variables = read_json(meeting)["environment"]
    monkeypatch.delenv("VLLM_RPC_BASE_PATH")
    said = tmp_path / "said"
    words = ["bash", "-c", f'stat -c %a "$VLLM_RPC_BASE_PATH" >{said}; echo "$VLLM_RPC_BASE_PATH" >>{said}']
    monkeypatch.setattr(vllm_nodes, "python_module", lambda *_: words)
    before = os.umask(0o002)
    try:
        vllm_nodes._start({}, 1, variables).wait()
    finally:
        os.umask(before)
    assert said.read_text().split() == ["700", vllm_nodes.socket_folder(os.getpid())]
