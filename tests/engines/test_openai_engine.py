"""The client against servers that misbehave, over real loopback sockets: bounded tries, clear errors, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import pytest

from tests.engines.loopback import Reply, answer, asked, client, run
from undo_hpc.config.schema import ModelConfig, OpenAIEngineConfig
from undo_hpc.engines import Completion, Request, openai_client
from undo_hpc.engines.openai_client import OpenAIClient
from undo_hpc.engines.service import Server
from undo_hpc.errors import ConfigError, EngineError, UndoError


def test_the_whole_request_is_sent_and_the_tokens_are_counted(server: Any) -> None:
    there = server(lambda *_: (200, answer()))
    engine = client(there.url + "/", served_model="served")
    completion = run(engine, [Request("a", "Q", 7, 0.5, 8, top_p=0.9, top_k=20, stop=("\n\n",))])["a"]
    sent = {"seed": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "max_tokens": 8, "stop": ["\n\n"]}
    assert completion == Completion(
        "a", "42", "stop", 5, 2, completion.prompt_sha, raw_finish_reason="stop", sent=sent
    )
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
    assert found["r0"].finish_reason == "error" and "abandoned after 3 tries" in found["r0"].error
    assert {prompt: seen[prompt] for prompt in seen if prompt.startswith("Q")} == {
        f"Q{i}": 3 for i in range(5)
    }


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


@pytest.mark.parametrize(("pause_s", "timeout_s", "most"), [(0.0, 30, 21), (0.4, 1, 4)])
def test_a_server_that_names_a_smaller_context_each_time_is_left(
    server: Any, pause_s: float, timeout_s: int, most: int
) -> None:
    """One request was asked as often as it had tokens, each time with a `timeout_s` of its own."""

    def smaller(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(pause_s)
        room = body.get("max_tokens", 1) - 1
        return 400, {"error": f"maximum context length is {room + 100} tokens, your prompt has 100"}

    there = server(smaller)
    with pytest.raises(EngineError):
        run(client(there.url, timeout_s=timeout_s, max_retries=1), asked(1, max_tokens=500))
    ours = [body for body in there.bodies if body["messages"][-1]["content"] == "Q0"]
    assert 2 < len(ours) <= most


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
    with pytest.raises(EngineError, match="abandoned after 3 tries: no connection"):
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
        run(client(closed.url, timeout_s=1.0), asked(2))


def test_the_date_of_a_retry_after_header_is_understood() -> None:
    later = email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3000 < openai_client._seconds(later) <= 3600
    assert [openai_client._seconds(said) for said in ("2.5", "-1", "", "soon")] == [2.5, 0.0, 0.0, 0.0]


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
    """A request that takes too long is recorded where the server answers something else, and ends the task where it does not."""
    release = threading.Event()
    slow = server(lambda *_: (200, answer()) if release.wait(300) else None)
    partly = server(lambda _, body: (200, answer()) if "Q0" not in str(body) or release.wait(300) else None)
    try:
        with pytest.raises(EngineError, match="ReadTimeout"):
            run(client(slow.url, timeout_s=1.0, max_retries=2), asked(1))
        assert "ReadTimeout" in run(client(partly.url, timeout_s=1.0, max_retries=2), asked(1))["r0"].error
    finally:
        release.set()


def test_an_answer_without_an_end_is_bounded_in_time_and_size(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server that keeps the connection alive with white space, and of one that fills the memory."""
    dripping = server(lambda *_: (200, (time.sleep(0.1) or b" " for _ in range(300))))
    with pytest.raises(EngineError, match="not complete within 1 s"):
        run(client(dripping.url, timeout_s=1.0, max_retries=2), asked(1))
    monkeypatch.setattr("undo_hpc.engines.openai_client._MOST_BYTES", 1 << 20)
    endless = server(lambda *_: (200, repeat(b" " * (1 << 16), 10**4)))
    with pytest.raises(EngineError, match="more than 1 MiB"):
        run(client(endless.url, max_retries=2), asked(1))


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses the key"), (403, "refuses the key"), (404, "does not know")]
)
def test_a_wrong_key_address_or_model_is_the_users_to_fix(server: Any, status: int, message: str) -> None:
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
        full.wait(120)  # answers only once four are under way
        with lock:
            together[0] -= 1
        return 200, answer()

    assert len(run(client(server(hold).url), asked(30))) == 30
    assert most[0] == 4


