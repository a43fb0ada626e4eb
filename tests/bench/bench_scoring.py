"""P13: scoring against a plain forward loop and against our own generation, and what the loss on scores costs over cross-entropy.

One process, one thread; CPU time, repeats in turn.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.frame import Measure, Skipped, in_turn

ROWS, K = 256, 16
WORDS, WIDTH, POSITIONS = 151_936, 64, 512  # Qwen2's vocabulary


def measures() -> Iterator[Measure | Skipped]:
    """The engine first: its model is the tiny teacher."""
    import torch

    torch.set_num_threads(1)
    yield from engine_speed()
    yield from loss_cost()


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def engine_speed() -> Iterator[Measure]:
    """Texts in file order, most short and some ten times longer."""
    import torch

    from undo_hpc.config.schema import EngineConfig, ModelConfig
    from undo_hpc.engines import Request, load_engine
    from undo_hpc.engines.scoring import ScoreRequest

    engine: Any = load_engine(EngineConfig(), ModelConfig(model="tiny:teacher", dtype="float32"))
    rng, chat = random.Random(0), engine._chat
    requests = []
    for number in range(ROWS):
        length = min(400, max(8, int(rng.lognormvariate(3.6, 0.8))))
        answer = tuple(rng.randrange(40, 400) for _ in range(length))
        requests.append(ScoreRequest(f"r{number}", f"Ann has {number} cakes.", answer))
    tokens = sum(len(r.answer) + len(chat.encode(r.prompt)) for r in requests)

    @torch.inference_mode()
    def plain() -> None:
        for request in requests:
            prompt = chat.encode(request.prompt)
            logits = engine._model(
                input_ids=torch.tensor([[*prompt, *request.answer]]), use_cache=False
            ).logits[0]
            log_p = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
            log_p.topk(K), log_p.gather(1, torch.tensor(request.answer)[:, None])

    ours, other = in_turn(
        lambda: cpu_seconds(lambda: list(engine.score(requests, K))), lambda: cpu_seconds(plain), 3
    )
    what = (
        "texts scored per CPU-second, transformers engine, against a plain forward pass a text in file order"
    )
    yield Measure(
        "P13a", what, ROWS / ours, ROWS / other, ">=2", "rows/s", extra={"tokens_per_s": round(tokens / ours)}
    )

    asked = [Request(r.id, r.prompt, 0, 1.0, len(r.answer)) for r in requests[:64]]
    written = 0

    def write() -> None:
        nonlocal written
        written = sum(c.completion_tokens for c in engine.generate(asked))

    writing = cpu_seconds(write)
    what = "tokens scored per CPU-second, prompts included, against tokens written by the same engine"
    yield Measure("P13b", what, tokens / ours, written / writing, ">=2", "tokens/s")
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
    yield Measure("P13c", what, ours, other, "<=1.15", "s")
    peaks = [peak_bytes(lambda scores=scores: step(scores)) for scores in (scored, None)]  # type: ignore[misc]
    what = "the same, tensors that are alive at once at most"
    yield Measure("P13d", what, peaks[0] / 2**20, peaks[1] / 2**20, "<=1.1", "MiB")


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
