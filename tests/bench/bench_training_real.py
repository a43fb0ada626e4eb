"""P2r, P4r: training at the shapes that users have (random weights), on lengths of real rationales, beside the others at their best.

SmolLM2-135M and Qwen2.5-0.5B. Each contestant takes the same rows once, in a process of its own; CPU seconds are those from the first step to the
last, memory is the peak of the process in that time. On a CPU the others are fastest in bf16 by autocast (fp32 weights), a row at a time: nothing
is padded then.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import model_shapes, training_race
from tests.bench.bench_training import broken, race
from tests.bench.frame import Measure, Skipped
from tests.bench.rationale_lengths import PAIRS, PROMPT_EXTRA
from tests.training import tiny_student

_WORDS = {
    "plain": "a bare torch loop on the same batches",
    "trainer_rows": "Trainer, a row at a time",
    "trainer_grouped": "Trainer grouped by length",
    "trainer_padded": "Trainer with padding",
    "trainer_flattened": "Trainer with its padding-free collator",
    "trl_packed": "TRL's SFTTrainer with packing",
}
_RIVALS = ["trainer_rows", "trainer_grouped", "trainer_flattened", "trl_packed"]


@dataclass(frozen=True)
class Race:
    """A shape, its rows, `batch` of them a step, the precision of all, and who takes part."""

    id: str
    shape: dict[str, Any]
    called: str
    rows: int
    batch: int
    precision: str
    names: list[str]


RACES = {
    race.id: race
    for race in (
        Race("135M-fp32", model_shapes.SMOLLM2_135M, "SmolLM2-135M", 8, 4, "fp32", ["plain", "trainer_rows"]),
        Race("135M", model_shapes.SMOLLM2_135M, "SmolLM2-135M", 8, 4, "bf16", _RIVALS),
        Race("0.5B", model_shapes.QWEN2_0_5B, "Qwen2.5-0.5B", 4, 2, "bf16", _RIVALS),
    )
}


def measures() -> Iterator[Measure | Skipped]:
    """All races, one after another."""
    for one in RACES.values():
        yield from run(one)


def run(one: Race) -> Iterator[Measure | Skipped]:
    """One race: a row a rival for speed, and one for memory against the fastest of them."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), one)
        figures = race(Path(folder), ["ours", *one.names], repeats=1)
    mine, ran = figures["ours"], {name: told for name, told in figures.items() if "failed" not in told}
    for name in one.names:
        goal = ">=0.97" if name == "plain" else ">=1.0"
        id_, what = (
            f"P2r-{one.id}-{name}",
            f"useful tokens per CPU-second, {one.called}, against {_WORDS[name]}",
        )
        if lost := broken(id_, what, mine, figures[name]):
            yield lost
            continue
        other = figures[name]
        note = (
            f"{one.precision}, one thread, {mine['tokens']:.0f} tokens in {mine['steps']} steps, one run; "
            f"peak memory of the process {mine['peak'] / 2**30:.2f} and {other['peak'] / 2**30:.2f} GiB"
        )
        yield Measure(id_, what, round(mine["rate"], 1), round(other["rate"], 1), goal, "tokens/CPU-s", note)
    rivals = [name for name in one.names if name in ran and name != "plain"]
    if "ours" not in ran or not rivals:
        yield Skipped(f"P4r-{one.id}", f"peak memory, {one.called}: nobody to compare with", broke=True)
        return
    best = max(rivals, key=lambda name: ran[name]["rate"])
    peaks = [round(told["peak"] / 2**20) for told in (mine, ran[best])]
    yield Measure(
        f"P4r-{one.id}",
        f"peak memory of the training process, {one.called}, against the fastest rival ({_WORDS[best]})",
        peaks[0],
        peaks[1],
        "<=1.0",
        "MiB",
        f"{one.precision}; not the growth: ours has AdamW's state before the first step in bf16, Trainer after it",
    )


def prepare(place: Path, one: Race) -> None:
    """Model, rows and settings of a race."""
    tokenizer = tiny_student.make_tokenizer()
    if not (place / "model").exists():
        model_shapes.build(place / "model", one.shape, tokenizer)
    bf16 = one.precision == "bf16"
    training_race.prepare(
        place,
        one.rows,
        one.batch,
        at_once=2,
        data=rows(one.rows),
        autocast=bf16,
        precision=one.precision,
        zero_stage=int(bf16),
        learning_rate=1e-4,
        log_steps=1,
        micro_batch_tokens=2048,
    )


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of exactly these lengths in tokens: digits, which are a token each."""
    rng = random.Random(0)

    def digits(n: int) -> str:
        return "".join(rng.choice("123456789") for _ in range(max(1, n)))

    return [
        tiny_student.rows(1)[0]
        | {
            "id": f"{idx:08d}",
            "idx": idx,
            "problem": digits(prompt + PROMPT_EXTRA - 13),
            "teacher_solution": digits(answer),
            "gt": "1",
        }
        for idx, (prompt, answer) in enumerate(PAIRS[:count])
    ]


if __name__ == "__main__":  # a race by itself: rows as JSON lines
    import json

    for row in run(RACES[sys.argv[1]]):
        print(json.dumps(row.to_dict()), flush=True)
