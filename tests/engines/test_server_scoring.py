"""Scoring by a server of one's own: a stand-in that speaks the documented forms, and vLLM's real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engines.loopback import Server as LoopbackServer
from tests.engines.test_scoring import TEACHER, K, make_requests
from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.engines import load_engine
from undo_hpc.engines.scoring import ScoreRequest
from undo_hpc.engines.service import discover
from undo_hpc.errors import EngineError
from undo_hpc.pipeline.layout import Layout


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    torch.set_num_threads(1)
    engine = load_engine(EngineConfig(), TEACHER)
    yield engine
    engine.close()


class _Server(BaseHTTPRequestHandler):
    """Speaks vLLM's and SGLang's forms as their documentation gives them, with values of the engine in this process."""

    engine: Any
    fails = 0
    broken = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if type(self).fails:
            type(self).fails -= 1
            self.send_error(503)
            return
        sglang = self.path == "/generate"
        ids = body["input_ids" if sglang else "prompt"]
        k = body["top_logprobs_num" if sglang else "prompt_logprobs"]
        with torch.inference_mode():
            log_p = type(self).engine._model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        rows = []
        for at in range(1, len(ids)):
            top = log_p[at - 1].topk(k)
            rows.append(
                (
                    log_p[at - 1, ids[at]].item(),
                    list(zip(top.indices.tolist(), top.values.tolist(), strict=True)),
                )
            )
        if sglang:
            start = body["logprob_start_len"]
            own = [(None, ids[start], None)] + [
                (v, ids[at], None) for at, (v, _) in enumerate(rows, 1) if at > start
            ]
            tops = [None] + [
                [(v, i, None) for i, v in top] for at, (_, top) in enumerate(rows, 1) if at > start
            ]
            data: Any = {"text": "", "meta_info": {"input_token_logprobs": own, "input_top_logprobs": tops}}
        else:
            found: list[Any] = [None]
            for at, (value, top) in enumerate(rows, 1):
                rank = 1 + int((log_p[at - 1] > value).sum())
                entries = {str(ids[at]): {"logprob": max(value, -9999.0), "rank": rank, "decoded_token": ""}}
                entries |= {
                    str(i): {"logprob": v, "rank": r, "decoded_token": ""} for r, (i, v) in enumerate(top, 1)
                }
                found.append(entries)
            data = {"choices": [{"text": "", "prompt_logprobs": found}]}
        if type(self).broken:
            data = {"choices": [{"text": "hello"}], "meta_info": {}}
        payload = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server(local: Any) -> Iterator[str]:
    _Server.engine, _Server.fails, _Server.broken = local, 0, ""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_address[1]}/v1"
    http.shutdown()
    http.server_close()


def remote(url: str, kind: str) -> Any:
    values = {"name": "openai", "openai": {"base_url": url, "concurrency": 4, "max_retries": 3}}
    return load_engine(EngineConfig.model_validate(values), TEACHER, score_k=K, server_kind=kind)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_server_of_ones_own_gives_the_same(local: Any, server: str, kind: str) -> None:
    requests = make_requests(local, 8)
    wanted = {scores.id: scores for scores in local.score(requests, K)}
    _Server.fails = 1  # passes, and is asked again
    found = {scores.id: scores for scores in remote(server, kind).score(requests, K)}
    assert found.keys() == wanted.keys()
    for name, scores in found.items():
        np.testing.assert_allclose(scores.own, wanted[name].own, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(scores.log_p, wanted[name].log_p, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_server_without_log_probabilities_is_named(local: Any, server: str, kind: str) -> None:
    _Server.broken = "yes"
    with pytest.raises(EngineError, match="no log-probabilities of the prompt"):
        list(remote(server, kind).score(make_requests(local, 3), K))


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        (lambda: b"you sent sk-marked \x1b[2J", 400, "400 you sent ***"),
        (lambda: b'"you sent \\u0073k-marked"', 400, '400 "you sent ***'),
        (lambda: b"[" * 100_000, 200, "no JSON"),
        (lambda: repeat(b" " * (1 << 16), 10**4), 200, "more than 1 MiB"),
    ],
)
def test_what_a_hostile_server_says_is_bounded_and_holds_no_key(
    local: Any, monkeypatch: pytest.MonkeyPatch, said: Callable[[], Any], status: int, told: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")
    monkeypatch.setattr("undo_hpc.engines.server_scoring._MOST_BYTES", 1 << 20)
    hostile = LoopbackServer(lambda *_: (status, said()))
    try:
        (scores,) = remote(hostile.url, "vllm").score(make_requests(local, 1), K)
    finally:
        hostile.close()
    assert told in scores.error and "marked" not in scores.error and scores.error.isprintable()


def test_a_key_in_place_of_a_number_is_not_told(local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")

    def said(_: int, body: dict[str, Any]) -> tuple[int, Any]:
        entry = b'{"rank": 1, "logprob": "sk\\u002dmarked"}'
        rows = b", ".join(b'{"%d": %s}' % (token, entry) for token in body["prompt"])
        return 200, b'{"choices": [{"prompt_logprobs": [%s]}]}' % rows

    hostile = LoopbackServer(said)
    try:
        with pytest.raises(EngineError, match=r"no log-probabilities of the prompt.*'\*\*\*'") as caught:
            list(remote(hostile.url, "vllm").score(make_requests(local, 1), K))
    finally:
        hostile.close()
    assert "marked" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "value"),
    [("9" * 30, -5.0), ("-7", -5.0), (str(2**31 + 5), -5.0), ("7", -(10**400)), (" 1000001", -5.0)],
)
def test_numbers_that_no_array_holds_are_no_log_probabilities(local: Any, token: str, value: float) -> None:
    """An id above 2**31 had become a negative one, which training met; others were unexpected errors. One token spelt in two ways was
    among the likeliest twice."""

    def said(_: int, body: dict[str, Any]) -> tuple[int, Any]:
        entry = {"rank": 1, "logprob": -1.0}
        others = {str(10**6 + k): {"rank": k + 3, "logprob": -9.0} for k in range(K - 2)}
        rows = [{str(own): entry, token: {"rank": 2, "logprob": value}} | others for own in body["prompt"]]
        return 200, {"choices": [{"prompt_logprobs": rows}]}

    hostile = LoopbackServer(said)
    try:
        with pytest.raises(EngineError, match="no log-probabilities of the prompt"):
            list(remote(hostile.url, "vllm").score(make_requests(local, 1), K))
    finally:
        hostile.close()


@pytest.mark.vllm
def test_a_real_vllm_server_gives_the_same(
    service: Path, tiny_model: Path, engines: Callable[[str], Any]
) -> None:
    """vLLM's own server, with its own limit of log-probabilities (--max-logprobs 20)."""
    here, (found,) = engines("transformers"), discover(service, 3)
    texts = [ScoreRequest(f"r{n}", f"{n}+7?", (n, 9, *range(50, 50 + 9 * n), 2)) for n in range(3, 9)]
    key = Layout(service).iteration(3).server_key
    values = {"base_url": found.url, "api_key_file": str(key), "concurrency": 4}
    config = EngineConfig.model_validate({"name": "openai", "openai": values})
    server = load_engine(config, ModelConfig(model=str(tiny_model)), score_k=K, server_kind="vllm")
    wanted = {s.id: s for s in here.score(texts, K)}
    got = {s.id: s for s in server.score(texts, K)}  # type: ignore[attr-defined]
    assert got.keys() == wanted.keys()
    for name, scores in got.items():
        assert not scores.error and scores.prompt_tokens == wanted[name].prompt_tokens
        np.testing.assert_allclose(scores.own, wanted[name].own, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(scores.log_p, wanted[name].log_p, rtol=2e-3, atol=2e-4)
        assert (
            np.sort(scores.ids, 1) == np.sort(wanted[name].ids, 1)
        ).mean() > 0.99  # the last of them may tie
    refused = list(server.score(texts, 30))  # type: ignore[attr-defined]
    assert len(refused) == len(texts) and all("30" in s.error and "20" in s.error for s in refused)
