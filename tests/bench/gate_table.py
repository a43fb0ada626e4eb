"""The gate's threshold (undo_hpc/method/copying.py), measured on the tiny world; prints Markdown for docs/signals.md.

First: how many wrong results of the student the teacher prefers, by what stands before the answer. Then: of the contexts of wrong answers a
share is bad (the attempt itself stands where the rationale should), and the student learns from the scores: as always, half of it text; or
against the rules from nothing else, in three passes. What the gate measures stands beside what the training did.
Run: python -m tests.bench.gate_table [SEEDS]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from undo_hpc.config.load import load_config
from undo_hpc.config.schema import EngineConfig, ModelConfig
from undo_hpc.data.loading import load_problems
from undo_hpc.engines import Request, load_engine
from undo_hpc.engines.scoring import ScoreRequest, TokenScores
from undo_hpc.grading import grade
from undo_hpc.method.copying import Copying, tokens_within, wrong_result
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Attempt, Problem
from undo_hpc.training.divergence import FIGURES, Objective, Scored, scored_loss

PROBLEMS, TESTED, K, HALF, RATE = 600, 400, 16, 8, 5e-4
SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
PROMPTS = load_prompts("tiny")


@dataclass
class Answer:
    """A student's answer at temperature 1, the tokens of its first wrong result (where one can be pointed at), and the teacher's new
    rationale."""

    problem: Problem
    text: str
    ids: tuple[int, ...]
    right: bool
    wrong: tuple[int, ...] = ()
    rationale: str = ""

    def context(self, name: str) -> str:
        """What the teacher sees before it."""
        problem = self.problem.problem
        if name == "problem alone" or self.right:
            return PROMPTS.problem(problem)
        if name == "rationale":
            return PROMPTS.score(problem, self.rationale)
        if name == "attempt for a rationale":
            return PROMPTS.score(problem, self.text)
        return PROMPTS.refine(problem, self.rationale, self.text, "wrong")


def load(name: str) -> Any:
    """An engine of the tiny world."""
    return load_engine(EngineConfig(), ModelConfig(model=f"tiny:{name}", dtype="float32"))


def answers(teacher: Any, student: Any, problems: Sequence[Problem]) -> list[Answer]:
    """The student's answers; the teacher sees the wrong ones and writes again, as in `generate`."""
    asked = [Request(str(n), PROMPTS.student(p.problem), n, 1.0, 160) for n, p in enumerate(problems)]
    found = {}
    for done in student.generate(asked):
        problem = problems[int(done.id)]
        verdict = grade(done.text, problem.ground_truth).verdict
        answer = found[done.id] = Answer(problem, done.text, tuple(done.token_ids), verdict == "correct")
        row = Attempt(
            problem.problem_id,
            0,
            0,
            "student",
            done.text,
            verdict,
            "",
            "number",
            done.finish_reason,
            1,
            1,
            0,
            1.0,
        )
        if not answer.right and (place := wrong_result(row, problem.ground_truth, "")):
            pieces = [student._chat.tokenizer.decode([i], skip_special_tokens=True) for i in answer.ids]
            answer.wrong = tuple(tokens_within(pieces, *place))
    again = [
        Request(name, PROMPTS.refine(a.problem.problem, a.problem.solution, a.text, "wrong"), int(name), 0.7, 160)
        for name, a in found.items() if not a.right
    ]  # fmt: skip
    for done in teacher.generate(again):
        found[done.id].rationale = done.text
    return [found[str(n)] for n in range(len(problems)) if found[str(n)].ids]


def scores(teacher: Any, rows: Sequence[tuple[Answer, str]]) -> list[TokenScores]:
    """Of answers, each in its context."""
    asked = [ScoreRequest(str(n), answer.context(name), answer.ids) for n, (answer, name) in enumerate(rows)]
    found = {s.id: s for s in teacher.score(asked, K)}
    return [found[r.id] for r in asked]


def gate(answers: Sequence[Answer], after: Sequence[TokenScores], plain: Sequence[TokenScores]) -> Copying:
    """What `score` measures."""
    found = Copying()
    for answer, one, other in zip(answers, after, plain, strict=True):
        wrong = list(answer.wrong)
        if answer.right:
            found.add_right(float(one.own.mean()), float(other.own.mean()))
        elif wrong:
            found.add_wrong(*(float(s.own[wrong].astype(float).sum()) for s in (one, other)))
    return found