def test_stopping_cancels_what_is_under_way(server: Any) -> None:
    release = threading.Event()
    there = server(lambda number, _: (200, answer()) if number < 3 or release.wait(300) else None)
    done: list[Completion] = []
    try:
        for completion in client(there.url).generate(asked(100), should_stop=lambda: len(done) >= 3):
            done.append(completion)
    finally:
        release.set()
    assert len(done) == 3


def test_the_runs_own_servers_are_asked_by_ipv4_alone(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They listen there. At the same port of the node's IPv6 address another user's program would be sent the key, and be believed."""
    ours, asked_of_others = server(lambda *_: (200, answer())), []
    port = int(ours.url.split(":")[2].split("/")[0])
    look = socket.getaddrinfo

    def both(host: Any, *rest: Any, **options: Any) -> Any:
        if host not in ("node7", b"node7"):
            return look(host, *rest, **options)
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(socket.AF_INET6, *kind, ("::1", port, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with socket.socket(socket.AF_INET6) as theirs:
        theirs.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            theirs.bind(("::1", port))
        except OSError:
            pytest.skip("this machine has no IPv6")
        theirs.listen()
        theirs.settimeout(0.5)

        async def ask() -> None:
            made = OpenAIClient(OpenAIEngineConfig(), ModelConfig(model="x"))
            async with made.open() as http:
                await made.chat(
                    http, Server(f"http://node7:{port}/v1", "x", "", {}, "key"), asked(1)[0], 30.0
                )

        asyncio.run(ask())
        with contextlib.suppress(TimeoutError):
            asked_of_others.append(theirs.accept())
    assert not asked_of_others and ours.headers[0]["Authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("content", "finish"),
    [
        (b'"\\u0073k-marked"', b'"stop"'),
        (b'[{"type": "text", "text": "sk-"}, {"type": "text", "text": "marked"}]', b'"stop"'),
        (b'"2"', b'"sk\\u002dmarked"'),
    ],
)
def test_a_server_that_repeats_its_key_in_another_spelling_has_it_recorded_nowhere(
    server: Any, monkeypatch: pytest.MonkeyPatch, content: bytes, finish: bytes
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")
    said = (
        b'{"choices": [{"message": {"content": %s, "reasoning_content": "I was sent \\u0073k-marked"}, "finish_reason": %s}]}'
        % (content, finish)
    )
    there = server(lambda number, body: (200, said))
    found = run(client(there.url), asked(1))["r0"]
    assert "sk-marked" in str(there.headers) and "sk-marked" not in repr(found) and "***" in repr(found)


@pytest.mark.parametrize(
    "reply",
    [
        (400, b'{"error": {"message": "the key \\u0073k-marked is bad"}}'),
        (302, {"location": "http://other/" + "a" * 280 + "sk-marked"}),
        (302, {"location": "http://other/?%73k-marked"}),
        (
            200,
            b'{"choices": [{"message": {"content": "2"}, "finish_reason": "%s\\u0073k-marked"}]}'
            % (b"x" * 93),
        ),
    ],
)
def test_no_error_and_no_shortened_word_of_a_server_holds_its_key(
    server: Any, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    """What is shortened first may end within the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")
    there = server(lambda number, body: reply)
    try:
        found = repr(run(client(there.url), asked(1)))
    except UndoError as error:
        found = str(error)
    assert "sk-m" in str(there.headers) and "***" in found and not re.search(r"k-m", found)
