"""A server that sends too much, or for ever: each is given up, whatever part of its answer it draws out."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

import httpx
import pytest

from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import load_engine
from undo_hpc.engines.base import Request
from undo_hpc.engines.http_answer import HEADERS, read_answer
from undo_hpc.engines.scoring import ScoreRequest
from undo_hpc.errors import EngineError
from undo_hpc.system.credentials import without

Says = Callable[[Callable[[], Iterable[bytes]]], str]


@pytest.fixture
def says() -> Iterator[Says]:
    """Sends what is made for each connection, and returns the address."""
    servers = []

    def start(parts: Callable[[], Iterable[bytes]]) -> str:
        servers.append(server := socket.create_server(("127.0.0.1", 0)))

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                for part in parts():
                    connection.sendall(part)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"

    yield start
    for server in servers:
        server.close()


def read(url: str, *, patience_s: float = 60.0, most: int = 1 << 20, secrets: Sequence[str] = ()) -> bytes:
    async def ask() -> bytes:
        async with httpx.AsyncClient(headers=HEADERS, trust_env=False) as http:
            asked = http.stream("GET", url)
            return (await read_answer(asked, patience_s=patience_s, most=most, secrets=secrets))[1]

    return asyncio.run(ask())


def answer(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def slowly(first: bytes, then: bytes) -> Iterable[bytes]:
    """The first part, and then a piece of the rest every tenth of a second."""
    return chain([first], (time.sleep(0.1) or then for _ in repeat(None)))


HEAD = b"HTTP/1.1 200 OK\r\n"
DRAWN_OUT = [
    (HEAD + b"X-Long: ", b"a"),
    (b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    (HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0", b"a"),
    (HEAD + b"\r\n", b" "),
]


def test_an_answer_is_read_whole_packed_or_not(says: Says) -> None:
    assert read(says(lambda: [answer(b"words")])) == b"words"
    assert (
        read(says(lambda: [answer(gzip.compress(b"words" * 1000), "Content-Encoding: gzip")]))
        == b"words" * 1000
    )


KEY = "sk-Marked/1+.$"


@pytest.mark.parametrize(
    "said",
    [
        answer(b"{}", f"Content-Encoding: {KEY}"),
        HEAD + KEY.encode() + b"\r\n\r\n",
        b"HTTP/0.9 " + KEY.encode() + b"\r\n\r\n",
    ],
)
def test_an_error_that_quotes_the_servers_head_does_not_quote_a_key_in_it(said: bytes, says: Says) -> None:
    """These words stand in the row of a request that got no answer."""
    url = says(lambda: [said])
    with pytest.raises(httpx.RequestError, match=r"Marked"):
        read(url)
    with pytest.raises(httpx.RequestError, match=r"\*\*\*") as caught:
        read(url, secrets=["other", KEY])
    assert type(caught.value) is not httpx.RequestError and caught.value.__cause__ is None
    assert "Marked" not in str(caught.value)


def test_a_key_is_found_in_every_spelling_of_an_answer(says: Says) -> None:
    escaped = "".join(f"\\u{ord(c):04X}" for c in KEY)
    for spelling in (
        *(KEY, escaped, escaped.lower(), escaped.replace("\\", "\\\\"), KEY.replace("/", "\\/")),
        *("".join(f"%{ord(c):02X}" for c in KEY), KEY.replace("/", "%2f").replace("$", "&#36;")),
        "".join(f"&#x{ord(c):x};" for c in KEY),
    ):
        assert without([KEY], f"<{spelling}>") == "<***>"
        assert read(says(lambda said=spelling: [answer(said.encode())]), secrets=[KEY]) == b"***"  # type: ignore[misc]
    assert without([], "words \udc80") == without([KEY], "words \udc80") == "words \udc80"
    began = time.monotonic()
    for many in ("\\", "s", "&#0", "0", "s\\u0"):  # no pattern that goes back and forth
        without([KEY], many * 10**5)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("packed", ["gzip, gzip", "br", "zstd", "x"])
def test_what_nobody_asked_for_is_not_unpacked(packed: str, says: Says) -> None:
    """Twice packed, 20 KB are 20 GB; httpx unpacks a part before anybody can count it."""
    body = gzip.compress(gzip.compress(bytes(1 << 24)))
    with pytest.raises(httpx.DecodingError, match="nobody asked"):
        read(says(lambda: [answer(body, f"Content-Encoding: {packed}")]))


def test_a_packed_answer_is_counted_as_it_is_unpacked(says: Says) -> None:
    with pytest.raises(httpx.ReadError, match="more than 1 MiB"):
        read(says(lambda: [answer(gzip.compress(bytes(1 << 26)), "Content-Encoding: gzip")]))
    with pytest.raises(httpx.DecodingError, match="cannot be unpacked"):
        read(says(lambda: [answer(b"no gzip", "Content-Encoding: gzip")]))


@pytest.mark.parametrize(("first", "then"), DRAWN_OUT)
def test_no_part_of_an_answer_is_waited_for_longer_than_for_all(
    first: bytes, then: bytes, says: Says
) -> None:
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout, match="not complete within 1 s"):
        read(says(lambda: slowly(first, then)), patience_s=1.0)
    assert time.monotonic() - began < 30


def test_a_scoring_server_cannot_draw_out_its_headers(says: Says, tiny_model: Path) -> None:
    openai = {"base_url": says(lambda: slowly(*DRAWN_OUT[0])), "timeout_s": 1.0, "max_retries": 1}
    config = EngineConfig.model_validate({"name": "openai", "openai": openai})
    scorer = load_engine(config, ModelConfig(model=str(tiny_model)), score_k=2, server_kind="vllm")
    try:
        [found] = scorer.score([ScoreRequest("a", "1 + 1?", (5, 6))], 2)  # type: ignore[attr-defined]
        assert "not complete within 1 s" in found.error
    finally:
        scorer.close()
        scorer.close()


def test_a_list_of_models_without_an_end_is_bounded_too(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for before the first request."""
    monkeypatch.setattr("undo_hpc.engines.openai_client._IDENTIFY_S", 1.0)
    url = says(lambda: slowly(HEAD + b"\r\n", b" "))
    openai = {"base_url": url, "timeout_s": 1.0, "max_retries": 1}
    engine = load_engine(
        EngineConfig.model_validate({"name": "openai", "openai": openai}), ModelConfig(model="x")
    )
    began = time.monotonic()
    with pytest.raises(EngineError, match="not complete within 1 s"):
        list(engine.generate([Request("a", "1 + 1?", 0, 0.0, 8)]))
    assert time.monotonic() - began < 60
