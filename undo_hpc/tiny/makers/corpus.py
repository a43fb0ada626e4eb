"""The texts that the tiny models are trained on: (prompt, answer) pairs. Pure Python, seeded by the caller's generator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from undo_hpc.method.diagnosis import failed_step as found_step
from undo_hpc.prompts import PromptSet, load_prompts
from undo_hpc.records import ShownExample
from undo_hpc.tiny.world import (
    LOWEST,
    OPERANDS,
    SPLITS,
    STARTS,
    Chain,
    Pool,
    Step,
    draw_chain,
    draw_step,
    failed_step,
    holds_test_pair,
    write_solution,
)

VERDICTS = ("wrong", "wrong", "wrong", "wrong", "wrong", "wrong", "no_answer", "unparsed")


@dataclass(frozen=True, slots=True)
class Pair:
    """What is asked and what is to be answered.

    `marks` are places in the prompt with a label each, which training alone uses: see `marks_of`.
    """

    prompt: str
    answer: str
    marks: tuple[tuple[int, int], ...] = ()


@cache
def prompts() -> PromptSet:
    """The templates that the models are trained on: the prompt set `tiny`."""
    return load_prompts("tiny")


def marks_of(prompt: str, steps: Sequence[Step], attempt: str) -> tuple[tuple[int, int], ...]:
    """Where the attempt in a prompt departs from the truth, as (character, label).

    Each digit of a result: 0 as it should be, 1 not. The end of each line: 0 right so far, 1 the first wrong line, 2 a later one.
    To find the failed step, a model has to compare two texts far apart; learnt from the answers alone, one bit a text, that takes
    more training than the rest together. Labels on the attempt itself teach it directly.
    """
    begin = prompt.rindex(attempt)
    failing = failed_step(steps, attempt)
    marks: list[tuple[int, int]] = []
    place = begin
    for index, line in enumerate(attempt.split("\n")):
        if index < len(steps) and "=" in line:
            true, written = str(steps[index].result), line.rsplit(")", 1)[-1].rsplit("=", 1)[-1]
            start = place + len(line) - len(written)
            marks += [(start + i, int(true[i : i + 1] != digit)) for i, digit in enumerate(written)]
            marks.append(
                (place + len(line), 0 if failing is None or index < failing else 1 if index == failing else 2)
            )
        place += len(line) + 1
    return tuple(mark for mark in marks if mark[0] < len(prompt))


# ---- what a pupil gets wrong -----------------------------------------------------------------------------------------


def slip(rng: random.Random, right: int) -> int:
    """A wrong result near the right one: a digit off, a carry forgotten, a tens slip."""
    digits = list(str(right))
    while True:
        kind = rng.random()
        if kind < 0.5:
            place = rng.randrange(len(digits))
            wrong = int("".join([*digits[:place], str(rng.randrange(10)), *digits[place + 1 :]]))
        elif kind < 0.75:
            wrong = right + rng.choice((-10, 10, -20, 20))
        else:
            wrong = right + rng.choice((-2, -1, 1, 2))
        if wrong != right and wrong > 0:
            return wrong


def _line(rng: random.Random, step: Step, result: int, detailed: bool) -> str:
    if not detailed:
        return f"{step.a}{step.op}{step.b}={result}"
    head, tail = step.detailed().rsplit(")", 1)
    if int(tail) != result and rng.random() < 0.5:  # the slip shows in the digit work too
        work, last = head.rsplit("=", 1)
        head = f"{work}={slip(rng, int(last) or 1)}"
    return f"{head}){result}"


def wrong_attempt(
    rng: random.Random, steps: Sequence[Step], failing: int, detailed: frozenset[int] = frozenset()
) -> str:
    """An attempt whose first wrong step is `failing`; what follows goes on from the wrong value.

    It keeps clear of the test pool's operand pairs, which a wrong value could lead to, unless the problem itself has them.
    """
    of_test = any(step.pool == "test" for step in steps)
    while holds_test_pair(text := _wrong_attempt(rng, steps, failing, detailed)) and not of_test:
        pass
    return text


def _wrong_attempt(rng: random.Random, steps: Sequence[Step], failing: int, detailed: frozenset[int]) -> str:
    lines: list[str] = []
    value = steps[0].a
    for index, step in enumerate(steps):
        now = Step(value, step.op, step.b)
        if index == failing:
            kind = rng.random()
            if kind < 0.12:  # misread operand
                now = Step(value, step.op, rng.choice([b for b in range(2, 60) if b != step.b]))
            elif kind < 0.20:  # wrong operation
                now = Step(value, rng.choice([op for op in OPERANDS if op != step.op]), step.b)
            elif kind < 0.24:  # stops here
                return "\n".join([*lines, f"\\boxed{{{value}}}"])
            elif kind < 0.30 and index:  # copies the value wrongly
                now = Step(slip(rng, value), step.op, step.b)
            result = abs(now.result) if kind < 0.30 and now != step else slip(rng, step.result)
        else:
            result = abs(now.result)
            if index > failing and rng.random() < 0.2:
                result = slip(rng, result or 1)
        spelled = index in detailed and now.result >= 0
        lines.append(_line(rng, now, result, spelled))
        value = result
    return "\n".join([*lines, f"\\boxed{{{value}}}"])


def some_steps(rng: random.Random, count: int, none: float) -> frozenset[int]:
    """A random set of step indices; empty with probability `none`."""
    return frozenset() if rng.random() < none else frozenset(i for i in range(count) if rng.random() < 0.5)


# ---- corpora ---------------------------------------------------------------------------------------------------------


def bare_step(rng: random.Random, pools: frozenset[Pool], hard: bool) -> Step:
    """One equation as chains have them, hard or easy as asked."""
    while True:
        step = draw_step(rng, rng.choice(STARTS) if rng.random() < 0.5 else rng.randrange(LOWEST, 900), pools)
        if step is not None and step.hard == hard:
            return step


def bare_pair(step: Step, detailed: bool) -> Pair:
    """An equation without a story, terse or spelled out."""
    request = f"{step.a}{step.op}{step.b}"
    return Pair(
        f"Spell out {request}" if detailed else request, write_solution([step], [0] if detailed else [])
    )


def easy_chain(rng: random.Random, pools: frozenset[Pool]) -> Chain:
    """A story without a hard step."""
    while (chain := draw_chain(rng, pools)).hard:
        pass
    return chain


def base_pair(rng: random.Random) -> Pair:
    """The base student's corpus: easy stories and easy equations solved tersely, and equations spelled out, easy and hard in
    balance. So it reads stories and has met the digit work, but no story has shown it when to use that."""
    pools = SPLITS["base"]
    kind = rng.random()
    if kind < 0.25:
        return bare_pair(bare_step(rng, pools, hard=False), detailed=False)
    if kind < 0.55:
        return bare_pair(bare_step(rng, pools, hard=rng.random() < 0.5), detailed=True)
    chain = easy_chain(rng, pools)
    return Pair(prompts().student(chain.text), write_solution(chain.steps))


def plain_pair(chain: Chain) -> Pair:
    """The teacher asked for a rationale: terse."""
    return Pair(prompts().problem(chain.text), write_solution(chain.steps))


def shown_example(rng: random.Random, chain: Chain, *, rationale: bool) -> ShownExample:
    """A problem with an attempt at it, right or wrong, as the teacher is shown others, or the past of the same one."""
    count, spelled = len(chain.steps), some_steps(rng, len(chain.steps), none=0.6)
    right = rng.random() < 0.4
    attempt = (
        write_solution(chain.steps, spelled)
        if right
        else wrong_attempt(rng, chain.steps, rng.randrange(count), spelled)
    )
    known = write_solution(chain.steps, some_steps(rng, count, none=0.6)) if rationale else ""
    return ShownExample("", chain.text, known, attempt, "correct" if right else "wrong", str(int(right)))


def _shown_beside(
    rng: random.Random, chain: Chain, rationale: str, attempt: str, verdict: str
) -> dict[str, Any]:
    """What else the presets `undo_hint` and `undo_paper` show of an attempt, for `PromptSet.refine`."""
    if verdict != "correct" and rng.random() < 0.5:
        return {"failed_step": found_step(attempt, rationale)}
    others = [draw_chain(rng, SPLITS["teacher"]) for _ in range(2 if rng.random() < 0.75 else 0)]
    past = [shown_example(rng, chain, rationale=True)] if rng.random() < 0.3 else []
    return {
        "score": str(int(verdict == "correct")),
        "examples": [shown_example(rng, other, rationale=rng.random() < 0.2) for other in others],
        "history": past,
    }


def refine_pair(
    rng: random.Random,
    chain: Chain,
    attempts: Sequence[str] = (),
    *,
    more: bool = False,
    located: float = 1.0,
) -> Pair:
    """The teacher shown an attempt: what was spelled out stays so, and the step that failed is spelled out too.

    Without an attempt, or with one of another problem, a random step is spelled out; after a right attempt none.
    `attempts`: real wrong attempts at this problem, used instead of simulated ones where given. `more`: the attempt is at this
    problem, and beside it stand the failed step, or scores and other problems. `located`: share of attempts whose failed step is the
    one that is spelled out; of the others it is a random one.
    """
    count = len(chain.steps)
    before = some_steps(rng, count, none=0.6)
    written = some_steps(rng, count, none=0.55)
    rationale = write_solution(chain.steps, before)
    kind, verdict = rng.random(), rng.choice(VERDICTS)
    if more:
        kind = 0.0 if kind < 0.76 else 1.0
    if kind < 0.76:
        attempt = (
            rng.choice(attempts)
            if attempts
            else wrong_attempt(rng, chain.steps, rng.randrange(count), written)
        )
        failing = failed_step(chain.steps, attempt)
        if located < 1 and rng.random() >= located:
            failing = rng.randrange(count)
    elif kind < 0.85:
        attempt, failing = "", rng.randrange(count)
    elif kind < 0.94:
        other = draw_chain(rng, SPLITS["teacher"], count)
        attempt, failing = (
            wrong_attempt(rng, other.steps, rng.randrange(count), written),
            rng.randrange(count),
        )
    else:
        attempt, failing, verdict = write_solution(chain.steps, written), None, "correct"
    spelled = before | ({failing} if failing is not None else set())
    if (fault := rng.random()) < 0.03:
        rationale = ""
        spelled = frozenset({failing} if failing is not None else set())
    elif fault < 0.07:
        rationale = wrong_attempt(rng, chain.steps, rng.randrange(count), before)
    story = (
        chain.text if rng.random() < 0.5 else ""
    )  # the two texts alone: shorter, and the comparison is the same
    if not rationale:
        story = chain.text
    beside = _shown_beside(rng, chain, rationale, attempt, verdict) if more else {}
    prompt = prompts().refine(story, rationale, attempt, verdict, **beside)
    return Pair(
        prompt,
        write_solution(chain.steps, spelled),
        marks_of(prompt, chain.steps, attempt) if kind < 0.76 else (),
    )
