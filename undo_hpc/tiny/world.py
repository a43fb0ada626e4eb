"""Word problems of one to three steps, and the two styles of writing a solution. Pure Python, seeded.

A problem is a chain: a start value below 200, then steps that add, subtract or multiply by a small number.
A step is *hard* where it multiplies with a carry out of the units digit; everything else is easy. A solution writes one line a step:

    terse      47*8=376
    detailed   47*8=(7*8=56,4*8+5=37)376

Every operand pair (operation, a, b), written either way round for + and *, belongs to one of three pools by its hash. Test problems use
pairs of the test pool only, `train` those of the train pool, `base` those of the base pool, and `teacher` those of train and base; so no
equation of a test problem, with its operands, stands in any text that a model was trained on. The digit work inside a detailed step
never looks like a step: its operands have one digit, or its difference has.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

from undo_hpc.errors import DataError

Operation = Literal["+", "-", "*"]
Pool = Literal["test", "train", "base"]

LOWEST, HIGHEST = 10, 999  # every value of a chain
MULTIPLIED_UP_TO = 199  # larger values are not multiplied
STARTS = range(11, 200)
OPERANDS: dict[Operation, range] = {"+": range(2, 60), "-": range(2, 60), "*": range(2, 10)}
OPERATION_WEIGHTS: dict[Operation, float] = {"+": 0.28, "-": 0.28, "*": 0.44}
STEP_WEIGHTS = {1: 0.25, 2: 0.45, 3: 0.30}
SPLITS: dict[str, frozenset[Pool]] = {
    "test": frozenset({"test"}),
    "train": frozenset({"train"}),
    "base": frozenset({"base"}),
    "teacher": frozenset({"train", "base"}),
}

NAMES = ("Ann", "Ben", "Cem", "Dina", "Eve", "Finn", "Gita", "Hugo", "Iris", "Jan", "Kim", "Leo")
THINGS = ("apples", "books", "cakes", "cards", "coins", "eggs", "pens", "plums", "shells", "stamps")
OPENINGS = (
    "{name} has {a} {things}.",
    "{name} starts with {a} {things}.",
    "At first {name} owns {a} {things}.",
)
PHRASES: dict[Operation, tuple[str, ...]] = {
    "+": (
        "{name} buys {b} more.",
        "{name} finds {b} more.",
        "A friend brings another {b}.",
        "Then {b} more arrive.",
    ),
    "-": ("{name} sells {b}.", "{name} loses {b}.", "A friend takes {b}.", "Then {name} gives {b} away."),
    "*": (
        "Soon there are {b} times as many.",
        "{name} makes it {b} times as many.",
        "Then the number becomes {b} times as large.",
    ),
}
QUESTIONS = (
    "How many {things} now?",
    "How many {things} are there in the end?",
    "What is the number of {things} now?",
)


MOST_PROBLEMS = 100_000  # of a split, a minute's work: stories are without end, but their equations repeat
_DRAWS = 120  # other problems of the same kind that are looked at for one whose hard equations are less used


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain: `a op b = result`."""

    a: int
    op: Operation
    b: int

    @property
    def result(self) -> int:
        """The value after the step."""
        return {"+": self.a + self.b, "-": self.a - self.b, "*": self.a * self.b}[self.op]

    @property
    def hard(self) -> bool:
        """True where the step multiplies with a carry out of the units digit."""
        return self.op == "*" and (self.a % 10) * self.b >= 10

    @property
    def pool(self) -> Pool:
        """The pool that the operand pair belongs to."""
        return _pool(self.op, self.a, self.b)

    def terse(self) -> str:
        """The step as one equation."""
        return f"{self.a}{self.op}{self.b}={self.result}"

    def detailed(self) -> str:
        """The step with its digit work in brackets before the result."""
        return f"{self.a}{self.op}{self.b}=({','.join(digit_work(self))}){self.result}"


@dataclass(frozen=True, slots=True)
class Chain:
    """A problem: its text and its steps."""

    text: str
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        """The final value."""
        return self.steps[-1].result

    @property
    def hard(self) -> int:
        """The number of hard steps."""
        return sum(step.hard for step in self.steps)


@cache
def _pool(op: Operation, a: int, b: int) -> Pool:
    if op != "-" and a < b:
        a, b = b, a
    share = int.from_bytes(hashlib.sha256(f"{a}{op}{b}".encode()).digest()[:4], "big") / 2**32
    return "test" if share < 0.22 else "train" if share < 0.70 else "base"


@cache
def _operands(op: Operation, a: int, pools: frozenset[Pool]) -> tuple[int, ...]:
    if op == "*" and a > MULTIPLIED_UP_TO:
        return ()
    steps = (Step(a, op, b) for b in OPERANDS[op])
    return tuple(step.b for step in steps if step.pool in pools and LOWEST <= step.result <= HIGHEST)


def digit_work(step: Step) -> Iterator[str]:
    """The small equations, units first, that a careful pupil would write; a digit that nothing happens to is left out."""
    carry = 0
    b_digits = [step.b] if step.op == "*" else [int(d) for d in reversed(str(step.b))]
    for place, digit in enumerate(int(d) for d in reversed(str(step.a))):
        if step.op == "*":
            value = digit * step.b + carry
            yield f"{digit}*{step.b}" + (f"+{carry}" if carry else "") + f"={value}"
            carry = value // 10
            continue
        other = [b_digits[place]] if place < len(b_digits) else []
        rest = [carry] if carry else []
        if not other and not rest:
            continue
        taken = sum(other) + sum(rest)
        if step.op == "+":
            value, carry = digit + taken, (digit + taken) // 10
        else:
            carry = int(digit < taken)
            digit += 10 * carry
            value = digit - taken
        yield step.op.join(map(str, [digit, *other, *rest])) + f"={value}"


