"""Trains the shipped models again: `python -m undo_hpc.tiny.makers.make_models [--out DIR] [--seed N] [--smoke]`.

One thread, on CPU: the same versions on the same kind of processor give the same weights. The base student comes first, since its
real mistakes are part of the teacher's corpus. Weights are stored as float16 and loaded as float32 (the config says so).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from undo_hpc.tiny import world
from undo_hpc.tiny.makers import corpus
from undo_hpc.tiny.makers.corpus import Pair
from undo_hpc.tiny.makers.tokenizer import check_round_trip, train_tokenizer
from undo_hpc.tiny.makers.trainer import Recipe, Shape, answer, encode, new_model, train

MERGES = 230
STUDENT_SHAPE = Shape(hidden=64, layers=3, intermediate=128, kv_heads=2)
STUDENT_RECIPE = Recipe(steps=4500, batch_tokens=1000)
TEACHER_SHAPE = Shape(hidden=96, layers=5, intermediate=192, kv_heads=3)
TEACHER_RECIPE = Recipe(steps=9000, batch_tokens=1200, emphasis=5.0)
# `teacher-hints`: the teacher trained a little more, with scores, other problems and hints beside the attempts. Comparing texts has to
# be learnt before; plain requests suffer a little.
FURTHER_RECIPE = Recipe(steps=1500, batch_tokens=1200, peak=1e-3, matrix_peak=3e-3, emphasis=5.0)
SHOWN_MORE = 0.15  # of the corpus there
FURTHER_STUDENTS = (1, 2)  # base students by the same recipe with other seeds: `student-1`, `student-2`
ATTEMPT_PROBLEMS = 2400  # problems that the base student answers for the teacher's corpus


def tokenizer_texts(seed: int) -> Iterator[str]:
    """The texts that the merges are learnt from: both corpora, with simulated attempts."""
    rng = random.Random(f"tiny-tokenizer:{seed}")
    for _ in range(6000):
        for pair in (
            corpus.base_pair(rng),
            corpus.refine_pair(rng, world.draw_chain(rng, world.SPLITS["teacher"])),
        ):
            yield f"{pair.prompt}\n{pair.answer}"


def real_attempts(student: Any, tokenizer: Any, count: int, seed: int) -> list[tuple[world.Chain, list[str]]]:
    """Problems of the teacher's pools with the base student's own wrong answers, sampled twice; none with an operand pair of the test pool."""
    chains = world.chains("teacher", count, seed)
    prompts = [corpus.prompts().student(chain.text) for chain in chains]
    rounds = [answer(student, tokenizer, prompts, temperature=t, seed=seed) for t in (0.3, 0.8)]
    found = []
    for chain, *texts in zip(chains, *rounds, strict=True):
        wrong = [
            t
            for t in texts
            if world.failed_step(chain.steps, t) is not None and not world.holds_test_pair(t) and len(t) < 300
        ]
        if wrong:
            found.append((chain, wrong))
    return found


def teacher_pair(
    rng: random.Random, attempts: list[tuple[world.Chain, list[str]]], more: float = 0.0, located: float = 1.0
) -> Pair:
    """A draw of the teacher's corpus: bare equations, plain requests, refinements; a third of these of real attempts.

    `more`: share of refinements with more beside the attempt, in addition; half of them of real attempts. `located`: see `refine_pair`.
    """
    pools = world.SPLITS["teacher"]
    if more and rng.random() < more:
        real = bool(attempts) and rng.random() < 0.5
        chain, wrong = rng.choice(attempts) if real else (world.draw_chain(rng, pools), [])
        return corpus.refine_pair(rng, chain, wrong, more=True, located=located)
    kind = rng.random()
    if kind < 0.62:  # many, but short: a third of the tokens
        return corpus.bare_pair(corpus.bare_step(rng, pools, hard=rng.random() < 0.5), detailed=False)
    if kind < 0.66:
        return corpus.bare_pair(corpus.bare_step(rng, pools, hard=rng.random() < 0.5), detailed=True)
    if kind < 0.86:
        return corpus.plain_pair(world.draw_chain(rng, pools))
    if attempts and kind < 0.91:
        chain, wrong = rng.choice(attempts)
        return corpus.refine_pair(rng, chain, wrong, located=located)
    return corpus.refine_pair(rng, world.draw_chain(rng, pools), located=located)


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Writes a complete Hugging Face directory: float16 weights, a config that loads them as float32. The model in memory is spent:
    its position frequencies are rounded too, which loading the directory does not do."""
    import torch
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "model.safetensors").chmod(0o644)  # save_pretrained makes it private


