"""The client against servers that misbehave, over real loopback sockets: bounded tries, clear errors, nothing lost."""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.config.schema import EngineConfig, ModelConfig, OpenAIEngineConfig
from undo_hpc.engines import Completion, Request, load_engine, openai_engine, pool
from undo_hpc.engines.api_key import find_key
from undo_hpc.engines.openai_engine import OpenAIEngine
from undo_hpc.engines.service import discover, serve_dir
from undo_hpc.errors import ConfigError, EngineError, UndoError


def answer(text: str = "42", reason: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }


Reply = tuple[int, Any] | None  # status and body; None breaks the connection off


class Server:
    """A small HTTP server whose replies a test decides on, request by request."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                made = reply(number, body)
                if made is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, content = made
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                if isinstance(content, dict) and "location" in content:
                    self.send_header("Location", content["location"])
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


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(reply: Callable[[int, dict[str, Any]], Reply]) -> Server:
        made.append(Server(reply))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "_backoff_s", lambda waits: 0.005)


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


def asked(count: int) -> list[Request]:
    return [Request(f"r{i}", f"Q{i}", i, 0.5, 8) for i in range(count)]


def run(engine: OpenAIEngine, requests: list[Request]) -> dict[str, Completion]:
    return {c.id: c for c in engine.generate(requests)}


def test_the_whole_request_is_sent_and_the_tokens_are_counted(server: Any) -> None:
    there = server(lambda *_: (200, answer()))
    engine = client(there.url + "/", served_model="served")
    completion = run(engine, [Request("a", "Q", 7, 0.5, 8, top_p=0.9, top_k=20, stop=("\n\n",))])["a"]
    assert completion == Completion("a", "42", "stop", 5, 2, completion.prompt_sha)
    assert there.bodies == [
        {
            "model": "served",
            "seed": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 20,
            "max_tokens": 8,
            "stop": ["\n\n"],
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q"}],
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]
    assert engine.tokens == {"prompt": 5, "completion": 2}


@pytest.mark.parametrize(
    "bad",
    [
        (500, b"oh no"),
        (503, {"error": "busy"}),
        (521, {"error": "the web server is down"}),
        (200, b"<html>nonsense"),
        (200, {"choices": []}),
        (200, {"choices": [{"message": {}, "finish_reason": "stop"}]}),
        (200, [1, 2]),
        (200, answer(reason="abort")),
        None,
    ],
)
def test_what_may_pass_is_tried_again_and_not_for_ever(server: Any, bad: Reply) -> None:
    """The first two tries of each request fail: the third counts. When all fail, the failure is recorded after
    three.
    """
    seen: dict[str, int] = {}

    def second_thoughts(_: int, body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        seen[prompt] = seen.get(prompt, 0) + 1
        return bad if seen[prompt] < 3 or prompt == "Q0" else (200, answer(f"to {prompt}"))

    there = server(second_thoughts)
    found = run(client(there.url), asked(5))
    assert [found[f"r{i}"].text for i in range(1, 5)] == [f"to Q{i}" for i in range(1, 5)]
    assert found["r0"].finish_reason == "error" and "given up after 3 tries" in found["r0"].error
    assert seen == {f"Q{i}": 3 for i in range(5)}


def test_a_refused_request_is_recorded_at_once(server: Any) -> None:
    there = server(
        lambda _, body: (422, {"error": "no"}) if body["messages"][-1]["content"] == "Q1" else (200, answer())
    )
    found = run(client(there.url), asked(3))
    assert "refused the request (422)" in found["r1"].error
    assert found["r0"].text == found["r2"].text == "42"
    assert len(there.bodies) == 3


def test_a_content_filter_is_a_refusal(server: Any) -> None:
    there = server(lambda *_: (200, answer(reason="content_filter")))
    assert "content_filter" in run(client(there.url), asked(1))["r0"].error
    assert len(there.bodies) == 1


def test_over_the_context_is_asked_once_more_without_a_limit(server: Any) -> None:
    there = server(
        lambda _, body: (
            (400, {"error": "maximum context length is 256"})
            if "max_tokens" in body
            else (200, answer(reason="length"))
        )
    )
    assert run(client(there.url), asked(1))["r0"].finish_reason == "length"
    assert len(there.bodies) == 2


def test_the_limit_of_new_tokens_goes_by_the_name_that_the_server_knows(server: Any) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    there = server(
        lambda _, body: (400, {"error": {"message": said}}) if "max_tokens" in body else (200, answer())
    )
    assert {c.text for c in run(client(there.url, concurrency=1), asked(3)).values()} == {"42"}
    assert [body.get("max_completion_tokens") for body in there.bodies] == [None, 8, 8, 8]


@pytest.mark.parametrize(
    "tokens",
    [
        {"prompt_tokens": 5, "completion_tokens": 9},
        {"completion_tokens": 9},
        {"prompt_tokens": None, "completion_tokens": 9},
    ],
)
def test_a_model_that_only_thinks_has_answered_nothing_and_is_not_asked_again(
    server: Any, tokens: dict[str, Any]
) -> None:
    message = {"content": None, "reasoning_content": "Hmm."}
    there = server(
        lambda *_: (200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": tokens})
    )
    found = run(client(there.url), asked(1))["r0"]
    assert (found.text, found.finish_reason, found.completion_tokens, len(there.bodies)) == ("", "stop", 9, 1)


def test_a_server_that_answers_nothing_ends_the_run_and_not_the_requests(server: Any) -> None:
    there = server(lambda *_: (500, b""))
    found = []
    with pytest.raises(EngineError, match="in a row"):
        for completion in client(there.url, max_retries=2).generate(asked(200)):
            found.append(completion)
    assert not found, "no request is blamed for what the server has done"


def test_no_server_at_all_is_bounded() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(EngineError, match="given up after 3 tries: no connection"):
        run(client(url), asked(2))


def test_a_server_that_dies_over_the_last_requests_turns_none_into_a_failure(server: Any) -> None:
    there = server(lambda *_: (200, answer()))
    found = []
    with pytest.raises(EngineError, match="no connection"):
        for completion in client(there.url).generate(asked(10)):
            found.append(completion)
            if len(found) == 2:
                there.close()
    assert all(completion.error == "" for completion in found)


def test_a_rate_limit_costs_no_try_and_is_not_waited_for_for_ever(server: Any) -> None:
    there = server(lambda number, _: (200, answer()) if number % 8 == 0 else (429, {"error": "slow down"}))
    assert {c.error for c in run(client(there.url), asked(6)).values()} == {""}
    closed = server(lambda *_: (429, {"error": "slow down"}))
    with pytest.raises(EngineError, match="was put off for"):
        run(client(closed.url, timeout_s=0.2), asked(2))


def test_the_date_of_a_retry_after_header_is_understood() -> None:
    later = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < openai_engine._seconds(later) <= 30
    assert [openai_engine._seconds(said) for said in ("2.5", "-1", "", "soon")] == [2.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        ((402, {"error": "Insufficient Balance"}), EngineError, "no credit left"),
        ((429, {"error": {"code": "insufficient_quota"}}), EngineError, "no credit left"),
        (
            (308, {"location": "https://elsewhere/v1/chat/completions"}),
            ConfigError,
            "redirects to https://elsewhere",
        ),
        (
            (400, {"error": "Unsupported value: 'temperature' does not support 0.5"}),
            EngineError,
            "in a row.*temperature",
        ),
        ((405, b"not allowed"), ConfigError, "does not know this address"),
    ],
)
def test_what_every_request_meets_is_recorded_for_none(
    server: Any, reply: Reply, kind: type[UndoError], message: str
) -> None:
    found = []
    with pytest.raises(kind, match=message):
        for completion in client(server(lambda *_: reply).url).generate(asked(40)):
            found.append(completion)
    assert not found


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://host:port/v1", "ftp://host/v1", "http:///v1"])
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        client(url)


def test_a_slow_server_is_bounded_by_the_timeout(server: Any) -> None:
    release = threading.Event()
    there = server(lambda *_: (200, answer()) if release.wait(60) else None)
    try:
        assert "ReadTimeout" in run(client(there.url, timeout_s=0.2, max_retries=2), asked(1))["r0"].error
    finally:
        release.set()


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses the key"), (403, "refuses the key"), (404, "does not know")]
)
def test_a_wrong_key_address_or_model_is_the_users_to_mend(server: Any, status: int, message: str) -> None:
    there = server(lambda *_: (status, {"error": "no"}))
    with pytest.raises(ConfigError, match=message):
        run(client(there.url), asked(50))
    assert len(there.bodies) <= 4


def test_the_concurrency_limit_is_kept_and_used(server: Any) -> None:
    together, lock, most = [0], threading.Lock(), [0]
    full = threading.Event()

    def hold(*_: Any) -> Reply:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
            if together[0] == 4:
                full.set()
        full.wait(20)  # answers only once four are under way
        with lock:
            together[0] -= 1
        return 200, answer()

    assert len(run(client(server(hold).url), asked(30))) == 30
    assert most[0] == 4


def test_stopping_cancels_what_is_under_way(server: Any) -> None:
    release = threading.Event()
    there = server(lambda number, _: (200, answer()) if number < 3 or release.wait(60) else None)
    done: list[Completion] = []
    try:
        for completion in client(there.url).generate(asked(100), should_stop=lambda: len(done) >= 3):
            done.append(completion)
    finally:
        release.set()
    assert len(done) == 3


class TestKey:
    def test_from_the_environment_and_from_a_file_which_wins(
        self, server: Any, monkeypatch: Any, tmp_path: Path
    ) -> None:
        there = server(lambda *_: (200, answer()))
        monkeypatch.setenv("MY_KEY", " k-env ")
        (tmp_path / "key").write_text("k-file\n")
        run(client(there.url, api_key_env="MY_KEY"), asked(1))
        run(client(there.url, api_key_env="MY_KEY", api_key_file=str(tmp_path / "key")), asked(1))
        assert [h["Authorization"] for h in there.headers] == ["Bearer k-env", "Bearer k-file"]

    def test_it_stands_in_no_description(self, monkeypatch: Any) -> None:
        monkeypatch.setenv("MY_KEY", "k-env")
        assert "k-env" not in json.dumps(client("http://h/v1", api_key_env="MY_KEY").describe())

    def test_a_missing_one_is_said_at_once(self, monkeypatch: Any, tmp_path: Path) -> None:
        monkeypatch.delenv("MY_KEY", raising=False)
        with pytest.raises(ConfigError, match="MY_KEY is not set"):
            client("http://h/v1", api_key_env="MY_KEY", require_key=True)
        with pytest.raises(ConfigError, match="cannot be read"):
            find_key(str(tmp_path / "none"), "MY_KEY", required=False)
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(ConfigError, match="is empty"):
            find_key(str(tmp_path / "empty"), "MY_KEY", required=False)
        (tmp_path / "two").write_text("one\ntwo")
        with pytest.raises(ConfigError, match="no key has"):
            find_key(str(tmp_path / "two"), "MY_KEY", required=False)
        assert find_key("", "MY_KEY", required=False) == ""


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
