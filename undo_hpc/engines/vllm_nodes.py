"""One vLLM over several nodes: tensor x pipeline parallel, by vLLM's own launch without Ray (`nnodes`, `node_rank`, `master_addr`; "mp").

SLURM starts one worker a node. The first is the task: it chooses address and port, writes them down with vLLM's arguments (the meeting
file, in the run directory), and starts vLLM. The others follow it: each starts vLLM's headless workers with the same arguments, starts
them again where the first has started again, and ends when it has ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undo_hpc.engines.vllm_sockets import SOCKETS, socket_folder
from undo_hpc.errors import ConfigError, EngineError
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.reading import read_fast
from undo_hpc.system.invocation import python_module
from undo_hpc.system.network import host_name, named_address, routed_address
from undo_hpc.system.own_places import CODE_CACHES
from undo_hpc.system.parent_death import DIE_WITH_PARENT, die_with_parent_if_asked

log = logging.getLogger(__name__)

MEETING = "UNDO_VLLM_MEETING"  # path of the meeting file, set by the worker of a task on several nodes
_BLOCKED = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}  # "save soon": the first node's task decides
_LOOK_EVERY_S = 1.0


def node_count(env: Mapping[str, str] = os.environ) -> int:
    """Over how many nodes this task's model is spread."""
    return int(env.get("SLURM_STEP_NUM_NODES", "1")) if env.get(MEETING) else 1


def spread(arguments: Mapping[str, Any], nodes: int, gpus: int) -> dict[str, Any]:
    """PURE: vLLM's arguments with the parallel sizes of several nodes: as given, else tensor parallel within a node and a pipeline over them.

    Args:
        gpus: of each node; 0 without GPUs (one worker a node).

    Raises:
        ConfigError: tensor x pipeline parallel is not the number of GPUs of all nodes; data parallel is not spread.
    """
    if int(arguments.get("data_parallel_size", 1)) > 1:
        raise ConfigError(
            "engine.vllm.extra.data_parallel_size: a model over several nodes has no copies",
            hint="leave it out: more tasks side by side do the same (generate.shards, generate.service)",
        )
    pipeline = int(arguments.get("pipeline_parallel_size", nodes))
    tensor = int(arguments.get("tensor_parallel_size", max(1, gpus * nodes // pipeline)))
    if tensor * pipeline != nodes * max(1, gpus):
        raise ConfigError(
            f"tensor_parallel_size {tensor} x pipeline_parallel_size {pipeline} is not {nodes} nodes x {max(1, gpus)} GPUs",
            hint="set gpus_per_node and nodes, or engine.vllm.tensor_parallel_size and engine.vllm.extra.pipeline_parallel_size",
        )
    found = dict(arguments)
    if not gpus and pipeline > 1 and "compilation_config" not in found:
        # Without a compilation mode vLLM's CPU workers are not warmed up, and those behind the first lack the buffer that they receive
        # into (0.32: an AssertionError in sync_and_gather_intermediate_tensors). This backend compiles nothing and needs no compiler.
        found |= {"enforce_eager": False, "compilation_config": {"mode": 1, "backend": "eager"}}
    return found | {
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
        "nnodes": nodes,
        "distributed_executor_backend": "mp",
    }


def meet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The first node's part: chooses address and port, tells the others; returns its own arguments. With one node they are as given."""
    nodes = node_count()
    if nodes == 1:
        return dict(arguments)
    address = own_address()
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = int(probe.getsockname()[1])
    os.environ["VLLM_HOST_IP"] = address
    shared = dict(arguments) | {"master_addr": address, "master_port": port}
    write_json(
        Path(os.environ[MEETING]), {"step": _step(), "arguments": shared, "environment": _vllm_variables()}
    )
    log.info("vLLM over %d nodes; the others meet at %s:%d", nodes, address, port)
    return shared | {"node_rank": 0}


def dismiss() -> None:
    """Tells the others that the task has ended."""
    if node_count() > 1:
        write_json(Path(os.environ[MEETING]), {"step": _step()})


def follow(meeting: Path, rank: int) -> None:
    """What the worker of another node does: until the first node's has ended.

    Raises:
        EngineError: vLLM's workers ended on this node, and the first node did not start others.
    """
    started: dict[str, Any] = {}
    process: subprocess.Popen[bytes] | None = None
    try:
        while True:
            found = read_fast(meeting) or {}
            if found.get("step") == _step():
                if "arguments" not in found:
                    return
                arguments, variables = found["arguments"], found.get("environment")
                if not isinstance(arguments, dict) or not isinstance(variables, dict):
                    log.warning(
                        "%s is damaged; waiting for the first node to write it again, or to end", meeting
                    )
                    time.sleep(10 * _LOOK_EVERY_S)
                elif arguments != started:
                    _end(process)
                    started = arguments
                    process = _start(started, rank, {name: str(value) for name, value in variables.items()})
                elif process is not None and process.poll() not in (None, 0):
                    time.sleep(10 * _LOOK_EVERY_S)  # the first node may be starting again
                    if (read_fast(meeting) or {}).get("arguments") == started:
                        raise EngineError(
                            f"vLLM's workers of node {rank} ended with code {process.returncode}",
                            hint="their last lines stand above; the first node's log tells more",
                        )
            time.sleep(_LOOK_EVERY_S)
    finally:
        _end(process)


def _start(arguments: Mapping[str, Any], rank: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    own = {"VLLM_HOST_IP": own_address()}
    if folder := "" if SOCKETS in os.environ else socket_folder(os.getpid()):
        own[SOCKETS] = folder
    return subprocess.Popen(
        python_module(__name__, json.dumps({**arguments, "node_rank": rank})),
        env=os.environ | dict(variables) | own | {DIE_WITH_PARENT: "KILL"},
        preexec_fn=_block_signals,
        start_new_session=True,
    )


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its workers too: they hold nothing that lasts
    process.wait()


def own_address() -> str:
    """An address of this node that the others reach: of its name, else that of the route to other networks."""
    return named_address(host_name()) or routed_address()


def _step() -> str:
    """This start of this job: a meeting file of an earlier one is not meant."""
    return "-".join(
        os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    )


def _vllm_variables() -> dict[str, str]:
    """What decides how vLLM works, beside its arguments; never a key, nor a folder on this node's disk: on another node anybody could make one of
    its name."""
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith("VLLM_") and name not in ("VLLM_HOST_IP", "VLLM_API_KEY", SOCKETS, *CODE_CACHES))
        or name in ("TORCH_COMPILE_DISABLE", "OMP_NUM_THREADS")
    }


def _work(arguments: dict[str, Any]) -> None:
    """vLLM's workers of this node, headless, as `vllm serve --headless` starts them; returns when they have ended."""
    from vllm import EngineArgs
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor

    config = EngineArgs(**arguments).create_engine_config(headless=True)
    MultiprocExecutor(config, monitor_workers=False).start_worker_monitor(inline=True)


if __name__ in ("__main__", "__mp_main__"):  # a worker that is spawned, too
    die_with_parent_if_asked()
if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
