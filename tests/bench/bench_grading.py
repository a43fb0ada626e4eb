"""P6: answers a second on a realistic mix with 1 % hostile inputs, two workers against math-verify in one process; memory; warm start."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.frame import Measure, Skipped
from undo_hpc.grading import Checker, GradeItem

OURS, REFERENCE, FLAT = 6000, 300, 1_000_000
_HOSTILE = (
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "100000000!",
    "(10^6)!!",
    "\\sum_{n=1}^{1000000000} \\frac{1}{n^2}",
    "\\prod_{k=1}^{100000000} k",
    "(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11})^{200}",
    "((((((((((((((((((((1))))))))))))))))))))",
    "x^{1000000000}-x",
    "\\frac{1}{1+" * 60 + "1" + "}" * 60,
)
_STEPS = (
    "First we note that {a} + {b} = {c}, so the total so far is ${c}$.",
    "Multiplying by {b} on both sides gives \\[ {b}x = {c}. \\]",
    "Each of the {a} groups holds {b} items.",
    "We substitute $x = {a}$ into $x^2 - {b}x + {c}$ and simplify.",
)


def mix(size: int, seed: int = 11) -> list[tuple[str, str]]:
    """(prediction, gold): rationales of 300 to 2,000 characters; 60 % right; numbers, fractions, roots, tuples, words; 1 % hostile."""
    draw = random.Random(seed)
    return [_pair(draw) for _ in range(size)]


def _pair(draw: random.Random) -> tuple[str, str]:
    a, b = draw.randint(2, 99), draw.randint(2, 99)
    steps = " ".join(
        draw.choice(_STEPS).format(a=draw.randint(2, 99), b=draw.randint(2, 99), c=draw.randint(2, 999))
        for _ in range(draw.randint(4, 24))
    )
    roll = draw.random()
    if roll < 0.01:
        return f"{steps} So the answer is \\boxed{{{draw.choice(_HOSTILE)}}}.", str(a)
    if roll < 0.55:
        gold, forms = (
            str(a * b),
            [str(a * b), f"{a * b:,}", f"{a * b}.0", f"{a * b}\\text{{ cm}}", str(a + b), str(a * b + 1)],
        )
    elif roll < 0.75:
        gold, forms = (
            f"\\frac{{{a}}}{{{b}}}",
            [f"{a}/{b}", f"\\dfrac{{{2 * a}}}{{{2 * b}}}", f"\\frac{{{a}}}{{{b}}}", f"\\frac{{{b}}}{{{a}}}"],
        )
    elif roll < 0.85:
        gold, forms = (
            f"{a}\\sqrt{{{b}}}",
            [f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"{a + 1}\\sqrt{{{b}}}"],
        )
    elif roll < 0.92:
        gold, forms = f"({a}, {b})", [f"({a},{b})", f"\\left({a}, {b}\\right)", f"({b}, {a})"]
    elif roll < 0.97:
        gold, forms = (
            f"x^2 + {a + b}x + {a * b}",
            [f"(x+{a})(x+{b})", f"x^2+{a + b}x+{a * b}", f"x^2+{a}x+{b}"],
        )
    else:
        gold, forms = "\\text{Evelyn}", ["\\text{Evelyn}", "Evelyn", "\\text{Carla}"]
    answer = draw.choice(forms)
    ending = draw.choice(
        (
            "Therefore the answer is \\boxed{%s}.",
            "The final answer is $\\boxed{%s}$.",
            "So we get $$\\boxed{%s}$$",
        )
    )
    return f"{steps} {ending % answer}", gold


def measures() -> Iterator[Measure | Skipped]:
    """P6, its memory and its warm start."""
    try:
        from tests.bench.grading_table import documented
    except ImportError as error:
        yield Skipped("P6", str(error))
        return
    items = [GradeItem(prediction, gold) for prediction, gold in mix(OURS)]
    sample = mix(REFERENCE)
    documented("\\boxed{1}", "1")
    ours, theirs = [], []
    warm = min(_warm_seconds() for _ in range(5))
    with Checker(workers=2) as checker:
        checker.warm()
        for _ in range(3):
            start = time.perf_counter()
            graded = sum(1 for _ in checker.grade_many(items))
            ours.append(graded / (time.perf_counter() - start))
            start = time.perf_counter()
            for prediction, gold in sample:
                documented(prediction, gold)
            theirs.append(len(sample) / (time.perf_counter() - start))
    yield Measure(
        "P6",
        "graded answers/s, 1 % hostile: two workers against math-verify in one process",
        round(statistics.median(ours), 1),
        round(statistics.median(theirs), 1),
        ">=20",
        "answers/s",
        f"{OURS} and {REFERENCE} of one mix, 3 repeats in turn, medians",
    )
    yield Measure(
        "P6-warm",
        "seconds until a pool of two workers is warm",
        round(warm, 2),
        None,
        "<=2",
        "s",
        "best of 5 starts",
    )
    yield _memory()


def _warm_seconds() -> float:
    with Checker(workers=2) as checker:
        start = time.perf_counter()
        checker.warm()
        return time.perf_counter() - start


def _memory() -> Measure:
    """Growth of the resident memory of this process between the first 50,000 and a million rows, streamed."""
    block = [GradeItem(prediction, gold) for prediction, gold in mix(2000, seed=5)]
    first = 0.0
    with Checker(workers=2) as checker:
        for count, _ in enumerate(checker.grade_many(block[i % len(block)] for i in range(FLAT)), start=1):
            if count == 50_000:
                first = _resident_mb()
    grown = _resident_mb() - first
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measure(
        "P6-memory",
        "growth of memory from 50,000 to a million rows",
        round(max(grown, 0.0), 1),
        None,
        "<=16",
        "MiB",
        f"peak {peak:.0f} MiB",
    )


def _resident_mb() -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024
