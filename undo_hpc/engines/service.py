"""The teacher as a service: server tasks that publish their address in the run directory, and how clients find them.

A server's file is written when it answers, rewritten as a heartbeat, and removed at the end. A file whose heartbeat
has stopped is a server that was killed: clients skip it. Nothing secret is in it: where the user names a key (a file,
or a variable), servers ask for that key and clients send it; else for one of the run's own, in a file that its owner alone can read.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from undo_hpc.chat.template import prints_date, with_fixed_date
from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
from undo_hpc.engines import vllm_guard
from undo_hpc.engines.api_key import find_key, own_key
from undo_hpc.engines.base import never
from undo_hpc.engines.vllm_nodes import meet
from undo_hpc.engines.vllm_settings import environment, llm_arguments, server_flags, variables_to_unset
from undo_hpc.errors import EngineError
from undo_hpc.models.own_files import own_files
from undo_hpc.pipeline.layout import Layout
from undo_hpc.storage.atomic import write_json, write_text
from undo_hpc.storage.heartbeat import HEARTBEAT_S, STALE_S, is_alive, own_process
from undo_hpc.storage.manifest import sealed, unseal
from undo_hpc.storage.opening import open_append, read_bytes
from undo_hpc.system.data_files import project_root
from undo_hpc.system.invocation import python_module
from undo_hpc.system.network import host_name, listeners, named_address
from undo_hpc.system.wording import printable

log = logging.getLogger(__name__)

_LOOPBACK, _ALL_INTERFACES = "127.0.0.1", "0.0.0.0"  # noqa: S104  only inside a SLURM job
_LIBC = ctypes.CDLL(None)
_MAX_FAILED_CHECKS = 6  # health checks without answer until a server counts as hung


@dataclass(frozen=True, slots=True)
class Server:
    """A server as published. `extra` goes into each request (`stop_token_ids`); `template_sha` is of the chat template
    it applies; `key` is what it asks for where that is the run's own.
    """

    url: str
    model: str
    template_sha: str
    extra: dict[str, Any]
    key: str = field(default="", repr=False)


def serve_dir(run_dir: Path, iteration: int) -> Path:
    """The folder in which the servers of an iteration publish themselves."""
    return Layout(Path(run_dir)).iteration(iteration).servers


def discover(run_dir: Path, iteration: int | None = None, *, stale_s: float = STALE_S) -> list[Server]:
    """The servers whose heartbeat is recent, by number. Without `iteration`, those of the latest one that has a `serve` folder.

    Args:
        stale_s: age in seconds from which on a heartbeat counts as stopped.

    """
    layout = Layout(Path(run_dir))
    found = []
    latest = [layout.iteration(k) for k in layout.with_servers() if iteration in (None, k)][-1:]
    for at, path in [(each, file) for each in latest for file in each.server_files()]:
        try:
            if (data := read_bytes(path)) is None:
                continue
            row = json.loads(data)
            unseal(row)
            if is_alive(row, stale_s=stale_s):
                key = own_key(at.server_key) if row.get("own_key") else ""
                extra = {"stop_token_ids": row["stop_ids"]}
                found.append(Server(row["url"], row["model"], row["template_sha"], extra, key))
        except OSError:
            continue  # removed just now, or replaced while we read it (NFS: "stale file handle")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            log.warning("%s is no server file (%s: %s)", path, type(error).__name__, error)
    return found


def serve(
    run_dir: Path,
    iteration: int,
    index: int,
    config: EngineConfig,
    model: ModelConfig,
    should_stop: Callable[[], bool] = never,
    *,
    start_timeout_s: float = 3600.0,
    prompts: Sequence[str] = (),
    max_tokens: int = 0,
) -> None:
    """Runs one server until `should_stop()`; returns when it is down and its file is gone.

    Args:
        index: number of this server among those of the iteration.
        config: its `vllm` part says how the model is run, its `openai` part where a key may be found.
        start_timeout_s: how long the server may take until it answers, in seconds.
        prompts, max_tokens: as of `load_engine`, of all clients.

    Raises:
        EngineError: the server does not start, dies, or hangs. The end of its log is in the message.
    """
    from undo_hpc.engines.chat import Chat

    chat = Chat(model)
    folder = serve_dir(run_dir, iteration)
    folder.mkdir(parents=True, exist_ok=True)
    at = Layout(Path(run_dir)).iteration(iteration)
    path, log_path = at.server(index), at.server_log(index)
    host, bind = _addresses()
    port = _free_port(bind)
    needed_tokens = chat.longest(prompts) + max_tokens if prompts else 0
    command = server_command(config.vllm, model, chat.path, bind, port, needed_tokens)
    if prints_date(chat.template) and model.date:  # the server's clock would print another day tomorrow
        dated = folder / f"chat-template-{index:05d}.jinja"
        write_text(dated, with_fixed_date(chat.template, model.date))
        command += ["--chat-template", str(dated)]
    variables = {
        name: value for name, value in os.environ.items() if name not in variables_to_unset()
    } | environment(config.vllm)
    key = find_key(config.openai.api_key_file, config.openai.api_key_env, required=False)
    variables[vllm_guard.KEY] = key or own_key(
        at.server_key
    )  # by variable: all users can read a command line
    paths = [str(project_root()), *filter(None, [variables.get("PYTHONPATH")])]  # of the guard
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    row = {
        "url": f"http://{host}:{port}/v1",
        "model": model.model,
        **own_process(),
        "started": time.time(),
        "stop_ids": sorted(chat.stop_ids),
        "template_sha": chat.describe()["template_sha"],
        "own_key": not key,
    }
    health = f"http://{_LOOPBACK if bind == _ALL_INTERFACES else bind}:{port}/health"
    process = None
    try:
        with own_files(chat.path, model.revision):
            with open_append(log_path) as sink:
                process = subprocess.Popen(
                    command,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    preexec_fn=_prepare_child,
                    start_new_session=True,  # so that `_terminate` reaches its engine and workers too
                )
            healthy = _wait_until_healthy(process, health, should_stop, start_timeout_s, log_path)
        if healthy:
            log.info("server %d answers at %s", index, row["url"])
            _watch(
                process,
                health,
                should_stop,
                log_path,
                # with a checksum: other stop tokens, or another template, would be believed by every client
                lambda: write_json(path, sealed(row | {"heartbeat": time.time()})),
            )
    finally:
        path.unlink(missing_ok=True)
        if process:
            _terminate(process)


def server_command(
    config: VllmEngineConfig, model: ModelConfig, path: str, bind: str, port: int, needed_tokens: int = 0
) -> list[str]:
    """The command that starts vLLM's server (its module rather than `vllm serve`, which the CPU build lacks)."""
    return [
        *python_module("vllm.entrypoints.openai.api_server"),
        "--host",
        bind,
        "--port",
        str(port),
        "--served-model-name",
        model.model,
        "--uvicorn-log-level",
        "warning",
        "--middleware",
        f"{vllm_guard.__name__}.{vllm_guard.RequireKey.__name__}",
        *server_flags(meet(llm_arguments(config, model, path, needed_tokens))),
    ]


