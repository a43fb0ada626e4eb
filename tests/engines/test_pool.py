"""Clients and the servers of a run: who is asked, who is skipped, and for how long."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engines.loopback import answer, asked, client, run
from undo_hpc.engines import pool
from undo_hpc.engines.service import discover, serve_dir
from undo_hpc.errors import ConfigError, EngineError


def publish(run_dir: Path, index: int, url: str, *, age_s: float = 0.0) -> Path:
    path = serve_dir(run_dir, 0) / f"server-{index:05d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {
        "url": url,
        "model": "some/model",
        "template_sha": "t",
        "stop_ids": [2],
        "heartbeat": time.time() - age_s,
    }
    path.write_text(json.dumps(row))
    return path


class TestService:
    def test_stale_and_broken_files_are_passed_over(self, tmp_path: Path) -> None:
        publish(tmp_path, 0, "http://a/v1", age_s=600)
        publish(tmp_path, 1, "http://b/v1")
        publish(tmp_path, 2, "http://c/v1").write_text('{"url": 1')
        assert [s.url for s in discover(tmp_path, 0)] == ["http://b/v1"]
        assert discover(tmp_path, 1) == []

    def test_servers_share_the_work(self, server: Any, tmp_path: Path) -> None:
        servers = [server(lambda *_: (200, answer())) for _ in range(2)]
        for index, one in enumerate(servers):
            publish(tmp_path, index, one.url)
        assert len(run(client(run_dir=tmp_path), asked(40))) == 40
        assert all(len(one.bodies) >= 5 for one in servers)
        assert servers[0].bodies[0]["stop_token_ids"] == [2]

    def test_a_server_that_dies_is_replaced_by_the_other(
        self, server: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(pool, "_AVOID_S", 60.0)
        dying = server(lambda number, _: (200, answer("from the first")) if number < 3 else None)
        other = server(lambda *_: (200, answer("from the second")))
        publish(tmp_path, 0, dying.url)
        publish(tmp_path, 1, other.url)
        found = run(client(run_dir=tmp_path), asked(40))
        assert len(found) == 40 and all(c.error == "" for c in found.values())
        assert {c.text for c in found.values()} == {"from the first", "from the second"}

    def test_a_server_that_is_gone_costs_no_request_a_try(self, server: Any, tmp_path: Path) -> None:
        gone, other = server(lambda *_: (200, answer())), server(lambda *_: (200, answer()))
        gone.close()
        publish(tmp_path, 0, gone.url)
        publish(tmp_path, 1, other.url)
        found = run(client(run_dir=tmp_path, max_retries=1), asked(10))
        assert all(c.error == "" for c in found.values()) and len(found) == 10

    def test_clients_wait_for_a_server_to_come_up(
        self, server: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(pool, "_DISCOVER_EVERY_S", 0.0)
        there, looks, look = server(lambda *_: (200, answer())), [0], pool.discover

        def counted(*arguments: Any) -> Any:
            looks[0] += 1
            if looks[0] == 3:
                publish(tmp_path, 0, there.url)
            return look(*arguments)

        monkeypatch.setattr(pool, "discover", counted)
        assert run(client(run_dir=tmp_path), asked(1))["r0"].text == "42"
        assert looks[0] >= 3

    @pytest.mark.parametrize("published", [False, True])
    def test_the_wait_is_bounded(self, tmp_path: Path, published: bool, monkeypatch: Any) -> None:
        monkeypatch.setattr(pool, "_AVOID_S", 0.1)
        if published:
            publish(tmp_path, 0, "http://127.0.0.1:9/v1")  # alive by its file, but nobody listens there
        with pytest.raises(EngineError, match="no server of the teacher service"):
            run(client(run_dir=tmp_path, slack_s=0.6), asked(3))

    def test_neither_an_address_nor_a_run_is_a_configuration_error(self) -> None:
        with pytest.raises(ConfigError, match="base_url is empty"):
            client()
