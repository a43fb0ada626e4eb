"""The shipped models: complete directories that load in float32, speak the chat template and do what they were trained for.

The bounds are wide on purpose: they catch broken weights or templates, not a percent more or less.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.prompts import load_prompts
from undo_hpc.tiny import models_dir, world
from undo_hpc.tiny.makers import corpus
from undo_hpc.tiny.makers.report import right, spelled
from undo_hpc.tiny.makers.tokenizer import check_round_trip
from undo_hpc.tiny.makers.trainer import answer

PROBLEMS = 80


@dataclass(frozen=True)
class Loaded:
    tokenizer: Any
    model: Any

    def ask(self, prompts: list[str]) -> list[str]:
        return answer(self.model, self.tokenizer, prompts)


def load(name: str) -> Loaded:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models_dir() / name
    return Loaded(AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder))


@pytest.fixture(scope="session")
def teacher() -> Loaded:
    return load("teacher")


@pytest.fixture(scope="session")
def student() -> Loaded:
    return load("student")


@pytest.fixture(scope="session")
def problems() -> list[world.Chain]:
    return world.chains("train", PROBLEMS, 4711, steps=2)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_directories_are_complete_and_small(name: str) -> None:
    folder = models_dir() / name
    files = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    } <= files
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir()), (
        "readable for all who install the package"
    )


def test_sizes_and_precision(teacher: Loaded, student: Loaded) -> None:
    import torch

    assert 70_000 <= student.model.num_parameters() <= 170_000
    for loaded in (teacher, student):
        assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
        assert loaded.model.config.model_type == "qwen2"
        assert loaded.model.config.hidden_size // loaded.model.config.num_attention_heads == 32


def test_both_share_one_tokenizer_and_it_loses_nothing(teacher: Loaded, student: Loaded) -> None:
    assert type(teacher.tokenizer).__name__ == "Qwen2Tokenizer"
    assert teacher.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    texts = [row["problem"] + "\n" + row["solution"] for row in world.problems("test", 50, 1)]
    texts += [
        "Größe: 3 × 4 ≠ 7\t(日本語) 🙂",
        "a  b\n\n\nc \\boxed{\\frac{1}{2}}",
        "<<48/2=24>>24 clips. #### 72",
    ]
    check_round_trip(teacher.tokenizer, texts)
    assert len(teacher.tokenizer("4711", add_special_tokens=False)["input_ids"]) == 4


def test_the_answer_is_a_suffix_that_ends_with_the_end_token(student: Loaded) -> None:
    tokenizer = student.tokenizer
    question = {"role": "user", "content": "Ann has 47 cakes. How many cakes now?"}
    reply = {"role": "assistant", "content": "47*8=376\n\\boxed{376}"}
    prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([question, reply], return_dict=False)
    assert whole[: len(prompt)] == prompt
    assert whole[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer.decode(whole[len(prompt) : -1]) == reply["content"]
    with_system = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be kind."}, question], tokenize=False
    )
    assert with_system.startswith("<|system|>Be kind.<|user|>Ann")


def test_the_teacher_is_mostly_right_and_terse_on_plain_requests(
    teacher: Loaded, problems: list[world.Chain]
) -> None:
    texts = teacher.ask([load_prompts("tiny").problem(chain.text) for chain in problems])
    assert sum(right(c, t) for c, t in zip(problems, texts, strict=True)) >= 0.85 * PROBLEMS
    assert sum(not spelled(text) for text in texts) >= 0.95 * PROBLEMS


def test_the_teacher_spells_out_the_step_that_failed(teacher: Loaded, problems: list[world.Chain]) -> None:
    """The failing step is drawn evenly, so half would be found by chance."""
    rng = random.Random(5)
    failing = [rng.randrange(2) for _ in problems]
    prompts = [
        load_prompts("tiny").refine(
            c.text, world.write_solution(c.steps), corpus.wrong_attempt(rng, c.steps, k), "wrong"
        )
        for c, k in zip(problems, failing, strict=True)
    ]
    texts = teacher.ask(prompts)
    assert sum(right(c, t) for c, t in zip(problems, texts, strict=True)) >= 0.80 * PROBLEMS
    assert sum(bool(spelled(text)) for text in texts) >= 0.85 * PROBLEMS
    assert sum(spelled(t) == {k} for t, k in zip(texts, failing, strict=True)) >= 0.85 * PROBLEMS


def test_the_blind_teacher_still_rewrites(teacher: Loaded, problems: list[world.Chain]) -> None:
    texts = teacher.ask(
        [load_prompts("tiny").refine(c.text, world.write_solution(c.steps), "", "wrong") for c in problems]
    )
    assert sum(right(c, t) for c, t in zip(problems, texts, strict=True)) >= 0.80 * PROBLEMS


def test_the_student_reads_easy_problems_and_fails_hard_ones(student: Loaded) -> None:
    chains = world.chains("test", 2 * PROBLEMS, 4712)
    texts = student.ask([load_prompts("tiny").student(chain.text) for chain in chains])
    marks = [(bool(c.hard), right(c, t)) for c, t in zip(chains, texts, strict=True)]
    easy, hard = ([ok for is_hard, ok in marks if is_hard is kind] for kind in (False, True))
    assert sum(easy) / len(easy) >= 0.5
    assert sum(hard) / len(hard) <= 0.4


def test_models_dir_is_inside_the_package() -> None:
    assert models_dir().parent == Path(world.__file__).parent
