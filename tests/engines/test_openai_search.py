"""A search over whole conversations with a server that answers anything: rows are neither lost nor doubled, and the only errors are ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.engines.loopback import Server, answer, asked, client
from tests.engines.test_openai_reply import ANSWERS, BODIES, STATUSES
from tests.search import examples
from undo_hpc.engines.openai_reply import read_reply
from undo_hpc.errors import UndoError

USUAL = st.just((200, json.dumps(answer()).encode()))
REPLIES = (
    st.tuples(STATUSES, BODIES | ANSWERS.map(lambda data: json.dumps(data).encode()))
    | USUAL
    | USUAL
    | st.none()
)


class Scripted:
    """One server for all examples: it answers with `script`, and then always with `tail`; `served` tells to which prompts."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.tail: Any = None
        self.served: list[tuple[str, Any]] = []
        lock = threading.Lock()

        def respond(_: int, body: dict[str, Any]) -> Any:
            with lock:
                made = self.script.pop(0) if self.script else self.tail
                self.served.append((body["messages"][-1]["content"], made))
            return made

        self.server = Server(respond)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.server.close()


@examples(60, share=0.2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(REPLIES, max_size=12), REPLIES, st.integers(1, 6))
def test_any_server_is_survived(scripted: Scripted, script: list[Any], tail: Any, count: int) -> None:
    scripted.script, scripted.tail, scripted.served = list(script), tail, []
    found = []
    try:
        for completion in client(
            scripted.server.url, max_retries=2, timeout_s=20.0, concurrency=3, omit=["seed"]
        ).generate(asked(count)):
            found.append(completion)
    except UndoError as error:
        assert str(error)
    else:
        assert len(found) == count, "each request has its row"
    assert len({completion.id for completion in found}) == len(found), "and only one"
    prompts = {f"Q{i}" for i in range(count)}
    paid = {
        p
        for p, made in scripted.served
        if made and p in prompts and read_reply(*made_bytes(made), max_tokens=8).kind == "answer"
    }
    answered = {f"Q{completion.id[1:]}" for completion in found if completion.finish_reason != "error"}
    assert answered == paid, "no answer is thrown away"
    assert all(bool(completion.error) == (completion.finish_reason == "error") for completion in found)
    json.dumps([[c.text, c.error, c.reasoning, c.raw_finish_reason, c.sent] for c in found]).encode()


def made_bytes(made: tuple[int, Any]) -> tuple[int, bytes]:
    return made[0], made[1] if isinstance(made[1], bytes) else json.dumps(made[1]).encode()
