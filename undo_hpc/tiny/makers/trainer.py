"""A small training loop for the shipped models: one thread, batches of like length, loss on the answers, and on the marks in the teacher's prompts."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from undo_hpc.tiny.makers.corpus import Pair
from undo_hpc.tiny.makers.tokenizer import ASSISTANT, END, USER

_MARKED_LAYER = 4  # the layer whose output predicts the marks; those above can use them
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
        emphasis: weight of the tokens `=` and `=(` in the loss: there a solution decides whether to spell a step out.
        mark_weight: weight of the marks' loss (see corpus.marks_of).
        prompt_weight: weight of the prompt's tokens from the first mark on: foretelling the attempt teaches to look up the
            rationale at the same place, which is half of comparing them.
    """

    steps: int
    batch_tokens: int
    peak: float = 3e-3
    matrix_peak: float = 0.01
    warmup: int = 100
    weight_decay: float = 0.01
    emphasis: float = 1.0
    mark_weight: float = 0.5
    prompt_weight: float = 0.2


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


@dataclass(frozen=True, slots=True)
class Encoded:
    """A pair in tokens: those from `start` on are the answer, `read` is the place of the first mark; `marks` are (place, label)."""

    ids: list[int]
    start: int
    read: int
    marks: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


def encode(tokenizer: Any, pair: Pair) -> Encoded:
    """The whole conversation, equal to what the chat template gives."""
    coded = tokenizer(
        f"{USER}{pair.prompt}{ASSISTANT}", add_special_tokens=False, return_offsets_mapping=bool(pair.marks)
    )
    prompt: list[int] = coded["input_ids"]
    answer: list[int] = tokenizer(pair.answer + END, add_special_tokens=False)["input_ids"]
    marks: list[tuple[int, int]] = []
    if pair.marks:
        labels = {len(USER) + character: label for character, label in pair.marks}
        marks = [
            (place, labels[begin])
            for place, (begin, _) in enumerate(coded["offset_mapping"])
            if begin in labels
        ]
    return Encoded(
        prompt + answer, len(prompt), min((place for place, _ in marks), default=len(prompt)), marks
    )


def _optimisers(model: Any, recipe: Recipe) -> list[Any]:
    import torch

    named = list(model.named_parameters())
    inner = [p for name, p in named if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in named if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=recipe.matrix_peak, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.peak, betas=(0.9, 0.98), weight_decay=recipe.weight_decay),
    ]


def _draw_batches(draw: Callable[[], Encoded], budget: int) -> list[list[Encoded]]:
    """A pool of examples, grouped by length into batches of at most `budget` padded tokens."""
    pool: list[Encoded] = []
    tokens = 0
    while tokens < budget * _POOL_BATCHES:
        pool.append(draw())
        tokens += len(pool[-1])
    pool.sort(key=len)
    batches: list[list[Encoded]] = [[]]
    for item in pool:
        if batches[-1] and len(item) * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(item)
    return batches


def train(
    model: Any,
    tokenizer: Any,
    draw: Callable[[random.Random, float], Pair],
    recipe: Recipe,
    seed: int,
    *,
    log_every: int = 500,
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

    marker = torch.nn.Linear(model.config.hidden_size, 3)  # for the marks; not kept
    optimisers.append(
        torch.optim.AdamW(marker.parameters(), lr=recipe.peak, betas=(0.9, 0.98), weight_decay=0.0)
    )
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimiser, rate) for optimiser in optimisers]
    token_weights = torch.ones(len(tokenizer))
    token_weights[tokenizer.convert_tokens_to_ids(["=", "=("])] = recipe.emphasis
    model.train()
    losses: list[float] = []
    marked: list[float] = []
    batches: list[list[Encoded]] = []
    started = time.process_time()
    for step in range(recipe.steps):
        if not batches:
            batches = _draw_batches(
                lambda: encode(tokenizer, draw(rng, step / recipe.steps)),  # noqa: B023
                recipe.batch_tokens,
            )
            rng.shuffle(batches)
        batch = batches.pop()
        width = max(map(len, batch))
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        weights = torch.zeros((len(batch), width))
        for row, item in enumerate(batch):  # padding stands behind: a causal model never looks at it
            ids[row, : len(item)] = torch.tensor(item.ids)
            weights[row, item.start : len(item)] = 1.0
            weights[row, item.read : item.start] = recipe.prompt_weight
        weights *= token_weights[ids]
        out = model.model(input_ids=ids, use_cache=False, output_hidden_states=True)
        learnt = weights[:, 1:] > 0
        logits = model.lm_head(out.last_hidden_state[:, :-1][learnt])
        shares = weights[:, 1:][learnt]
        loss = (cross_entropy(logits, ids[:, 1:][learnt], reduction="none") * shares).sum() / shares.sum()
        marks = [(row, place, label) for row, item in enumerate(batch) for place, label in item.marks]
        if marks:
            rows, places, labels = torch.tensor(marks).T
            mark_loss = cross_entropy(marker(out.hidden_states[_MARKED_LAYER][rows, places]), labels)
            marked.append(mark_loss.item())
            loss = loss + recipe.mark_weight * mark_loss
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, scheduler in zip(optimisers, schedulers, strict=True):
            optimiser.step()
            scheduler.step()
        losses.append(loss.item())
        if log_every and (step + 1) % log_every == 0:
            recent = sum(losses[-log_every:]) / log_every
            # comparing two texts is learnt last, if at all: the marks' loss tells (0.7 at first, 0.1 where learnt)
            told = f" marks {sum(marked) / len(marked):.4f}" if marked else ""
            marked.clear()
            print(
                f"  step {step + 1}/{recipe.steps} loss {recent:.4f}{told} cpu {time.process_time() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


def answer(
    model: Any,
    tokenizer: Any,
    prompts: list[str],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 64,
    max_new: int = 120,
) -> list[str]:
    """The model's answers to user prompts, in order; batched by length."""
    import torch

    torch.manual_seed(seed)
    model.eval()
    encoded = [
        tokenizer(f"{USER}{prompt}{ASSISTANT}", add_special_tokens=False)["input_ids"] for prompt in prompts
    ]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    answers = [""] * len(prompts)
    how: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        width = max(len(encoded[i]) for i in rows)
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(encoded[i])) + encoded[i] for i in rows])
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in rows])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new,
                pad_token_id=tokenizer.pad_token_id,
                **how,
            )
        for i, tokens in zip(rows, out[:, width:].tolist(), strict=True):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True)
    return answers