def make(out: Path, seed: int, smoke: bool = False) -> None:
    """Trains and writes `out/student` and `out/teacher`; `smoke` takes a few steps only."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = train_tokenizer(tokenizer_texts(seed), MERGES)
    rng = random.Random(f"tiny-check:{seed}")
    samples = [corpus.base_pair(rng) for _ in range(200)]
    check_round_trip(tokenizer, [part for pair in samples for part in (pair.prompt, pair.answer)])
    for pair in samples[:20]:  # what is trained on is exactly what the chat template makes
        talk = [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.answer}]
        if tokenizer.apply_chat_template(talk, return_dict=False) != encode(tokenizer, pair).ids:
            raise AssertionError("the training text differs from the chat template's")

    def short(recipe: Recipe) -> Recipe:
        return Recipe(steps=6, batch_tokens=300) if smoke else recipe

    started = time.process_time()

    def say(text: str) -> None:
        print(f"[{time.process_time() - started:6.0f} CPU-s] {text}", file=sys.stderr, flush=True)

    for number in (0, *FURTHER_STUDENTS):
        say(f"student {number}")
        make_student(tokenizer, out, seed, number, short(STUDENT_RECIPE))
    shipped = AutoModelForCausalLM.from_pretrained(
        out / "student", dtype=torch.float32
    )  # the errors of the student that others load
    attempts = real_attempts(shipped, tokenizer, 20 if smoke else ATTEMPT_PROBLEMS, seed)
    teacher = new_model(TEACHER_SHAPE, tokenizer, seed + 1)
    say(
        f"teacher: {teacher.num_parameters():,} parameters; {len(attempts)} problems with real wrong attempts"
    )
    train(teacher, tokenizer, lambda rng, _: teacher_pair(rng, attempts), short(TEACHER_RECIPE), seed + 1)
    save(teacher, tokenizer, out / "teacher")
    teacher = AutoModelForCausalLM.from_pretrained(out / "teacher", dtype=torch.float32)
    train(
        teacher,
        tokenizer,
        lambda rng, _: teacher_pair(rng, attempts, SHOWN_MORE),
        short(FURTHER_RECIPE),
        seed + 2,
    )
    save(teacher, tokenizer, out / "teacher-hints")
    say(f"written to {out}")


def make_student(tokenizer: Any, out: Path, seed: int, number: int, recipe: Recipe) -> Path:
    """Trains a base student, the first or one with another seed; returns its folder."""
    own_seed = seed + 1000 + number if number else seed
    student = new_model(STUDENT_SHAPE, tokenizer, own_seed)
    train(student, tokenizer, lambda rng, _: corpus.base_pair(rng), recipe, own_seed)
    folder = out / (f"student-{number}" if number else "student")
    save(student, tokenizer, folder)
    return folder


def make_students(out: Path, seed: int, steps: int) -> list[Path]:
    """The base students by the same recipe, trained for that many steps: with fewer they have more to learn."""
    import torch
    from transformers import AutoTokenizer

    from undo_hpc.tiny import models_dir

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = AutoTokenizer.from_pretrained(models_dir() / "student")
    recipe, folder = replace(STUDENT_RECIPE, steps=steps), out / f"steps-{steps}"
    return [make_student(tokenizer, folder, seed, number, recipe) for number in (0, *FURTHER_STUDENTS)]


def make_world(out: Path, seed: int, located: float, smoke: bool = False) -> Path:
    """Trains the shipped `teacher-hints` further, so that it spells out the failed step in that share of attempts only, else a random one.

    For campaigns over worlds: does the method pay where its teacher finds the failed step less often? Returns the model's folder.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undo_hpc.tiny import models_dir

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = AutoTokenizer.from_pretrained(models_dir() / "teacher-hints")
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(models_dir() / name, dtype=torch.float32)
        for name in ("student", "teacher-hints")
    )
    attempts = real_attempts(student, tokenizer, 20 if smoke else ATTEMPT_PROBLEMS, seed)
    recipe = Recipe(steps=6, batch_tokens=300) if smoke else FURTHER_RECIPE
    train(
        teacher, tokenizer, lambda rng, _: teacher_pair(rng, attempts, SHOWN_MORE, located), recipe, seed + 3
    )
    folder = out / f"teacher-located-{round(100 * located)}"
    save(teacher, tokenizer, folder)
    return folder


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    from undo_hpc.tiny import models_dir

    parser = argparse.ArgumentParser(
        prog="python -m undo_hpc.tiny.makers.make_models", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=models_dir(),
        help="folder for teacher/ and student/ (default: the shipped ones)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and corpora")
    parser.add_argument(
        "--located",
        type=float,
        metavar="SHARE",
        help="instead: teacher-hints trained further to find the failed step in this share of attempts, written to --out",
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps only, to try the machinery")
    parser.add_argument(
        "--student-steps",
        type=int,
        metavar="N",
        help="instead: base students trained for N steps, written to --out/steps-N",
    )
    args = parser.parse_args(argv)
    if args.student_steps:
        print(*make_students(args.out, args.seed, args.student_steps), sep="\n")
        return 0
    if args.located is not None:
        print(make_world(args.out, args.seed, args.located, args.smoke))
        return 0
    make(args.out, args.seed, args.smoke)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
