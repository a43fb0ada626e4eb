"""The life of a server task: published while it answers, gone afterwards, and loud when it dies. A small HTTP server
stands in for vLLM's (the contract suite uses the real one)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
from undo_hpc.engines import service
from undo_hpc.engines.service import discover, serve, serve_dir, server_command
from undo_hpc.errors import DataError, EngineError

# Answers /health; after the given number of answers it does what its second argument says.
STAND_IN = """
import os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
left, then = int(sys.argv[2]), sys.argv[3]
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global left
        left -= 1
        if left < 0 and then == "die":
            print("the GPU fell off the bus", flush=True)
            os._exit(9)
        self.send_response(500 if left < 0 and then == "hang" else 200)
        self.end_headers()
    def log_message(self, *_): pass
print("key", os.environ.get("VLLM_API_KEY"), flush=True)
print("deaf", sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)
print("child", subprocess.Popen(["sleep", "1000"]).pid, flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    monkeypatch.setattr(service, "HEARTBEAT_S", 0.05)

    def use(answers: int, then: str) -> None:
        monkeypatch.setattr(
            service,
            "server_command",
            lambda *a: [sys.executable, "-c", STAND_IN, str(a[4]), str(answers), then],
        )

    return use


def test_it_is_published_with_a_heartbeat_and_gone_at_the_end(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(10**6, "")
    monkeypatch.setenv("MY_KEY", "k-secret")
    path = serve_dir(tmp_path, 2) / "server-00005.json"
    beats: set[float] = set()

    def after_three_beats() -> bool:
        if path.exists():
            beats.add(json.loads(path.read_text())["heartbeat"])
            assert [s.model for s in discover(tmp_path, 2)] == [str(tiny_model)]
            assert "k-secret" not in path.read_text()
        return len(beats) >= 3

    config = EngineConfig.model_validate({"openai": {"api_key_env": "MY_KEY"}})
    serve(tmp_path, 2, 5, config, ModelConfig(model=str(tiny_model)), after_three_beats, start_timeout_s=120)
    assert discover(tmp_path, 2) == []
    said = (serve_dir(tmp_path, 2) / "server-00005.log").read_text()
    assert "k-secret" in said  # the stand-in saw it in its environment
    assert f"deaf {sorted((signal.SIGUSR1.value, signal.SIGUSR2.value))}" in said, "they only mean: save soon"
    left = Path(
        f"/proc/{said.split('child ')[1].split()[0]}/stat"
    )  # as vLLM's engine, whose server was killed
    deadline = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while ") Z " not in left.read_text():
            assert time.monotonic() < deadline, "the server's own child lives on"
            time.sleep(0.05)


def test_without_a_key_of_the_users_the_run_has_one_of_its_own_that_only_its_owner_reads(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(10**6, "")
    monkeypatch.delenv("MY_KEY", raising=False)
    found: list[service.Server] = []

    def published() -> bool:
        found.extend(discover(tmp_path, 0))
        return bool(found)

    config = EngineConfig.model_validate({"openai": {"api_key_env": "MY_KEY"}})
    serve(tmp_path, 0, 0, config, ModelConfig(model=str(tiny_model)), published, start_timeout_s=120)
    key = serve_dir(tmp_path, 0) / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text()) > 40 and found[0].key == key.read_text()
    assert found[0].key not in repr(found[0])
    assert f"key {key.read_text()}" in (serve_dir(tmp_path, 0) / "server-00000.log").read_text()


def test_a_key_that_others_can_read_or_that_is_empty_is_refused(tmp_path: Path) -> None:
    own = service.own_key(tmp_path / "serve" / "key")
    assert service.own_key(tmp_path / "serve" / "key") == own
    (tmp_path / "serve" / "key").chmod(0o644)
    with pytest.raises(EngineError, match="others can read it"):
        service.own_key(tmp_path / "serve" / "key")
    (tmp_path / "serve" / "key").unlink()
    (tmp_path / "serve" / "key").touch(0o600)
    with pytest.raises(EngineError, match="it is empty"):
        service.own_key(tmp_path / "serve" / "key")
    (tmp_path / "serve" / "key").unlink()
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("another secret of ours")
    (tmp_path / "serve" / "key").symlink_to(tmp_path / "token")
    with pytest.raises(EngineError, match="cannot be used"):
        service.own_key(tmp_path / "serve" / "key")


def test_a_pipe_in_place_of_a_server_or_its_key_is_not_waited_for(tmp_path: Path) -> None:
    folder = serve_dir(tmp_path, 0)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "server-00000.json")
    os.mkfifo(folder / "key", 0o600)
    assert discover(tmp_path, 0) == []
    with pytest.raises(EngineError, match="a pipe or a device"):
        service.own_key(folder / "key")


def test_a_server_in_a_job_listens_where_its_name_leads_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert service._addresses() == ("127.0.0.1", "127.0.0.1")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(service, "host_name", lambda: "node7")
    monkeypatch.setattr(service.socket, "gethostbyname", lambda name: "10.1.2.3")
    assert service._addresses() == ("node7", "10.1.2.3")
    monkeypatch.setattr(service.socket, "gethostbyname", lambda name: "127.0.1.1")
    assert service._addresses() == ("node7", "0.0.0.0")  # the node does not know its own address


@pytest.mark.parametrize(
    ("answers", "then", "message"),
    [
        (0, "die", "ended with code 9 before it answered:\n(.|\n)*fell off the bus"),
        (4, "die", "died with code 9(.|\n)*fell off the bus"),
        (4, "hang", "has not answered 6 health checks"),
    ],
)
def test_a_server_that_fails_is_an_error_with_its_last_words(
    stand_in: Callable[[int, str], None],
    tiny_model: Path,
    tmp_path: Path,
    answers: int,
    then: str,
    message: str,
) -> None:
    stand_in(answers, then)
    with pytest.raises(EngineError, match=message):
        serve(tmp_path, 0, 0, EngineConfig(), ModelConfig(model=str(tiny_model)), start_timeout_s=120)
    assert discover(tmp_path, 0) == []


def test_a_server_that_ends_by_the_signal_that_its_task_hears_is_no_error(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path
) -> None:
    stand_in(4, "die")
    log = serve_dir(tmp_path, 0) / "server-00000.log"
    heard: list[bool] = []

    def a_moment_later() -> bool:
        if log.exists() and "fell off" in log.read_text():
            heard.append(True)
        return len(heard) > 1

    serve(
        tmp_path,
        0,
        0,
        EngineConfig(),
        ModelConfig(model=str(tiny_model)),
        a_moment_later,
        start_timeout_s=120,
    )
    assert heard and discover(tmp_path, 0) == []


def test_stopping_before_it_answers_is_no_error(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path
) -> None:
    stand_in(0, "hang")
    stop = threading.Event()
    stop.set()
    serve(tmp_path, 0, 0, EngineConfig(), ModelConfig(model=str(tiny_model)), stop.is_set)
    assert discover(tmp_path, 0) == []


def test_a_start_that_takes_too_long_is_an_error(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path
) -> None:
    stand_in(0, "hang")
    with pytest.raises(EngineError, match="did not answer within 1 s"):
        serve(tmp_path, 0, 0, EngineConfig(), ModelConfig(model=str(tiny_model)), start_timeout_s=1)


def test_a_model_that_has_changed_while_its_server_loaded_it_is_not_published(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    stand_in(10**6, "")
    start = service._wait_until_healthy

    def changed(*words: Any) -> bool:
        (model / "adapter_config.json").write_text("{}")
        return start(*words)

    monkeypatch.setattr(service, "_wait_until_healthy", changed)
    with pytest.raises(DataError, match="is a LoRA adapter"):
        serve(tmp_path, 0, 0, EngineConfig(), ModelConfig(model=str(model)), lambda: bool(discover(tmp_path)))


def test_another_users_program_at_its_port_is_not_published(
    stand_in: Callable[[int, str], None], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the port in the list of processes, and takes it while vLLM still starts: clients would send it their key."""
    stand_in(10**6, "")
    monkeypatch.setattr(service, "listeners", lambda *_: {54321})
    with pytest.raises(EngineError, match="did not answer within 2 s"):
        serve(tmp_path, 0, 0, EngineConfig(), ModelConfig(model=str(tiny_model)), start_timeout_s=2)
    assert discover(tmp_path, 0) == []


def test_a_slurm_job_publishes_its_node_by_a_name_that_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert service._addresses() == ("127.0.0.1", "127.0.0.1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for node, published in (("localhost", "localhost"), ("node07.invalid", socket.gethostname())):
        monkeypatch.setenv("SLURMD_NODENAME", node)
        assert service._addresses() == (published, "0.0.0.0")


def test_the_command_carries_the_settings_of_the_engine(tiny_model: Path) -> None:
    config = VllmEngineConfig(
        max_num_seqs=9, enable_prefix_caching=False, extra={"swap_space": 2, "hf_overrides": {"a": 1}}
    )
    model = ModelConfig(model="some/name", dtype="bfloat16")
    command = server_command(config, model, str(tiny_model), "127.0.0.1", 4321)
    assert command[1:4] == ["-P", "-m", "vllm.entrypoints.openai.api_server"]
    flags = " ".join(command)
    for expected in (
        "--port 4321",
        "--served-model-name some/name",
        f"--model {tiny_model}",
        "--dtype bfloat16",
        "--max-num-seqs 9",
        "--no-enable-prefix-caching",
        "--swap-space 2",
        '--hf-overrides {"a": 1}',
        "--generation-config vllm",
    ):
        assert expected in flags
    assert "trust-remote-code" not in flags
