"""What the tiny models can do, measured: `python -m undo_hpc.tiny.makers.report [--models DIR] [--problems N] [--seed N] [--json]`.

Teacher: accuracy and style on plain requests and on refinements; on refinements also how often the step that it newly spells out is
the one the student failed, against two guesses that never look at the attempt: a random step, and the first hard step. The attempts
are the base student's real ones, and simulated ones whose failing step is drawn evenly (there the hard step is no hint). Student:
accuracy of the base checkpoint on easy and hard problems. Problems are fresh: train pool for the teacher, test pool for the student.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError, UndoError
from undo_hpc.grading.extract import last_boxed
from undo_hpc.method.diagnosis import failed_step
from undo_hpc.method.stats import wilson
from undo_hpc.records import ShownExample
from undo_hpc.tiny import models_dir, world
from undo_hpc.tiny.makers import corpus
from undo_hpc.tiny.makers.trainer import answer
from undo_hpc.tiny.world import Chain


@dataclass(frozen=True, slots=True)
class Share:
    """A measured share with its 95 % interval (Wilson)."""

    what: str
    hits: int
    n: int

    @property
    def line(self) -> str:
        """One line of the report."""
        low, high = wilson(self.hits, self.n)
        return f"  {self.what:<64} {self.hits / max(1, self.n):6.1%}  [{low:5.1%}, {high:5.1%}]  n={self.n}"


@dataclass(frozen=True, slots=True)
class Case:
    """A refinement to be asked for: `failed` is the step that the attempt has wrong first."""

    chain: Chain
    rationale: str
    attempt: str
    failed: int


class Models:
    """The loaded pair; `ask` samples with the settings of the preset."""

    def __init__(self, folder: Path, temperature: float, seed: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        for name in ("teacher", "student"):
            if not (folder / name / "model.safetensors").is_file():
                raise DataError(
                    f"{folder / name} holds no model",
                    hint="python -m undo_hpc.tiny.makers.make_models --out DIR writes both",
                )
        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
        self.teacher = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=torch.float32)
        self.student = AutoModelForCausalLM.from_pretrained(folder / "student", dtype=torch.float32)
        self._temperature, self._seed = temperature, seed

    def ask(self, prompts: list[str]) -> list[str]:
        """The teacher's answers."""
        return answer(self.teacher, self.tokenizer, prompts, temperature=self._temperature, seed=self._seed)

    def examine(self, chains: Sequence[Chain], temperature: float = 0.0) -> list[str]:
        """The student's answers."""
        prompts = [corpus.prompts().student(chain.text) for chain in chains]
        return answer(self.student, self.tokenizer, prompts, temperature=temperature, seed=self._seed)

    def tokens(self, texts: Sequence[str]) -> float:
        """Mean number of tokens of the texts, the end token included."""
        return sum(len(self.tokenizer(text)["input_ids"]) + 1 for text in texts) / max(1, len(texts))


def right(chain: Chain, text: str) -> bool:
    """True where the boxed answer is the problem's."""
    return last_boxed(text) == str(chain.answer)


def spelled(text: str) -> frozenset[int]:
    """The indices of the steps that a solution spells out."""
    return frozenset(index for index, line in enumerate(world.read_solution(text)) if line.work is not None)


def _accuracy(what: str, chains: Sequence[Chain], texts: Sequence[str]) -> list[Share]:
    shares = []
    for name, wanted in (("all", None), ("easy", False), ("hard", True)):
        rows = [
            right(c, t)
            for c, t in zip(chains, texts, strict=True)
            if wanted is None or bool(c.hard) == wanted
        ]
        shares.append(Share(f"{what}, {name}", sum(rows), len(rows)))
    return shares


def _refinements(
    what: str, cases: Sequence[Case], texts: Sequence[str], *, guess: bool = True
) -> list[Share]:
    """Accuracy, style and localisation of refinements of the given cases; `guess` adds what the first hard step would have hit."""
    shares = [
        Share(f"{what}: right", sum(right(c.chain, t) for c, t in zip(cases, texts, strict=True)), len(cases))
    ]
    shares.append(Share(f"{what}: a step spelled out", sum(bool(spelled(t)) for t in texts), len(cases)))
    for steps in (2, 3):
        rows = [(c, t) for c, t in zip(cases, texts, strict=True) if len(c.chain.steps) == steps]
        found = sum(spelled(t) - spelled(c.rationale) == {c.failed} for c, t in rows)
        first_hard = sum(
            next((i for i, step in enumerate(c.chain.steps) if step.hard), 0) == c.failed for c, _ in rows
        )
        shares.append(
            Share(f"{what}: failed step found, {steps} steps (chance {1 / steps:.0%})", found, len(rows))
        )
        if guess:
            shares.append(
                Share(f"{what}: (guessing the first hard step, {steps} steps)", first_hard, len(rows))
            )
    return shares


