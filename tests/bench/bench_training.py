"""P2, P3, P4, P9: training speed, memory and the time a checkpoint costs, side by side with transformers' Trainer and TRL."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.frame import Measure, Skipped, in_turn
from tests.bench.training_race import run_contestant

REPEATS = int(os.environ.get("UNDO_BENCH_REPEATS", "5"))


def measures() -> Iterator[Measure | Skipped]:
    """All measures of training."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(place)
        figures = race(place, ["ours", "trainer_padded", "trainer_grouped", "plain", "trl_packed"], REPEATS)
        yield from _speed(figures)
        yield _memory(figures)
        yield from _checkpoint(place)


def _prepare(place: Path) -> None:
    from tests.bench import training_race

    training_race.prepare(place)


def race(place: Path, names: list[str], repeats: int) -> dict[str, dict[str, Any]]:
    """Medians of each contestant; repeats alternate, each in a process of its own. One that broke has `failed` instead."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    broken: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name in names:
            if name not in broken:
                told = run_contestant(name, place)
                (broken.update({name: told}) if "failed" in told else rows[name].append(told))
    figures: dict[str, dict[str, Any]] = dict(broken)
    for name, done in rows.items():
        if name not in broken:
            keys = [k for k, v in done[0].items() if isinstance(v, int | float)]
            figures[name] = {key: statistics.median(row[key] for row in done) for key in keys}
            rates = sorted(row["tokens"] / row["cpu_s"] for row in done)
            figures[name] |= {"rate": statistics.median(rates), "low": rates[0], "high": rates[-1]}
    return figures


def broken(id_: str, what: str, *contestants: dict[str, Any]) -> Skipped | None:
    """The row of a comparison of which one side is missing or broke; None where all ran."""
    for told in contestants:
        if "failed" in told:
            return Skipped(id_, f"{what}: {told['failed']}", broke=not told.get("missing"))
    return None


def _speed(figures: dict[str, dict[str, Any]]) -> Iterator[Measure | Skipped]:
    mine = figures["ours"]
    for id_, name, what, goal in (
        (
            "P2a",
            "trainer_padded",
            "useful tokens per CPU-second, against transformers' Trainer with padding",
            ">=2.0",
        ),
        (
            "P2b",
            "trainer_grouped",
            "useful tokens per CPU-second, against transformers' Trainer grouped by length",
            ">=1.2",
        ),
        ("P3", "trl_packed", "useful tokens per CPU-second, against TRL's SFTTrainer with packing", ">=1.2"),
        (
            "P2c",
            "plain",
            "useful tokens per CPU-second, against a bare torch loop on the same batches (DeepSpeed's and our own cost)",
            ">=0.8",
        ),
    ):
        other = figures[name]
        if lost := broken(id_, what, mine, other):
            yield lost
            continue
        note = (
            f"fp32, one thread, {REPEATS} repeats in turn, ours {mine['low']:,.0f}-{mine['high']:,.0f}, other {other['low']:,.0f}-{other['high']:,.0f}; "
            f"mean loss of the second half {mine['loss']:.3f} and {other['loss']:.3f}"
        )
        yield Measure(id_, what, round(mine["rate"]), round(other["rate"]), goal, "tokens/CPU-s", note)


def _memory(figures: dict[str, dict[str, Any]]) -> Measure | Skipped:
    mine, other = figures["ours"], figures["trainer_padded"]
    if lost := broken("P4", "peak memory of training", mine, other):
        return lost
    note = f"growth of resident memory from the first step to its peak; whole process {mine['peak'] / 2**20:.0f} and {other['peak'] / 2**20:.0f} MiB"
    return Measure(
        "P4",
        "peak memory of training, against transformers' Trainer with padding",
        round(mine["grown"] / 2**20, 1),
        round(other["grown"] / 2**20, 1),
        "<=0.8",
        "MiB",
        note,
    )


def _checkpoint(place: Path) -> Iterator[Measure]:
    """The time that training stands still for a checkpoint, against torch.save of the same state (no fsync)."""
    from undo_hpc.training.setup import quiet_deepspeed

    quiet_deepspeed()
    import torch

    from tests.training import tiny_student
    from undo_hpc.training import loop, student
    from undo_hpc.training.checkpoints import CheckpointManager
    from undo_hpc.training.deepspeed_settings import deepspeed_settings
    from undo_hpc.training.ranks import DistContext, RankInfo
    from undo_hpc.training.spec import TrainSpec

    torch.set_num_threads(1)
    tiny_student.make_student(place / "larger", hidden=512, layers=6, heads=8, kv_heads=2)
    spec = TrainSpec.load(place / "spec.json")
    spec = replace(spec, model=str(place / "larger"), work_dir=str(place / "checkpoint-bench"))
    config = spec.config
    dist_context = DistContext(RankInfo(0, 1, 0), Path(spec.work_dir), {})
    model = student.load_student(spec, config, "varlen")
    engine = loop.build_engine(model, config, deepspeed_settings(config), dist_context)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    engine.optimizer.step()
    keeper = CheckpointManager(spec, dist_context)
    keeper.attach(engine)
    steps = iter(range(1, 1000))

    def ours() -> float:
        began = time.perf_counter()
        keeper.save(engine, next(steps), 0.0)
        blocked = time.perf_counter() - began
        keeper.finalize()
        return blocked

    def synchronous() -> float:
        state = {"module": engine.module.state_dict(), "optimizer": engine.optimizer.state_dict()}
        began = time.perf_counter()
        torch.save(state, place / "plain.pt")
        return time.perf_counter() - began

    ours()  # the first one takes its memory from the system
    mine, other = in_turn(ours, synchronous, max(REPEATS, 7))
    size = (place / "plain.pt").stat().st_size / 2**20
    dist_context.close()
    yield Measure(
        "P9",
        "time that training stands still for a checkpoint, against torch.save of the same state",
        round(mine, 4),
        round(other, 4),
        "<=0.2",
        "s",
        f"{size:.0f} MiB of weights and AdamW state, fp32; torch.save without fsync; medians of {max(REPEATS, 7)}",
    )
