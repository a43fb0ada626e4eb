"""P13: scoring against plain forward loops and against our own generation, and what the loss on scores costs over cross-entropy.

One process, one thread; CPU time, repeats in turn.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.frame import Measure, Skipped, in_turn

ROWS, BATCH, K = 768, 32, 16
WRITTEN = 96  # texts that are also written, which takes far longer
WORDS, WIDTH, POSITIONS = (
    151_936,
    64,
    256,
)  # Qwen2's vocabulary; a layer this narrow leaves nothing to hide behind


def measures() -> Iterator[Measure | Skipped]:
    """vLLM last: it changes the process it is imported into."""
    import torch

    torch.set_num_threads(1)
    yield from engine_speed()
    yield from loss_cost()
    yield from vllm_speed()


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def load(name: str, **options: Any) -> Any:
    """An engine with the tiny teacher."""
    from undo_hpc.config.schema import EngineConfig, ModelConfig
    from undo_hpc.engines import load_engine

    return load_engine(EngineConfig(name=name), ModelConfig(model="tiny:teacher", dtype="float32"), **options)


def workload() -> list[Any]:
    """Texts in file order, most short and some ten times longer."""
    from undo_hpc.engines.scoring import ScoreRequest

    rng, found = random.Random(0), []
    for number in range(ROWS):
        length = min(400, max(8, int(rng.lognormvariate(3.6, 0.8))))
        answer = tuple(rng.randrange(40, 400) for _ in range(length))
        found.append(ScoreRequest(f"r{number}", f"Ann has {number} cakes.", answer))
    return found


def engine_speed() -> Iterator[Measure]:
    """The transformers engine against two loops that anybody would write: batches in file order, and a text at a time."""
    import torch

    engine, requests = load("transformers"), workload()
    prompts = [engine._chat.encode(r.prompt) for r in requests]
    tokens = sum(len(r.answer) + len(p) for r, p in zip(requests, prompts, strict=True))

    @torch.inference_mode()
    def plain(size: int) -> None:
        for at in range(0, ROWS, size):
            rows = list(zip(prompts[at : at + size], requests[at : at + size], strict=True))
            width = max(len(prompt) + len(r.answer) for prompt, r in rows)
            ids, mask = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
            for row, (prompt, request) in enumerate(rows):
                end = len(prompt) + len(request.answer)
                ids[row, :end], mask[row, :end] = torch.tensor([*prompt, *request.answer]), 1
            padded = {"attention_mask": mask} if size > 1 else {}
            logits = engine._model(input_ids=ids, **padded, use_cache=False).logits
            for row, (prompt, request) in enumerate(rows):
                log_p = logits[row, len(prompt) - 1 :][: len(request.answer)].float().log_softmax(-1)
                log_p.topk(K), log_p.gather(1, torch.tensor(request.answer)[:, None])

    for name, size, what in (
        ("P13a", BATCH, f"padded batches of {BATCH} in file order"),
        ("P13b", 1, "a text at a time"),
    ):
        ours, other = in_turn(
            lambda: cpu_seconds(lambda: list(engine.score(requests, K))),
            lambda size=size: cpu_seconds(lambda: plain(size)),  # type: ignore[misc]
            3,
        )
        what = f"texts scored per CPU-second, transformers engine, against a plain forward loop, {what}"
        extra = {"tokens_per_s": round(tokens / ours)}
        yield Measure(name, what, ROWS / ours, ROWS / other, ">=2", "rows/s", extra=extra)
    yield against_writing("P13c", "transformers", engine, requests)
    engine.close()


def against_writing(name: str, engine_name: str, engine: Any, requests: list[Any]) -> Measure:
    """Tokens that an engine scores against those that it writes, in the same time."""
    from undo_hpc.engines import Request

    few = requests[:WRITTEN]
    asked = [Request(r.id, r.prompt, 0, 1.0, len(r.answer)) for r in few]
    done = {"scored": 0, "written": 0}

    def score() -> None:
        done["scored"] = sum(len(s.own) for s in engine.score(few, K))

    def write() -> None:
        done["written"] = sum(c.completion_tokens for c in engine.generate(asked))

    reading, writing = in_turn(lambda: cpu_seconds(score), lambda: cpu_seconds(write), 3)
    what = f"tokens of answers scored per CPU-second against tokens written, {engine_name} engine, {WRITTEN} texts"
    return Measure(name, what, done["scored"] / reading, done["written"] / writing, ">=2", "tokens/s")


def vllm_speed() -> Iterator[Measure | Skipped]:
    """The vLLM engine against its own generation."""
    from undo_hpc.engines.vllm_engine import is_installed

    if not is_installed():
        yield Skipped("P13d", "vLLM is not installed")
        return
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    requests = workload()
    engine = load("vllm", prompts=[r.prompt for r in requests], max_tokens=500, score_k=K)
    yield against_writing("P13d", "vLLM", engine, requests)
    engine.close()


def loss_cost() -> Iterator[Measure]:
    """Forward and backward of the last layer over a large vocabulary, in pieces, with scores and without."""
    import torch

    from undo_hpc.training.answer_head import AnswerHead
    from undo_hpc.training.divergence import FIGURES, Objective, Scored

    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, WORDS, bias=False)
    head.__class__ = AnswerHead
    hidden = torch.randn(1, POSITIONS, WIDTH, requires_grad=True)
    targets = torch.randint(0, WORDS, (POSITIONS,))
    ones, small = torch.ones(POSITIONS), torch.full((POSITIONS,), -8.0)
    ids = torch.stack([torch.randperm(WORDS)[:K] for _ in range(POSITIONS)])
    scored = Scored(ids, torch.full((POSITIONS, K), -3.0), small, small, 0 * ones, ones / 2, ones / 2, Objective(),
                    torch.zeros(len(FIGURES), dtype=torch.float64))  # fmt: skip

    def step(scores: Scored | None) -> None:
        head.targets, head.scored = targets, scores  # type: ignore[assignment]
        head(hidden).sum().backward()
        head.weight.grad = hidden.grad = None

    ours, other = in_turn(
        lambda: cpu_seconds(lambda: step(scored)), lambda: cpu_seconds(lambda: step(None)), 5
    )
    what = f"the loss on scores (k = {K}, {WORDS:,} words) against cross-entropy, CPU time of forward and backward"
    yield Measure("P13e", what, ours, other, "<=1.15", "s")
    peaks = [peak_bytes(lambda scores=scores: step(scores)) for scores in (scored, None)]  # type: ignore[misc]
    what = "the same, tensors that are alive at once at most"
    yield Measure("P13f", what, peaks[0] / 2**20, peaks[1] / 2**20, "<=1.1", "MiB")


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes of tensors at once, as torch's profiler saw them allocated and freed."""
    import torch

    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    alive = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most
