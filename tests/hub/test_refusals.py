"""What the Hub refuses is told in its words, and it is waited for where it asks for that: seen through the real huggingface_hub."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from tests.hub.server import Answer, HubServer
from undo_hpc.cli import main
from undo_hpc.errors import ConfigError
from undo_hpc.hub.auto import maybe_push
from undo_hpc.hub.push import HubError, push
from undo_hpc.pipeline.run import Run

Publishable = Callable[..., Run]
WORDS = '"base_model" with value "/scratch/me/model" is not valid. Use a model id from https://hf.co/models.'


def refuse_card(method: str, path: str) -> Answer | None:
    return (400, {"errors": [{"message": WORDS}]}, {}) if path == "/api/validate-yaml" else None


def test_a_card_that_the_hub_refuses_is_told_in_its_words(
    publishable: Publishable, server: HubServer
) -> None:
    server.fault = refuse_card
    with pytest.raises(HubError, match="refuses the card of me/data") as caught:
        push(publishable())
    assert WORDS in caught.value.message and "student.model" in caught.value.hint


def test_the_command_ends_without_a_traceback_and_the_automatic_push_says_why(
    publishable: Publishable,
    server: HubServer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.fault = refuse_card
    run = publishable("hub.push_at_end=true")
    assert main(["push", str(run.layout.root)]) == 3
    said = capsys.readouterr()
    assert "is not valid" in said.err and "Traceback" not in said.err + said.out
    assert not maybe_push(run, 0.0, ended=True)
    assert "is not valid" in caplog.messages[-1]


@pytest.mark.parametrize("answer", [(200, {}, {}), (200, [], {}), (429, {}, {"Retry-After": "\xb2"})])
def test_an_answer_of_other_values_is_told(
    publishable: Publishable, server: HubServer, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a mirror, or a proxy: it was an unexpected error of ours."""
    server.fault = lambda method, path: answer if path == "/api/repos/create" else None
    with pytest.raises(HubError):
        push(publishable(), wait=lambda seconds: None)


@pytest.mark.parametrize("status", [412, 429, 503, 504])
@pytest.mark.parametrize("part", ["/api/validate-yaml", "/commit/", "/api/repos/create"])
def test_it_is_waited_for(
    publishable: Publishable, server: HubServer, status: int, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "undo_hpc")
    left = [2]

    def fault(method: str, path: str) -> Answer | None:
        if part in path and left[0]:
            left[0] -= 1
            return status, {"error": "later"}, {"Retry-After": "3"} if left[0] else {}
        return None

    server.fault = fault
    waits: list[float] = []
    push(publishable(), wait=waits.append)
    assert waits == [4.0, 2.0], "as the header says, else growing"
    assert f"the Hub answered {status}" in caplog.text
    assert server.repos["datasets/me/data"].commits == [
        "Distilled set of iteration 0",
        "Distilled set of iteration 1",
    ]


def test_waiting_has_an_end(publishable: Publishable, server: HubServer) -> None:
    waits: list[float] = []
    server.fault = lambda method, path: (
        (429, {"error": "You have sent too many requests"}, {}) if "/commit/" in path else None
    )
    with pytest.raises(HubError, match="answered 429 for me/data: You have sent too many requests"):
        push(publishable(), wait=waits.append)
    assert len(waits) == 5
    server.fault = lambda method, path: (
        (429, {}, {"RateLimit": '"api";r=0;t=4000'}) if "/commit/" in path else None
    )
    waits.clear()
    with pytest.raises(HubError, match="answered 429"):
        push(publishable(), wait=waits.append)
    assert waits == [], "nobody waits an hour"


@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_another_try_cannot_change_is_told_at_once(
    publishable: Publishable, server: HubServer, status: int
) -> None:
    waits: list[float] = []
    server.fault = lambda method, path: (
        (status, {"error": "no such thing, hf_abcDEF123"}, {}) if "/commit/" in path else None
    )
    with pytest.raises(HubError, match="no such thing") as caught:
        push(publishable(), wait=waits.append)
    assert waits == [] and "hf_abc" not in str(caught.value)


def test_a_page_of_a_proxy_is_no_traceback(publishable: Publishable, server: HubServer) -> None:
    server.fault = lambda method, path: (
        (502, "<html>bad gateway</html>", {}) if path == "/api/validate-yaml" else None
    )
    with pytest.raises(HubError, match=r"cannot be read|answered 502"):
        push(publishable(), wait=lambda seconds: None)


@pytest.mark.parametrize("name", ["a b/c", "me/data/more", "me/-data", "me/" + "x" * 200])
def test_a_name_that_is_none_is_wrong_input(publishable: Publishable, server: HubServer, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a repository"):
        push(publishable(f"hub.dataset_repo={name}"))


def test_a_token_that_the_hub_repeats_is_not_recorded(
    publishable: Publishable, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Hub of a company's own has keys of its own form."""
    monkeypatch.setenv("HF_TOKEN", "a-key-of-a-company")
    server.tokens["a-key-of-a-company"] = "write"
    words = {"error": r"no right: a-key-of-a-company, or a\u002dkey\u002dof\u002da\u002dcompany"}
    server.fault = lambda method, path: (403, words, {}) if method == "POST" else None
    with pytest.raises(HubError, match=r"no right: \*\*\*, or \*\*\*") as caught:
        push(publishable())
    assert "company" not in str(caught.value)