def measure(models: Models, count: int, seed: int) -> tuple[list[Share], dict[str, float]]:
    """All shares, and the mean token lengths."""
    rng = random.Random(f"tiny-report:{seed}")
    chains = world.chains("train", count, 1_000_000 + seed)
    plain = models.ask([corpus.prompts().problem(chain.text) for chain in chains])
    shares = _accuracy("teacher, plain", chains, plain)
    shares.append(Share("teacher, plain: terse throughout", sum(not spelled(text) for text in plain), count))
    solved = [
        (chain, text)
        for chain, text in zip(chains, plain, strict=True)
        if right(chain, text) and not spelled(text)
    ]

    attempts = models.examine([chain for chain, _ in solved], temperature=0.3)
    real = [
        Case(chain, text, attempt, failed)
        for (chain, text), attempt in zip(solved, attempts, strict=True)
        if not right(chain, attempt) and (failed := world.failed_step(chain.steps, attempt)) is not None
    ]
    drawn = [(chain, text, rng.randrange(len(chain.steps))) for chain, text in solved]
    simulated = [Case(chain, text, corpus.wrong_attempt(rng, chain.steps, k), k) for chain, text, k in drawn]
    lengths = {"teacher, plain": models.tokens(plain)}
    for name, cases in (("real errors", real), ("simulated errors", simulated)):
        texts = models.ask(
            [corpus.prompts().refine(c.chain.text, c.rationale, c.attempt, "wrong") for c in cases]
        )
        shares += _refinements(f"teacher, {name}", cases, texts)
        lengths[f"teacher, {name}"] = models.tokens(texts)
    blind = models.ask([corpus.prompts().refine(c.chain.text, c.rationale, "", "wrong") for c in real])
    shares += _refinements("teacher, blind", real, blind, guess=False)
    by_steps: dict[int, list[Case]] = {}
    for case in real:
        by_steps.setdefault(len(case.chain.steps), []).append(case)
    foreign = {
        id(c): other.attempt
        for group in by_steps.values()
        for c, other in zip(group, [*group[1:], group[0]], strict=True)
    }
    shuffled = models.ask(
        [corpus.prompts().refine(c.chain.text, c.rationale, foreign[id(c)], "wrong") for c in real]
    )
    shares += _refinements("teacher, shuffled", real, shuffled, guess=False)

    pointed = models.ask(
        [
            corpus.prompts().refine(
                c.chain.text, c.rationale, c.attempt, "wrong", failed_step=failed_step(c.attempt, c.rationale)
            )
            for c in real
        ]
    )
    shares += _refinements("teacher, step shown (undo_hint)", real, pointed, guess=False)
    others = [ShownExample("", c.chain.text, "", c.attempt, "wrong", "0") for c in real[:2]]
    beside = models.ask(
        [
            corpus.prompts().refine(c.chain.text, c.rationale, c.attempt, "wrong", score="0", examples=others)
            for c in real[2:]
        ]
    )
    shares += _refinements("teacher, scores and others (undo_paper)", real[2:], beside, guess=False)

    test = world.chains("test", count, 2_000_000 + seed)
    answers = models.examine(test)
    shares += _accuracy("student, base checkpoint", test, answers)
    lengths["student, base checkpoint"] = models.tokens(answers)
    return shares, lengths


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m undo_hpc.tiny.makers.report", description="What the tiny teacher and student can do."
    )
    parser.add_argument("--models", type=Path, default=models_dir(), help="folder with teacher/ and student/")
    parser.add_argument("--problems", type=int, default=1000, help="problems asked")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems and of the sampling")
    parser.add_argument("--temperature", type=float, default=0.7, help="the teacher's temperature")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    args = parser.parse_args(argv)
    try:
        models = Models(args.models, args.temperature, args.seed)
    except UndoError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    shares, lengths = measure(models, args.problems, args.seed)
    sizes: dict[str, Any] = {
        "teacher": models.teacher.num_parameters(),
        "student": models.student.num_parameters(),
    }
    if args.json:
        print(
            json.dumps(
                {"shares": [asdict(share) for share in shares], "mean_tokens": lengths, "parameters": sizes}
            )
        )
        return 0
    print(f"parameters: teacher {sizes['teacher']:,}, student {sizes['student']:,}")
    for share in shares:
        print(share.line)
    print("mean tokens of an answer: " + ", ".join(f"{name} {value:.1f}" for name, value in lengths.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
