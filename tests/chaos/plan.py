"""PURE: which faults a trial meets, by its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.chaos.damage import AT_REST, DAMAGE, DISKS, MAKING
from tests.chaos.faults import DAEMONS, JOBS, LAUNCHERS, PROCESSES
from tests.chaos.trial import STAGES, Planned

KINDS = {**PROCESSES, **JOBS, **DAEMONS, **LAUNCHERS, **DAMAGE, **MAKING, **AT_REST, **DISKS}
# How often each group is drawn, and each stage (a start of the training takes most of the processor).
GROUPS = ((PROCESSES, 30), (JOBS, 26), (DAEMONS, 12), (LAUNCHERS, 10), (DAMAGE, 10), (MAKING, 8), (DISKS, 4))
STAGE_WEIGHTS = {"generate": 28, "merge": 12, "train": 26, "evaluate": 22, "advance": 12}


@dataclass(frozen=True)
class Plan:
    """Of one trial: `weather` is the fault that lasts: names that show late, wrong clocks, or none."""

    weather: str
    partition: str
    faults: tuple[Planned, ...]


def plan(seed: int, number: int, count: int, kinds: tuple[str, ...] = ()) -> Plan:
    """The plan of a trial. `kinds`: only these (all by default)."""
    rng = random.Random(f"{seed} {number}")
    weather = rng.choice(("", "", "", "late", "clocks"))
    partition = rng.choice(("low", "lowg"))
    faults = []
    for _ in range(count):
        stage = rng.choices(list(STAGE_WEIGHTS), list(STAGE_WEIGHTS.values()))[0]
        fitting = [([kind for kind in group if _fits(kind, stage)], weight) for group, weight in GROUPS]
        possible = [(group, weight) for group, weight in fitting if group]
        kind = rng.choice(kinds or rng.choices([g for g, _ in possible], [w for _, w in possible])[0])
        faults.append(Planned(stage, kind, rng.choice((rng.uniform(0.0, 1.0), rng.uniform(0.0, 5.0)))))
    if not kinds and rng.random() < 0.15:
        faults.append(Planned("launch", "launcher killed", 0.0))
    if not kinds and rng.random() < 0.3:
        faults.append(Planned("end", rng.choice(list(AT_REST)), 0.0))
    order = ("launch", *STAGES, "end")
    return Plan(weather, partition, tuple(sorted(faults, key=lambda fault: order.index(fault.stage))))


def _fits(kind: str, stage: str) -> bool:
    if kind == "kill: rank":
        return stage == "train"
    if kind in DAMAGE:
        return stage != "advance"
    return kind not in MAKING or stage not in ("merge", "advance")
