"""Engines side by side on the same lengths: output tokens per CPU-second, and what our vLLM path costs over
`LLM.generate`.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped, in_turn

ROWS = 384
BATCH = 32


def measures() -> Iterator[Measure | Skipped]:
    """Transformers first: vLLM changes the process it is imported into."""
    import torch

    from tests.engines.conftest import build_model

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = build_model(Path(folder) / "model", context=1024)
        yield transformers_against_padded(path)
        yield vllm_overhead(path)


def workload() -> list[Any]:
    """Requests in file order: short and long prompts, and completions of skewed lengths (most short, some ten times
    longer).
    """
    from undo_hpc.engines import Request

    rng = random.Random(0)
    return [
        Request(
            f"r{i}",
            " ".join(str(rng.randrange(100)) for _ in range(rng.randrange(8, 60))),
            i,
            1.0,
            min(256, max(8, int(rng.lognormvariate(3.6, 0.8)))),
        )
        for i in range(ROWS)
    ]


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def transformers_against_padded(path: Path) -> Measure:
    """Our engine against `generate` over left-padded batches in file order, each row ending at the same length in
    both.
    """
    from tests.bench.padded_generate import PaddedGenerate
    from undo_hpc.config.schema import EngineConfig, ModelConfig, TransformersEngineConfig
    from undo_hpc.engines.transformers_engine import TransformersEngine

    requests = workload()
    part = TransformersEngineConfig(threads=1, max_batch=BATCH, batch_tokens=10**6)
    engine = TransformersEngine(EngineConfig(transformers=part), ModelConfig(model=str(path)))
    engine._chat.stop_ids = frozenset()  # lengths are the workload's, in both
    padded = PaddedGenerate(path, BATCH)

    def ours() -> None:
        written = sum(c.completion_tokens for c in engine.generate(requests))
        assert written == sum(r.max_tokens for r in requests)

    ours_s, padded_s = in_turn(
        lambda: cpu_seconds(ours), lambda: cpu_seconds(lambda: padded(requests)), repeats=5
    )
    tokens = sum(r.max_tokens for r in requests)
    return Measure(
        "engines.transformers",
        "transformers engine against padded `generate` in file order, the same lengths",
        tokens / ours_s,
        tokens / padded_s,
        ">=2",
        unit="output tokens / CPU-second",
        note=f"{ROWS} requests, batch {BATCH}, one thread",
    )


def vllm_overhead(path: Path) -> Measure | Skipped:
    """Our path (chat, step loop, completions as they finish) against `LLM.chat`'s own loop over the same requests."""
    from undo_hpc.engines.vllm_engine import is_installed

    if not is_installed():
        return Skipped("engines.vllm_overhead", "vLLM is not installed")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from undo_hpc.config.schema import EngineConfig, ModelConfig, VllmEngineConfig
    from undo_hpc.engines.vllm_engine import VllmEngine

    requests = workload()
    # No prefix cache: a second pass over the same prompts must cost what the first did.
    part = VllmEngineConfig(max_num_seqs=64, enable_prefix_caching=False)
    engine = VllmEngine(EngineConfig(name="vllm", vllm=part), ModelConfig(model=str(path)))
    chats = [[{"role": "user", "content": r.prompt}] for r in requests]
    stops = sorted(engine._chat.stop_ids)

    def plain() -> None:
        params = [
            engine._sampling_params(
                temperature=1.0, seed=r.seed, max_tokens=r.max_tokens, stop_token_ids=stops
            )
            for r in requests
        ]
        engine._llm.chat(chats, params, use_tqdm=False)

    def ours() -> None:
        for _ in engine.generate(requests):
            pass

    plain()
    ours_s, plain_s = in_turn(lambda: cpu_seconds(ours), lambda: cpu_seconds(plain), repeats=21)
    engine.close()
    return Measure(
        "engines.vllm_overhead",
        "CPU-seconds of our vLLM path over LLM.chat, the same requests",
        ours_s,
        plain_s,
        "<=1.03",
        unit="CPU-seconds",
        note=f"{ROWS} requests, a model so small that vLLM's own bookkeeping is most of the time",
    )
