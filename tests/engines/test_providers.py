"""The client with a server of each provider: all is answered, parameters are adapted once and recorded, faults are told apart."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conftest import REPO
from tests.engines.loopback import client, run
from tests.engines.provider import Body, Provider, prompt_of
from tests.engines.providers import PROVIDERS
from undo_hpc.engines import Request
from undo_hpc.engines.openai_engine import OpenAIEngine
from undo_hpc.errors import ConfigError, EngineError

by_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


def started(server: Any, provider: Provider, accepted: list[Body]) -> tuple[Any, OpenAIEngine]:
    lock = threading.Lock()

    def respond(_: int, body: Body) -> Any:
        body.pop("chat_template_kwargs", None)
        status, answer = provider.respond(body)
        if status == 200:
            with lock:
                accepted.append(body)
        return status, answer

    there = server(respond, listing=provider.listing)
    return there, client(there.url, **({"omit": ["chat_template_kwargs"]} | provider.settings))


def asked(*prompts: str) -> list[Request]:
    return [Request(f"r{i}", prompt, 2**40 + i, 0.7, 20000, top_p=0.95) for i, prompt in enumerate(prompts)]


@by_provider
def test_every_request_is_answered_and_its_parameters_are_recorded(server: Any, provider: Provider) -> None:
    accepted: list[Body] = []
    there, engine = started(server, provider, accepted)
    found = run(engine, asked(*[f"problem {i}" for i in range(12)], "cut this one"))
    assert [c.error for c in found.values()] == [""] * 13
    assert {(c.text, c.reasoning) for c in found.values()} == {("42", provider.reasoning)}
    assert (found["r0"].finish_reason, found["r0"].raw_finish_reason) == ("stop", provider.raw)
    assert (found["r12"].finish_reason, found["r12"].raw_finish_reason) == ("length", provider.raw_cut)
    by_prompt = {prompt_of(body): body for body in accepted}
    for request in asked(*[f"problem {i}" for i in range(12)]):
        sent, body = found[request.id].sent, by_prompt[request.prompt]
        assert sent == {name: body[name] for name in body.keys() - {"model", "messages"}}, (
            "the row tells what was sent"
        )
        assert sent == provider.sent | ({"seed": request.seed} if provider.sends_seed else {})
    assert len(accepted) == 13, "nothing is paid for twice"
    # A limit that the context leaves is each prompt's own (-1); a refused parameter is learned once.
    assert len(there.bodies) == (26 if provider.refusals < 0 else 13 + provider.refusals)
    assert run(engine, asked("problem 99"))["r0"].text == "42"
    assert len(there.bodies) == (28 if provider.refusals < 0 else 14 + provider.refusals), (
        "remembered for the process"
    )


@by_provider
def test_a_prompt_that_does_not_fit_fails_alone(server: Any, provider: Provider) -> None:
    if provider.name == "ollama":
        pytest.skip("cuts a long prompt without a word")
    for prompts in (["long one", "problem 1"], ["problem 1", "long one"], ["long one"]):
        found = run(started(server, provider, [])[1], asked(*prompts))
        errors = {prompt: found[f"r{i}"].error for i, prompt in enumerate(prompts)}
        assert errors.pop("long one") and not any(errors.values())


@by_provider
def test_a_moderated_prompt_fails_alone_also_where_it_is_the_only_one_left(
    server: Any, provider: Provider
) -> None:
    if not provider.flagged:
        pytest.skip("has no moderation")
    for prompts in (["flagged one", "problem 1"], ["problem 1", "flagged one"], ["flagged one"]):
        found = run(started(server, provider, [])[1], asked(*prompts))
        errors = {prompt: found[f"r{i}"].error for i, prompt in enumerate(prompts)}
        assert provider.flagged in errors.pop("flagged one") and not any(errors.values())


@by_provider
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, EngineError), (401, ConfigError), (403, ConfigError), (404, ConfigError), (500, EngineError)],
)
def test_a_server_that_answers_nothing_ends_the_task_with_its_words(
    server: Any, provider: Provider, status: int, kind: type[Exception]
) -> None:
    """Fewer requests than any limit, also a single one: nothing is recorded, and the same requests are answered later."""
    accepted: list[Body] = []
    broken, lock = [True], threading.Lock()

    def respond(_: int, body: Body) -> Any:
        body.pop("chat_template_kwargs", None)
        with lock:
            accepted.append(body)
        return (status, {"error": {"message": "the fault of today"}}) if broken[0] else provider.respond(body)

    there = server(respond, listing=provider.listing)
    for count in (1, 14):
        found = []
        with pytest.raises(kind, match="the fault of today"):
            for completion in client(there.url).generate(asked(*[f"problem {i}" for i in range(count)])):
                found.append(completion)
        assert not found
    broken[0] = False
    assert {c.text for c in run(client(there.url), asked("problem 0", "problem 1")).values()} == {"42"}


def test_the_page_names_every_provider() -> None:
    page = (REPO / "docs" / "servers.md").read_text().lower()
    names = {line.split("|")[1].split(",")[0].strip() for line in page.splitlines() if line.startswith("| ")}
    held = {"azure": "azure openai", "openai reasoning": "openai"}
    assert {held.get(provider.name, provider.name) for provider in PROVIDERS} <= names