def learn(
    student: Any,
    own: Sequence[tuple[Answer, TokenScores]],
    texts: Sequence[tuple[str, tuple[int, ...]]],
    seed: int,
    passes: int,
) -> None:
    """Steps of eight answers and, where there are `texts`, as many of these; each kind is half of the loss then."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(student._model.parameters(), lr=RATE, betas=(0.9, 0.98))
    order = [row for n in range(passes) for row in random.Random(f"{seed}/{n}").sample(list(own), len(own))]
    for at in range(0, len(order) - HALF + 1, HALF):
        mine = order[at : at + HALF]
        text = random.Random(seed + at).sample(list(texts), HALF) if texts else []
        logits, targets = rows_of(
            student, [(PROMPTS.student(a.problem.problem), a.ids) for a, _ in mine] + text
        )
        names = ("log_p", "own", "tail")
        ids, *parts = (
            torch.cat([torch.from_numpy(getattr(s, name)) for _, s in mine]) for name in ("ids", *names)
        )
        n = len(ids)
        old, ones = torch.full((n,), -1e-3), torch.ones(n)  # a divergence does not ask for the old
        figures = torch.zeros(len(FIGURES), dtype=torch.float64)
        scored = Scored(
            ids.long(), *(part.float() for part in parts), old, ones, 0 * ones, Objective(beta=0.5), figures
        )
        loss = scored_loss(logits[:n], targets[:n], scored) / n
        if text:
            loss = (loss + torch.nn.functional.cross_entropy(logits[n:], targets[n:])) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student._model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - at / len(order))
        optimizer.step()


def rows_of(engine: Any, rows: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the answers of a padded batch, one row a token in the order of `rows`, and the tokens."""
    prompts = [engine._chat.encode(prompt) for prompt, _ in rows]
    width = max(len(p) + len(ids) for p, (_, ids) in zip(prompts, rows, strict=True))
    ids, keep = (
        torch.zeros(len(rows), width, dtype=torch.long),
        torch.zeros(len(rows), width, dtype=torch.bool),
    )
    for row, (prompt, (_, answer)) in enumerate(zip(prompts, rows, strict=True)):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        keep[row, len(prompt) - 1 : end - 1] = True
    return engine._model(input_ids=ids, use_cache=False).logits[keep], ids.roll(-1, 1)[keep]


def accuracy(student: Any, problems: Sequence[Problem]) -> float:
    """Greedy, in percent."""
    asked = [Request(str(n), PROMPTS.student(p.problem), 0, 0.0, 160) for n, p in enumerate(problems)]
    right = sum(
        grade(c.text, problems[int(c.id)].ground_truth).verdict == "correct" for c in student.generate(asked)
    )
    return 100 * right / len(problems)


def own_errors(student: Any, answers: Sequence[Answer]) -> float:
    """Mean log-probability of wrong results of the first student, that were not learned from."""
    wrong = [a for a in answers if a.wrong]
    asked = [ScoreRequest(str(n), PROMPTS.student(a.problem.problem), a.ids) for n, a in enumerate(wrong)]
    return sum(
        float(s.own[list(wrong[int(s.id)].wrong)].astype(float).sum()) for s in student.score(asked, 1)
    ) / len(wrong)


def tables(seeds: int) -> Iterator[str]:
    """Both tables, line by line."""
    torch.set_num_threads(1)
    sets = [f"data.train.sample={PROBLEMS}", "data.train.sample_seed=1"]
    problems = load_problems(load_config("tiny", sets).data.train).problems
    rest = [f"data.train.sample={PROBLEMS + TESTED}", "data.train.sample_seed=2"]
    known = {p.problem for p in problems}
    tested = [
        p for p in load_problems(load_config("tiny", rest).data.train).problems if p.problem not in known
    ][:TESTED]
    teacher, student = load("teacher"), load("student")
    learned, held_out = answers(teacher, student, problems), answers(teacher, student, tested)
    plain = scores(teacher, [(a, "problem alone") for a in learned])
    yield "| before the answer stands | wrong results preferred | change of a wrong result, nats |"
    yield "|---|---:|---:|"
    by_context = {}
    for name in ("problem alone", "rationale", "rationale and attempt", "attempt for a rationale"):
        by_context[name] = scores(teacher, [(a, name) for a in learned])
        found = gate(learned, by_context[name], plain)
        yield f"| {name} | {found.preferred} of {found.wrong} | {found.wrong_change / max(1, found.wrong):+.2f} |"
    yield ""
    yield "| bad contexts | the gate measures | half text: accuracy, % | own errors, nats | no text: accuracy, % | own errors, nats |"
    yield "|---:|---:|---:|---:|---:|---:|"
    untrained = f"{accuracy(student, tested):.1f} | {own_errors(student, held_out):.2f}"
    yield f"| before training | | {untrained} | {untrained} |"
    texts = [(PROMPTS.student(a.problem.problem), (*teacher._chat.tokenizer(f"{a.problem.solution} \\boxed{{{a.problem.ground_truth}}}",
              add_special_tokens=False)["input_ids"], sorted(student._chat.stop_ids)[0])) for a in learned]  # fmt: skip
    bad = random.Random(0).sample(range(len(learned)), len(learned))  # which are bad first
    for share in SHARES:
        names = ["attempt for a rationale" if rank < share * len(bad) else "rationale" for rank in bad]
        mixed = [by_context[name][n] for n, name in enumerate(names)]
        found, cells = gate(learned, mixed, plain), ""
        for beside, passes in ((texts, 1), ([], 3)):
            results = []
            for seed in range(seeds):
                pupil = load("student")
                learn(pupil, list(zip(learned, mixed, strict=True)), beside, seed, passes)
                results.append((accuracy(pupil, tested), own_errors(pupil, held_out)))
                pupil.close()
            right, errors = ([r[n] for r in results] for n in range(2))
            cells += f" {', '.join(f'{each:.1f}' for each in right)} | {sum(errors) / seeds:.2f} |"
        excess = (found.preferred - found.preferred_plain) / max(1, found.wrong)
        yield f"| {share:.0%} | {excess:+.1%} |{cells}"


if __name__ == "__main__":
    for line in tables(int(sys.argv[1]) if len(sys.argv) > 1 else 2):
        print(line, flush=True)