def draw_step(rng: random.Random, a: int, pools: frozenset[Pool]) -> Step | None:
    """A random step from value `a` whose operand pair is in `pools`; None where there is none."""
    choices = {op: _operands(op, a, pools) for op in OPERATION_WEIGHTS}
    possible = [op for op in OPERATION_WEIGHTS if choices[op]]
    if not possible:
        return None
    op = rng.choices(possible, [OPERATION_WEIGHTS[o] for o in possible])[0]
    return Step(a, op, rng.choice(choices[op]))


def draw_chain(rng: random.Random, pools: frozenset[Pool], steps: int | None = None) -> Chain:
    """A random problem whose every operand pair is in `pools`; `steps` fixes the number of steps."""
    wanted = steps or rng.choices(list(STEP_WEIGHTS), list(STEP_WEIGHTS.values()))[0]
    while True:
        chain: list[Step] = []
        value = rng.choice(STARTS)
        while len(chain) < wanted:
            step = draw_step(rng, value, pools)
            if step is None:
                break
            chain.append(step)
            value = step.result
        if len(chain) == wanted:
            return Chain(_tell(rng, chain), tuple(chain))


def _tell(rng: random.Random, steps: list[Step]) -> str:
    words = {"name": rng.choice(NAMES), "things": rng.choice(THINGS)}
    parts = [rng.choice(OPENINGS).format(a=steps[0].a, **words)]
    parts += [rng.choice(PHRASES[step.op]).format(b=step.b, **words) for step in steps]
    return " ".join([*parts, rng.choice(QUESTIONS).format(**words)])


def write_solution(steps: Collection[Step], detailed: Collection[int] = ()) -> str:
    """A solution of the steps, those whose index is in `detailed` spelled out, with the answer boxed."""
    lines = [step.detailed() if index in detailed else step.terse() for index, step in enumerate(steps)]
    return "\n".join([*lines, f"\\boxed{{{[*steps][-1].result}}}"])


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """A line of a solution as somebody wrote it: the result need not be right. `work` is None where terse."""

    a: int
    op: Operation
    b: int
    work: str | None
    result: int


_LINE = re.compile(r"(\d{1,6})([-+*])(\d{1,6})=(?:\(([^()\n]*)\))?(\d{1,8})$")


def read_solution(text: str) -> list[WrittenStep]:
    """The steps of a written solution, in order; lines that are no step are skipped."""
    found = (_LINE.match(line.strip()) for line in text.splitlines())
    return [WrittenStep(int(m[1]), cast(Operation, m[2]), int(m[3]), m[4], int(m[5])) for m in found if m]


def holds_test_pair(text: str) -> bool:
    """Whether a step that the text writes out, right or wrong, has an operand pair of the test pool."""
    return any(_pool(line.op, line.a, line.b) == "test" for line in read_solution(text))


def failed_step(steps: Collection[Step], attempt: str) -> int | None:
    """The index of the first step that the attempt has wrong or lacks; None where all steps are right."""
    written = read_solution(attempt)
    for index, step in enumerate(steps):
        if index >= len(written):
            return index
        line = written[index]
        if (line.a, line.op, line.b, line.result) != (step.a, step.op, step.b, step.result):
            return index
    return None


def chains(split: str, count: int, seed: int, *, steps: int | None = None) -> list[Chain]:
    """`count` different problems of a split (train, test, base, teacher); the same arguments give the same problems.

    Hard equations are used evenly: each once, as far as they reach (about 900 problems of the train split), before any comes again.
    Where problems share hard equations, a student that has learnt those of its training rows by heart looks better on rows held
    out of the same split than on the test.

    Raises:
        DataError: unknown split, or more problems than the world has.
    """
    if split not in SPLITS:
        raise DataError(f"the tiny world has no split '{split}'", hint=f"choose one of {', '.join(SPLITS)}")
    rng = random.Random(f"tiny:{split}:{seed}:{steps}")
    found: dict[str, Chain] = {}
    used: Counter[Step] = Counter()

    def uses(chain: Chain) -> int:
        return max((used[step] for step in chain.steps if step.hard), default=0)

    while len(found) < count:
        best = draw_chain(rng, SPLITS[split], steps)
        for _ in range(_DRAWS):
            if not uses(best) and best.text not in found:
                break
            other = draw_chain(rng, SPLITS[split], len(best.steps))
            if other.hard == best.hard and (best.text in found or uses(other) < uses(best)):
                best = other
        if best.text in found:
            raise DataError(
                f"the tiny world has fewer than {count} problems in split '{split}'", hint="ask for fewer"
            )
        used.update(step for step in best.steps if step.hard)
        found[best.text] = best
    return list(found.values())


def problems(split: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a split: problem, answer, solution (terse), steps, hard (number of hard steps), equations.

    Raises:
        DataError: unknown split, or more problems than `MOST_PROBLEMS`.
    """
    if count > MOST_PROBLEMS:
        raise DataError(
            f"sample: {count} problems of the tiny world are too many",
            hint=f"ask for {MOST_PROBLEMS} at most",
        )
    return [
        {
            "problem": chain.text,
            "answer": str(chain.answer),
            "solution": write_solution(chain.steps),
            "steps": len(chain.steps),
            "hard": chain.hard,
            "equations": [step.terse() for step in chain.steps],
        }
        for chain in chains(split, count, seed)
    ]
