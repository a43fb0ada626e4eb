"""What the loss on scores does to the tiny world's student: measured in whole-vocabulary divergence, not in accuracy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from undo_hpc.config.load import load_config
from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.data.loading import load_problems
from undo_hpc.engines import Request, load_engine
from undo_hpc.engines.scoring import ScoreRequest
from undo_hpc.training.divergence import FIGURES, Objective, Scored, scored_loss

pytestmark = pytest.mark.slow
K, BATCH, STEPS = 16, 16, 40


def load(name: str) -> Any:
    torch.set_num_threads(1)
    return load_engine(EngineConfig(), ModelConfig(model=f"tiny:{name}", dtype="float32"))


@pytest.fixture(scope="module")
def teacher() -> Iterator[Any]:
    engine = load("teacher")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def texts(teacher: Any) -> list[ScoreRequest]:
    """Problems with the teacher's own answers."""
    problems = load_problems(load_config("tiny", ["data.train.sample=240"]).data.train).problems[:200]
    return answered(teacher, [p.problem for p in problems], 0.7)


def answered(engine: Any, prompts: list[str], temperature: float, seed: int = 0) -> list[ScoreRequest]:
    """Prompts with an engine's answers."""
    asked = [Request(str(n), prompt, seed + n, temperature, 120) for n, prompt in enumerate(prompts)]
    answers = {c.id: c.token_ids for c in engine.generate(asked)}
    return [ScoreRequest(r.id, r.prompt, answers[r.id]) for r in asked]


def rows_of(engine: Any, requests: list[ScoreRequest]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits at the answers of a padded batch, one row a token, and the tokens."""
    prompts = [engine._chat.encode(r.prompt) for r in requests]
    width = max(len(p) + len(r.answer) for p, r in zip(prompts, requests, strict=True))
    ids = torch.zeros(len(requests), width, dtype=torch.long)
    keep = torch.zeros(len(requests), width, dtype=torch.bool)
    for row, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
        end = len(prompt) + len(request.answer)
        ids[row, :end] = torch.tensor([*prompt, *request.answer])
        keep[row, len(prompt) - 1 : end - 1] = True
    logits = engine._model(input_ids=ids, use_cache=False).logits
    return logits[keep], ids.roll(-1, 1)[keep], keep


def divergence(teacher: Any, student: Any, requests: list[ScoreRequest], *, reverse: bool = False) -> float:
    """Of the whole vocabulary, in nats a token."""
    with torch.inference_mode():
        p, q = (rows_of(engine, requests)[0].double().log_softmax(1) for engine in (teacher, student))
    first, second = (q, p) if reverse else (p, q)
    return float((first.exp() * (first - second)).sum(1).mean())


def learn(
    teacher: Any,
    student: Any,
    requests: list[ScoreRequest],
    objective: Objective,
    ce: float,
    steps: int = STEPS,
    rate: float = 1e-3,
) -> None:
    """Plain steps of AdamW on these texts, scored once."""
    scores = {s.id: s for s in teacher.score(requests, K)}
    optimizer = torch.optim.AdamW(student._model.parameters(), lr=rate, betas=(0.9, 0.98))
    for step in range(steps):
        batch = random.Random(step).sample(requests, BATCH)
        logits, targets, _ = rows_of(student, batch)
        parts = [scores[r.id] for r in batch]
        ids, log_p, own, tail = (
            torch.cat([torch.from_numpy(getattr(part, name)) for part in parts])
            for name in ("ids", "log_p", "own", "tail")
        )
        ones = torch.ones(len(targets))
        figures = torch.zeros(len(FIGURES), dtype=torch.float64)
        scored = Scored(
            ids.long(),
            log_p.float(),
            own.float(),
            tail.float(),
            0 * ones,
            (1 - ce) * ones,
            ce * ones,
            objective,
            figures,
        )
        optimizer.zero_grad()
        (scored_loss(logits, targets, scored) / len(targets)).backward()
        torch.nn.utils.clip_grad_norm_(student._model.parameters(), 1.0)
        optimizer.step()


def test_forward_divergence_comes_nearer_to_the_teacher_than_cross_entropy(
    teacher: Any, texts: list[ScoreRequest]
) -> None:
    """At equal texts, tokens and steps, on texts that neither learned from."""
    learned, held_out = texts[:150], texts[150:]
    found = {}
    for ce in (1.0, 0.0):
        student = load("student")
        before = divergence(teacher, student, held_out)
        learn(teacher, student, learned, Objective(beta=0.0), ce)
        found[ce] = divergence(teacher, student, held_out)
        student.close()
    assert found[0.0] < found[1.0] < before, (before, found)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_learning_from_its_own_answers_moves_them_toward_the_teacher(
    teacher: Any, texts: list[ScoreRequest], beta: float
) -> None:
    """The student's answers to the same problems, drawn again. (To other problems they hardly move, after so little: docs/signals.md.)"""
    student, prompts = load("student"), [r.prompt for r in texts[:150]]
    before = divergence(teacher, student, answered(student, prompts, 1.0, seed=1000), reverse=True)
    learn(teacher, student, answered(student, prompts, 1.0), Objective(beta=beta), 0.0, rate=5e-4)
    after = divergence(teacher, student, answered(student, prompts, 1.0, seed=1000), reverse=True)
    student.close()
    assert after < 0.9 * before, (before, after)
