"""vLLM asks for the key on some of its paths only; with the guard it does on all but its health."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from undo_hpc.config.schema import ModelConfig, VllmEngineConfig
from undo_hpc.engines.service import discover, server_command
from undo_hpc.engines.vllm_guard import KEY, RequireKey


def asked(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What the guard sends for a request; `{"type": "passed"}` where it hands it on."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(*_: Any) -> None:
        sent.append({"type": "passed"})

    async def receive() -> Any:
        raise AssertionError("a refused request is not read")

    asyncio.run(RequireKey(app)({"headers": [], **scope}, receive, send))
    return sent


def test_all_paths_but_the_health_ask_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    key = [(b"authorization", b"Bearer secret")]
    for path in ("/v1/models", "/invocations", "/metrics", "//health", "/health/", "/"):
        assert asked({"type": "http", "path": path})[0]["status"] == 401
        for wrong in (b"secret", b"Bearer", b"Bearer secret2", b"Bearer \xff"):
            assert (
                asked({"type": "http", "path": path, "headers": [(b"authorization", wrong)]})[0]["status"]
                == 401
            )
        assert asked({"type": "http", "path": path, "headers": key}) == [{"type": "passed"}]
    assert asked({"type": "websocket", "path": "/v1/realtime"}) == [{"type": "websocket.close", "code": 1008}]
    assert asked({"type": "http", "path": "/health"}) == [{"type": "passed"}]
    assert asked({"type": "lifespan"}) == [{"type": "passed"}]


def test_the_server_loads_it(tiny_model: Path) -> None:
    command = server_command(VllmEngineConfig(), ModelConfig(model="x"), str(tiny_model), "127.0.0.1", 4321)
    assert command[command.index("--middleware") + 1] == "undo_hpc.engines.vllm_guard.RequireKey"


@pytest.mark.vllm
def test_a_server_answers_nobody_without_the_key(service: Path) -> None:
    """Each path that this vLLM has, among them one that writes text and one that tells how much was asked."""
    (server,) = discover(service, 3)
    with httpx.Client(base_url=server.url.removesuffix("/v1"), trust_env=False, timeout=60) as http:
        key = {"Authorization": f"Bearer {server.key}"}
        listed = json.loads(http.get("/openapi.json", headers=key).content)["paths"]
        assert {"/invocations", "/tokenize", "/v1/chat/completions"} <= set(listed)
        asked_paths = [(m.upper(), path) for path, each in listed.items() for m in each] + [
            ("GET", "/metrics"),
            ("GET", "/docs"),
            ("OPTIONS", "/v1/models"),
        ]
        open_to_all = {p for m, p in asked_paths if http.request(m, p, json={}).status_code != 401}
        assert open_to_all == {"/health"}
        assert http.get("/metrics", headers=key).status_code == 200