def _wait_until_healthy(
    process: subprocess.Popen[bytes],
    url: str,
    should_stop: Callable[[], bool],
    timeout_s: float,
    log_path: Path,
) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if should_stop():
            return False
        if process.poll() is not None:
            if _is_stopping(should_stop):
                return False
            raise EngineError(
                f"the server ended with code {process.returncode} before it answered:\n{_log_tail(log_path)}",
                hint=f"see {log_path}",
            )
        if _is_healthy(url):
            return True
        time.sleep(0.5)
    raise EngineError(
        f"the server did not answer within {timeout_s:.0f} s:\n{_log_tail(log_path)}", hint=f"see {log_path}"
    )


def _watch(
    process: subprocess.Popen[bytes],
    url: str,
    should_stop: Callable[[], bool],
    log_path: Path,
    beat: Callable[[], None],
) -> None:
    silent, due = 0, 0.0
    while not should_stop():
        if process.poll() is not None:
            if _is_stopping(should_stop):
                return
            raise EngineError(
                f"the server died with code {process.returncode}:\n{_log_tail(log_path)}",
                hint=f"see {log_path}",
            )
        if time.monotonic() >= due:
            silent = 0 if _is_healthy(url) else silent + 1
            if silent >= _MAX_FAILED_CHECKS:
                raise EngineError(
                    f"the server has not answered {silent} health checks:\n{_log_tail(log_path)}",
                    hint=f"see {log_path}",
                )
            if silent == 0:
                beat()
            due = time.monotonic() + HEARTBEAT_S
        time.sleep(0.25)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its child processes: an engine without its server would keep the GPU."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_stopping(should_stop: Callable[[], bool]) -> bool:
    """Whether the server ended because this task is to end: a signal to all processes of a step may reach it first."""
    time.sleep(0.5)
    return should_stop()


def _is_healthy(url: str) -> bool:
    """Whether the server answers, and not another user's program that took its port while it started: clients would send it their key."""
    place = httpx.URL(url)
    with contextlib.suppress(httpx.HTTPError):
        answered = _is_ours(place) and httpx.get(url, timeout=10, trust_env=False).status_code == 200
        return answered and _is_ours(place)  # still, for it may have taken the port in between
    return False


def _is_ours(place: httpx.URL) -> bool:
    """Whether nobody else listens there."""
    return listeners(place.host, place.port or 0) <= {os.geteuid()}


def _addresses() -> tuple[str, str]:
    """The host name to publish and the address to listen on: in a SLURM job the one that the name stands for, on which other nodes
    reach it; elsewhere nobody else does. A node may know its own name as a loopback address only: then all addresses are listened on.
    """
    if not os.environ.get("SLURM_JOB_ID"):
        return _LOOPBACK, _LOOPBACK
    name = host_name()
    return name, named_address(name) or _ALL_INTERFACES


def _free_port(bind: str) -> int:
    with socket.socket() as probe:
        probe.bind((bind, 0))
        return int(probe.getsockname()[1])


def _prepare_child() -> None:
    """Before vLLM starts: a server whose task was killed must not hold the GPU (Linux's PR_SET_PDEATHSIG). And SLURM
    signals every process of a step: those that only say "save soon" would kill it, so it blocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGTERM)


def _log_tail(path: Path, lines: int = 15) -> str:
    try:
        return printable("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))
    except OSError:
        return ""
