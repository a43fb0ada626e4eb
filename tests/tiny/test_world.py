"""The generator: right, repeatable, and without a test equation in any text that a model is trained on."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from undo_hpc.errors import DataError
from undo_hpc.tiny import world
from undo_hpc.tiny.makers import corpus
from undo_hpc.tiny.world import Step


def operand_pairs(text: str) -> set[tuple[str, int, int]]:
    """The operand pairs of all steps that a text writes out, + and * either way round."""
    found = set()
    for line in world.read_solution(text):
        a, b = (line.a, line.b) if line.op == "-" else (max(line.a, line.b), min(line.a, line.b))
        found.add((line.op, a, b))
    return found


def test_same_arguments_same_problems_and_other_seeds_other_problems() -> None:
    assert world.problems("train", 200, 5) == world.problems("train", 200, 5)
    assert world.problems("train", 200, 5)[:50] == world.problems("train", 50, 5)
    assert world.problems("train", 200, 5) != world.problems("train", 200, 6)


def test_problems_are_distinct_and_of_all_kinds() -> None:
    rows = world.problems("test", 1000, 0)
    assert len({row["problem"] for row in rows}) == 1000
    assert {row["steps"] for row in rows} == {1, 2, 3}
    hard = sum(row["hard"] > 0 for row in rows)
    assert 350 < hard < 650


def test_hard_equations_come_evenly() -> None:
    """Rows held out of the train split must not share their hard equations with the rest, or recall passes for skill."""
    chains = world.chains("train", 700, 0)
    uses = Counter(step for chain in chains for step in chain.steps if step.hard)
    assert sum(count == 1 for count in uses.values()) >= 0.95 * len(uses)
    assert (
        max(Counter(step for c in world.chains("test", 700, 0) for step in c.steps if step.hard).values())
        <= 4
    )


def test_answers_follow_from_the_text() -> None:
    """An independent reading of the story gives the answer that the row states."""
    signs = {
        "+": ("buys", "finds", "brings", "arrive"),
        "-": ("sells", "loses", "takes", "away"),
        "*": ("times",),
    }
    for row in world.problems("train", 500, 3):
        opening, *told, question, end = row["problem"].replace("?", ".").split(".")
        assert end == "" and question.strip().startswith(("How many", "What is"))
        value = next(int(word) for word in opening.split() if word.isdigit())
        for sentence in told:
            words = sentence.split()
            number = next(int(word) for word in words if word.isdigit())
            (op,) = [op for op, verbs in signs.items() if set(verbs) & set(words)]
            value = {"+": value + number, "-": value - number, "*": value * number}[op]
            assert world.LOWEST <= value <= world.HIGHEST
        assert str(value) == row["answer"]
        assert row["solution"].endswith(f"\\boxed{{{value}}}")


def test_digit_work_is_right_and_never_looks_like_a_step() -> None:
    for a in [*range(10, 220), *range(220, 1000, 7)]:
        for op, operands in world.OPERANDS.items():
            for b in operands:
                step = Step(a, op, b)
                if not world.LOWEST <= step.result <= world.HIGHEST:
                    continue
                for equation in world.digit_work(step):
                    left, result = equation.split("=")
                    assert eval(left) == int(result)
                    numbers = [
                        int(n) for n in left.replace("+", " ").replace("-", " ").replace("*", " ").split()
                    ]
                    assert min(numbers) < 10 and (max(numbers) < 10 or int(result) < 10)
                (line,) = world.read_solution(step.detailed())
                assert (line.a, line.op, line.b, line.result) == (a, op, b, step.result) and line.work


def test_spelling_out_a_multiplication() -> None:
    assert Step(47, "*", 8).detailed() == "47*8=(7*8=56,4*8+5=37)376"
    assert Step(95, "+", 38).detailed() == "95+38=(5+8=13,9+3+1=13)133"
    assert Step(152, "-", 58).detailed() == "152-58=(12-8=4,15-5-1=9,1-1=0)94"
    assert Step(47, "*", 8).hard and not Step(41, "*", 8).hard and not Step(47, "+", 8).hard


def test_no_test_equation_stands_in_a_training_text() -> None:
    test = {pair for row in world.problems("test", 1200, 0) for pair in operand_pairs(row["solution"])}
    test |= {pair for row in world.problems("test", 1200, 9) for pair in operand_pairs(row["solution"])}
    train = {pair for row in world.problems("train", 1500, 1) for pair in operand_pairs(row["solution"])}
    rng = random.Random(0)
    base, teacher = set(), set()
    for _ in range(2000):
        base |= operand_pairs(corpus.base_pair(rng).answer)
        chain = world.draw_chain(rng, world.SPLITS["teacher"])
        refined = corpus.refine_pair(rng, chain)  # its prompt holds attempts, right and wrong
        teacher |= (
            operand_pairs(corpus.plain_pair(chain).answer)
            | operand_pairs(refined.answer)
            | operand_pairs(refined.prompt)
        )
    assert len(test) > 500
    assert not test & train and not test & base and not test & teacher
    assert not train & base
    assert train & teacher


def test_a_wrong_attempt_fails_where_it_should() -> None:
    rng = random.Random(1)
    for _ in range(1000):
        chain = world.draw_chain(rng, world.SPLITS["teacher"])
        failing = rng.randrange(len(chain.steps))
        attempt = corpus.wrong_attempt(
            rng, chain.steps, failing, corpus.some_steps(rng, len(chain.steps), 0.5)
        )
        assert world.failed_step(chain.steps, attempt) == failing, attempt
        assert world.failed_step(chain.steps, world.write_solution(chain.steps, {failing})) is None
    assert world.failed_step(chain.steps, "") == 0


def test_unknown_split_and_too_many_problems_are_refused() -> None:
    with pytest.raises(DataError, match="no split 'dev'"):
        world.problems("dev", 1, 0)
    with pytest.raises(DataError, match="100000 at most"):
        world.problems("train", 10**9, 0)


def test_the_generator_imports_no_torch() -> None:
    code = "import sys, undo_hpc.tiny.world; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
