"""A small training loop for the shipped models: one thread, batches of like length, loss on the answers only."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from undo_hpc.tiny.corpus import Pair
from undo_hpc.tiny.tokenizer import ASSISTANT, END, USER

_POOL_BATCHES = 40  # batches drawn at once, then sorted by length


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a Qwen2 model. Heads are 32 wide: the narrowest that vLLM's CPU backend takes."""

    hidden: int
    layers: int
    intermediate: int
    kv_heads: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained.

    Args:
        steps: optimiser steps.
        batch_tokens: rows x longest row of a batch, so short texts come many at a time.
        peak: highest learning rate of AdamW (embeddings, norms, biases).
        matrix_peak: highest learning rate of Muon (all other matrices; here it needs about half of AdamW's steps).
        warmup: steps with a rising learning rate; a cosine to zero follows.
        weight_decay: of both.
    """

    steps: int
    batch_tokens: int
    peak: float = 3e-3
    matrix_peak: float = 0.01
    warmup: int = 100
    weight_decay: float = 0.01


def new_model(shape: Shape, tokenizer: Any, seed: int) -> Any:
    """A Qwen2ForCausalLM with random weights and tied embeddings."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 32,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=shape.hidden**-0.5 * 0.5,
    )
    return Qwen2ForCausalLM(config)


def encode(tokenizer: Any, pair: Pair) -> tuple[list[int], int]:
    """Ids of the whole conversation, and how many of them are the prompt's; equal to what the chat template gives."""
    text = f"{USER}{pair.prompt}{ASSISTANT}"
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(pair.answer + END, add_special_tokens=False)["input_ids"]
    return prompt + answer, len(prompt)


def _optimisers(model: Any, recipe: Recipe) -> list[Any]:
    import torch

    named = list(model.named_parameters())
    inner = [p for name, p in named if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in named if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=recipe.matrix_peak, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.peak, betas=(0.9, 0.98), weight_decay=recipe.weight_decay),
    ]


def _draw_batches(draw: Callable[[], tuple[list[int], int]], budget: int) -> list[list[tuple[list[int], int]]]:
    """A pool of examples, grouped by length into batches of at most `budget` padded tokens."""
    pool, tokens = [], 0
    while tokens < budget * _POOL_BATCHES:
        pool.append(draw())
        tokens += len(pool[-1][0])
    pool.sort(key=lambda item: len(item[0]))
    batches: list[list[tuple[list[int], int]]] = [[]]
    for item in pool:
        if batches[-1] and len(item[0]) * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(item)
    return batches


def train(
    model: Any, tokenizer: Any, draw: Callable[[random.Random, float], Pair], recipe: Recipe, seed: int, *, log_every: int = 500
) -> float:
    """Trains in place on pairs from `draw(generator, progress from 0 to 1)`. Returns the mean loss of the last tenth."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    rng = random.Random(f"tiny-train:{seed}")
    optimisers = _optimisers(model, recipe)
    warmup = max(1, min(recipe.warmup, recipe.steps // 5))

    def rate(step: int) -> float:
        done = max(0, step - warmup) / max(1, recipe.steps - warmup)
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))

    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimiser, rate) for optimiser in optimisers]
    model.train()
    losses: list[float] = []
    batches: list[list[tuple[list[int], int]]] = []
    started = time.process_time()
    for step in range(recipe.steps):
        if not batches:
            batches = _draw_batches(lambda: encode(tokenizer, draw(rng, step / recipe.steps)), recipe.batch_tokens)  # noqa: B023
            rng.shuffle(batches)
        batch = batches.pop()
        width = max(len(ids) for ids, _ in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        wanted = torch.zeros((len(batch), width), dtype=torch.bool)
        for row, (tokens, start) in enumerate(batch):  # padding stands behind: a causal model never looks at it
            ids[row, : len(tokens)] = torch.tensor(tokens)
            wanted[row, start : len(tokens)] = True
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][wanted[:, 1:]])
        loss = cross_entropy(logits, ids[:, 1:][wanted[:, 1:]])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, scheduler in zip(optimisers, schedulers, strict=True):
            optimiser.step()
            scheduler.step()
        losses.append(loss.item())
        if log_every and (step + 1) % log_every == 0:
            recent = sum(losses[-log_every:]) / log_every
            print(f"  step {step + 1}/{recipe.steps} loss {recent:.4f} cpu {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def answer(model: Any, tokenizer: Any, prompts: list[str], *, temperature: float = 0.0, seed: int = 0, batch: int = 64, max_new: int = 120) -> list[str]:
    """The model's answers to user prompts, in order; batched by length."""
    import torch

    torch.manual_seed(seed)
    model.eval()
    encoded = [tokenizer(f"{USER}{prompt}{ASSISTANT}", add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    answers = [""] * len(prompts)
    how: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        width = max(len(encoded[i]) for i in rows)
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(encoded[i])) + encoded[i] for i in rows])
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in rows])
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new, pad_token_id=tokenizer.pad_token_id, **how)
        for i, tokens in zip(rows, out[:, width:].tolist(), strict=True):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True)
    return answers
