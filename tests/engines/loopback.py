"""A small HTTP server whose answers a test decides on, and a client of the real engine for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import EngineConfig, ModelConfig, OpenAIEngineConfig
from undo_hpc.engines import Completion, Request, load_engine
from undo_hpc.engines.openai_engine import OpenAIEngine


def answer(text: str = "42", reason: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }


Reply = tuple[int, Any] | None  # status and body; None breaks the connection off


class Server:
    """A small HTTP server whose replies a test decides on, request by request."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply], listing: Any = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.listing = listing
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = outer.listing
                data = json.dumps(found).encode()
                self.send_response(200 if found is not None else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                made = reply(number, body)
                if made is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, content = made
                self.send_response(status)
                if isinstance(content, dict) and "location" in content:
                    self.send_header("Location", content["location"])
                if isinstance(content, Iterator):  # parts, until it or the client has enough
                    self.end_headers()
                    self.wfile.writelines(content)
                    return
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients walk away in these tests
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def client(
    url: str = "", run_dir: Path | None = None, slack_s: float = 20.0, **settings: Any
) -> OpenAIEngine:
    part = OpenAIEngineConfig(
        **{"base_url": url, "max_retries": 3, "concurrency": 4, "timeout_s": 30, **settings}
    )
    model = ModelConfig(
        model="some/model", system_prompt="Be brief.", chat_template_kwargs={"enable_thinking": False}
    )
    loaded = load_engine(
        EngineConfig(name="openai", openai=part), model, run_dir=run_dir, iteration=0, service_slack_s=slack_s
    )
    assert isinstance(loaded, OpenAIEngine)
    return loaded


def asked(count: int, max_tokens: int = 8) -> list[Request]:
    return [Request(f"r{i}", f"Q{i}", i, 0.5, max_tokens) for i in range(count)]


def run(engine: OpenAIEngine, requests: list[Request]) -> dict[str, Completion]:
    return {c.id: c for c in engine.generate(requests)}
