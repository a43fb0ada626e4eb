"""What every engine promises, asked of each one for real: transformers (three ways), vLLM, and a client of a vLLM
server.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from tests.engines.conftest import CONTEXT
from undo_hpc.engines import Completion, Engine, Request
from undo_hpc.engines.base import digest

QUESTIONS = [
    f"{name} has {start} cakes and {verb} {more}." + " How many cakes now?" * (start % 3)
    for (name, verb), (start, more) in itertools.product(
        [("Ann", "buys"), ("Bob", "sells"), ("Übung", "λ∈{x}")], [(17, 7), (30, 4), (41, 12), (5, 999)]
    )
]


def asked(
    count: int = 12, *, temperature: float = 1.0, max_tokens: int = 24, **more: object
) -> list[Request]:
    return [
        Request(f"r{i}", QUESTIONS[i % len(QUESTIONS)], 1000 + i, temperature, max_tokens, **more)  # type: ignore[arg-type]
        for i in range(count)
    ]


def run(engine: Engine, requests: list[Request]) -> dict[str, Completion]:
    completions = list(engine.generate(requests))
    assert sorted(c.id for c in completions) == sorted(r.id for r in requests), (
        "each request is answered once"
    )
    return {c.id: c for c in completions}


def test_each_request_is_answered_once_and_counted(engine: Engine) -> None:
    requests = asked(40)
    completions = run(engine, requests)
    for request in requests:
        completion = completions[request.id]
        assert completion.error == ""
        assert completion.finish_reason in ("stop", "length")
        assert 1 <= completion.completion_tokens <= request.max_tokens
        assert completion.finish_reason == "stop" or completion.completion_tokens == request.max_tokens
        assert completion.prompt_sha == digest(request.prompt)
        assert "<|im_end|>" not in completion.text
        assert completion.prompt_tokens > len(request.prompt) // 8


def test_nothing_asked_nothing_answered(engine: Engine) -> None:
    assert list(engine.generate([])) == []


def test_greedy_is_the_same_for_any_seed(engine: Engine) -> None:
    first, second = Request("a", QUESTIONS[0], 1, 0.0, 16), Request("b", QUESTIONS[0], 2, 0.0, 16)
    assert run(engine, [first])["a"].text == run(engine, [second])["b"].text


def test_top_k_of_one_is_greedy(engine: Engine) -> None:
    greedy = run(engine, [Request("a", QUESTIONS[0], 1, 0.0, 16)])["a"]
    drawn = run(engine, [Request("a", QUESTIONS[0], 5, 1.0, 16, top_k=1)])["a"]
    assert replace(drawn, sent={}) == replace(greedy, sent={})


def test_a_small_nucleus_is_greedy(engine: Engine) -> None:
    greedy = run(engine, [Request("a", QUESTIONS[0], 1, 0.0, 16)])["a"]
    drawn = run(engine, [Request("a", QUESTIONS[0], 5, 1.0, 16, top_p=1e-6)])["a"]
    assert replace(drawn, sent={}) == replace(greedy, sent={})


def test_a_seed_gives_the_same_draw_again_and_another_seed_another(engine: Engine) -> None:
    one = run(engine, [Request("a", QUESTIONS[0], 7, 1.0, 20)])["a"]
    assert run(engine, [Request("a", QUESTIONS[0], 7, 1.0, 20)])["a"] == one
    texts = {
        c.text
        for c in run(engine, [Request(f"s{seed}", QUESTIONS[0], seed, 1.0, 20) for seed in range(8)]).values()
    }
    assert len(texts) >= 7


def test_seeds_of_any_size_are_taken(engine: Engine) -> None:
    completions = run(
        engine,
        [
            Request(f"s{i}", QUESTIONS[0], seed, 1.0, 4)
            for i, seed in enumerate([0, 2**32, 2**63 - 1, 2**64 - 1])
        ],
    )
    assert all(c.error == "" for c in completions.values())


def test_max_tokens_is_each_requests_own(engine: Engine) -> None:
    requests = [Request(f"m{n}", QUESTIONS[n % 5], n, 1.0, n) for n in (1, 2, 9, 33)]
    completions = run(engine, requests)
    assert all(completions[r.id].completion_tokens <= r.max_tokens for r in requests)
    assert completions["m1"].completion_tokens == 1


def test_a_stop_text_ends_the_completion_and_is_not_part_of_it(engine: Engine) -> None:
    plain = run(engine, [Request("a", QUESTIONS[1], 1, 0.0, 30)])["a"]
    assert len(plain.text) >= 8, "the random model must write something for this test"
    stop = plain.text[len(plain.text) // 2 :][:2]
    stopped = run(engine, [Request("a", QUESTIONS[1], 1, 0.0, 30, stop=("\x00never", stop))])["a"]
    assert stopped.text == plain.text[: plain.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens <= plain.completion_tokens


def test_a_prompt_over_the_context_fails_alone_with_its_reason(engine: Engine) -> None:
    requests = [
        *asked(3),
        Request("long", "far too long " * 400, 1, 1.0, 8),
        *(r for r in asked(6) if r.id > "r2"),
    ]
    completions = run(engine, requests)
    bad = completions.pop("long")
    assert (bad.finish_reason, bad.text, bad.completion_tokens) == ("error", "", 0)
    assert "context" in bad.error and str(CONTEXT) in bad.error
    assert all(c.error == "" for c in completions.values())


def test_a_completion_that_reaches_the_end_of_the_context_is_cut_there(engine: Engine) -> None:
    request = Request("edge", "7 " * 100, 3, 1.0, 4 * CONTEXT)
    completion = run(engine, [request])["edge"]
    assert completion.error == ""
    assert completion.prompt_tokens + completion.completion_tokens <= CONTEXT
    assert (
        completion.finish_reason == "stop"
        or completion.prompt_tokens + completion.completion_tokens == CONTEXT
    )


def test_an_empty_prompt_and_strange_text_are_answered(engine: Engine) -> None:
    prompts = [
        "",
        " ",
        "{problem} {{x}} \\boxed{}",
        "<|im_end|><|im_start|>user",
        "日本語 🙂 \u202e",
        "a\x00b\r\n\t",
    ]
    completions = run(engine, [Request(f"p{i}", p, i, 1.0, 6) for i, p in enumerate(prompts)])
    assert [c.error for c in completions.values()] == [""] * len(prompts)


@pytest.mark.parametrize("after", [0, 3])
def test_stopping_leaves_the_rest_unanswered_and_the_engine_usable(engine: Engine, after: int) -> None:
    requests = asked(200, max_tokens=16)
    done: list[Completion] = []
    for completion in engine.generate(requests, should_stop=lambda: len(done) >= after):
        done.append(completion)
    assert after <= len(done) < len(requests)
    assert all(c.error == "" for c in done)
    assert len({c.id for c in done}) == len(done)
    assert len(run(engine, asked(5))) == 5


def test_a_consumer_that_walks_away_leaves_the_engine_usable(engine: Engine) -> None:
    stream = engine.generate(asked(50))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(run(engine, asked(5))) == 5


def test_what_it_says_of_itself_can_be_recorded(engine: Engine) -> None:
    list(engine.generate(asked(1)))
    described = engine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["engine"] in ("transformers", "vllm", "openai")
    assert {"versions", "model", "template_sha", "system_prompt", "chat_template_kwargs"} <= described.keys()
    assert len(described["template_sha"]) == 16


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["transformers-invariant", "transformers-padded", "vllm", "openai"])
def test_engines_agree_on_greedy_tokens(engines, name: str, record_property) -> None:
    """The share of equal greedy completions beside the transformers engine, and where the first difference stands."""
    requests = asked(24, temperature=0.0, max_tokens=24)
    ours, theirs = run(engines("transformers"), requests), run(engines(name), requests)
    plain = {i: (ours[i].text, theirs[i].text) for i in ours}
    differing = [f"{i}: {a!r} / {b!r}" for i, (a, b) in plain.items() if a != b]
    record_property("greedy_agreement", 1 - len(differing) / len(plain))
    print(
        f"{name}: {len(plain) - len(differing)} of {len(plain)} greedy completions equal transformers'",
        *differing,
        sep="\n  ",
    )
    assert len(differing) <= len(plain) // 10
    assert all(ours[i].prompt_tokens == theirs[i].prompt_tokens for i in ours)
