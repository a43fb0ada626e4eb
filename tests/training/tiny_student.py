"""A random tiny Qwen2 with a real byte-level BPE tokenizer and chat template, and word problems to train it on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMES = ("Ann", "Bob", "Cem", "Dia", "Eli")
THINGS = ("cakes", "pens", "books", "coins")


def word_problem(rng: random.Random, steps: int) -> tuple[str, str, str]:
    """Question, worked solution, answer; longer with more steps."""
    name, thing, value = rng.choice(NAMES), rng.choice(THINGS), rng.randint(10, 60)
    question, work = [f"{name} has {value} {thing}."], []
    for _ in range(steps):
        n = rng.randint(2, 9)
        gain = rng.random() < 0.5
        question.append(f"{name} {'buys' if gain else 'sells'} {n} {thing}.")
        after = value + n if gain else value - n
        work.append(f"{value}{'+' if gain else '-'}{n}={after}.")
        value = after
    return (
        " ".join([*question, f"How many {thing} now?"]),
        " ".join([*work, f"\\boxed{{{value}}}"]),
        str(value),
    )


def rows(count: int, seed: int = 0, steps: tuple[int, int] = (1, 4)) -> list[dict[str, Any]]:
    """Rows with the columns of records.Example."""
    rng = random.Random(seed)
    out = []
    for idx in range(count):
        problem, solution, answer = word_problem(rng, rng.randint(*steps))
        out.append(
            {
                "id": f"{seed:02d}{idx:06d}",
                "idx": idx,
                "problem": problem,
                "teacher_solution": solution,
                "gt": answer,
                "iteration": 0,
                "attempt": 0,
                "style": "plain",
                "verdict": "correct",
                "completion_tokens": len(solution),
                "source": "test",
            }
        )
    return out


def write_parquet(path: Path, data: list[dict[str, Any]]) -> Path:
    """Writes rows as parquet, with the right columns also where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(data) if data else pa.Table.from_pylist(rows(1)).slice(0, 0)
    pq.write_table(table, path)
    return path


def make_tokenizer() -> Any:
    """A byte-level BPE trained on such problems; digits stay single."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(
        [f"{r['problem']}\n{r['teacher_solution']}\nuser assistant system" for r in rows(300, seed=9)],
        trainer,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_student(
    path: Path,
    *,
    hidden: int = 48,
    layers: int = 2,
    tied: bool = True,
    seed: int = 0,
    heads: int = 4,
    kv_heads: int = 2,
) -> Path:
    """Writes a model directory with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        use_sliding_window=False,
    )
    Qwen2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
