"""What a run has cost, from its own events: hours that were useful, lost, or idle.

How an hour is counted, for each start of a task:

- *idle*: loading the model and warming up, on the first start (the time until the event `ready`).
- *lost*: loading again after a restart; the work of a start that failed or was killed and whose work is not kept; of a start that was
  killed without an exit status, what lies between its last durable point and its end (at most a flush or a checkpoint interval).
- *useful*: the rest. A start that saved and stopped (preempted, time limit) has worked usefully.

A start without an end event (killed, node down) is counted up to the last sign of life of its task, so it is a lower bound. Queue time
costs nothing here. The time from a job's start to the worker's first line is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.control.live import leased
from undo_hpc.method.metrics import gain as gain_on_validation
from undo_hpc.pipeline.evidence import as_manifest
from undo_hpc.pipeline.layout import IterationLayout
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import ROW_STAGES, STAGES
from undo_hpc.storage.events import read_events
from undo_hpc.storage.reading import finite, read_fast, read_rows_tolerant
from undo_hpc.system.wording import counted, three_digits

GENERATION = tuple(
    s.name for s in STAGES.values() if s.generation
)  # with a teacher service the GPUs are the servers'
ORDER = tuple(STAGES)
SUPERSEDED = "superseded"  # stands for all stages of an iteration that was moved away
GPU_WATTS, CPU_CORE_WATTS = 400.0, 8.0  # nominal draw under load, where no counter is readable
_FILE = re.compile(r"^([a-z][a-z0-9_]*)-(\d+)\.jsonl$")


@dataclass(frozen=True)
class Start:
    """One start of a task. `ended` is complete, requeue, failed, killed or running."""

    began: float
    seconds: float
    gpus: float
    cpus: float
    load_s: float
    ended: str
    first: bool
    joules: float | None = None


@dataclass
class Hours:
    """Hours of one kind of device."""

    useful: float = 0.0
    lost: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """All hours."""
        return self.useful + self.lost + self.idle

    def add(self, other: Hours, times: float = 1.0) -> None:
        """Adds hours."""
        self.useful += times * other.useful
        self.lost += times * other.lost
        self.idle += times * other.idle


@dataclass
class StageCost:
    """Cost of a stage in one iteration. `seconds` is wall time summed over its starts."""

    iteration: int
    stage: str
    gpu: Hours = field(default_factory=Hours)
    cpu: Hours = field(default_factory=Hours)
    starts: int = 0
    restarts: int = 0
    open_ended: int = 0
    kwh: float = 0.0
    kwh_measured: bool = True


@dataclass
class RunCost:
    """Cost of a run.

    Attributes:
        per_rationale_s: device-seconds of generation for one kept rationale, by iteration (None where none was kept, or where some of it
            was taken over from another run).
        per_point_h: device-hours of the whole run for one point of validation accuracy over the untrained student (over the
            first iteration, where there is no baseline); None without a gain, and where work was taken over.
        taken_over: tasks whose work another run has paid for; it is counted there.
        device: 'GPU' where any task had one, else 'CPU'.
    """

    stages: list[StageCost]
    device: str
    gpu: Hours
    cpu: Hours
    kwh: float
    kwh_measured: bool
    per_rationale_s: dict[int, float | None]
    per_point_h: float | None
    taken_over: int = 0

    def of(self, device: str = "") -> Hours:
        """Hours of that device, or of the one that counts."""
        return self.gpu if (device or self.device) == "GPU" else self.cpu

    def to_dict(self) -> dict[str, Any]:
        """For --json and the report."""
        return asdict(self)


def starts_of(events: Iterable[dict[str, Any]], last_sign: float = 0.0) -> list[Start]:
    """PURE: the starts of a task from its events, oldest first.

    Args:
        events: in the order in which they were written.
        last_sign: when the task was last seen alive, for a start that never ended.
    """
    rows = list(events)  # as they were written: a clock may be set back, and nodes have several
    found: list[Start] = []
    opened: dict[tuple[str, str], dict[str, Any]] = {}
    begins = [(finite(e, "alive"), finite(e, "time")) for e in rows if e.get("kind") == "start"]
    signs = [sign if sign < began else 0.0 for sign, began in begins[1:]] + [last_sign]

    def close(start: dict[str, Any], seconds: float, ended: str, joules: float | None = None) -> None:
        began = finite(start, "time")
        used = None
        before = finite(start, "joules", -1.0)
        if joules is not None and 0 <= before <= joules:
            used = joules - before
        found.append(
            Start(
                began,
                max(0.0, seconds),
                finite(start, "gpus") * (finite(start, "nodes") or 1),
                (finite(start, "cpus") or 1) * (finite(start, "tasks") or 1),
                min(max(0.0, seconds), max(0.0, finite(start, "load_s"))),
                ended,
                bool(start["first"]),
                used,
            )
        )

    def alive_until(start: dict[str, Any]) -> float:
        """The last sign of life of a start that never ended: its last event, or the task's progress, which the next start notes and clears
        away. Where the clock of the next start's node is behind it, it counts for nothing: the hours stay a lower bound."""
        return max(finite(start, "seen", finite(start, "time")), start["sign"])

    for event in rows:
        who = (str(event.get("host")), str(event.get("pid")))
        kind = event.get("kind")
        if kind == "start":
            if who in opened:
                lost = opened.pop(who)
                close(lost, alive_until(lost) - finite(lost, "time"), "killed")
            opened[who] = event | {"first": not (found or opened), "sign": signs.pop(0)}
        elif who in opened:
            opened[who]["seen"] = event.get("time")
            if kind == "ready":
                opened[who]["load_s"] = finite(event, "time") - finite(opened[who], "time")
            elif kind == "end":
                start = opened.pop(who)
                close(
                    start,
                    finite(event, "seconds"),
                    str(event.get("status") or "failed"),
                    finite(event, "joules") if event.get("joules") is not None else None,
                )
    for start in opened.values():
        close(start, alive_until(start) - finite(start, "time"), "killed")
    return sorted(found, key=lambda s: s.began)


def split_hours(start: Start, stage: str, interval_s: float) -> Hours:
    """PURE: the hours of one device in a start.

    Args:
        interval_s: longest time between two durable points of the stage (a flush, a checkpoint).
    """
    load, work = start.load_s, start.seconds - start.load_s
    hours = Hours(lost=0.0 if start.first else load, idle=load if start.first else 0.0)
    if start.ended in ("complete", "requeue", "running") or (start.ended == "failed" and stage in ROW_STAGES):
        hours.useful = work
    elif stage in (*ROW_STAGES, "train"):
        hours.lost += min(work, interval_s)
        hours.useful = work - min(work, interval_s)
    else:
        hours.lost += work
    return Hours(hours.useful / 3600, hours.lost / 3600, hours.idle / 3600)


def measure(run: Run) -> RunCost:
    """What the run has cost so far."""
    stages: list[StageCost] = []
    worked: dict[int, set[int]] = {}  # tasks of generate that this run has started itself, by iteration
    for number in run.layout.iterations():
        by_stage: dict[str, StageCost] = {}
        alive = leased(run, number)
        for stage, index, starts in _starts(run.layout.iteration(number)):
            if starts and (stage, index) in alive and starts[-1].ended == "killed":
                starts[-1] = replace(starts[-1], ended="running")
            cost = by_stage.setdefault(stage, StageCost(number, stage))
            if stage == "generate" and starts:
                worked.setdefault(number, set()).add(index)
            _add(cost, stage, starts, run.config)
        stages += sorted(
            by_stage.values(), key=lambda cost: ORDER.index(cost.stage) if cost.stage in ORDER else len(ORDER)
        )
    stages += _superseded(run)
    taken = sum(
        int(finite(e, "tasks")) for e in read_events(run.layout.events) if e.get("kind") == "taken_over"
    )
    return summarise(stages, _kept(run, worked), _gain(run), taken)


def _add(
    cost: StageCost, stage: str, starts: Iterable[Start], config: RunConfig, *, lost: bool = False
) -> None:
    """Adds the starts of a task; `lost`: its work was not kept in the end."""
    local_cpus = config.cluster.threads_per_process if config.cluster.kind == "local" else 0
    for start in starts:
        hours = split_hours(start, stage, _interval_s(config, stage))
        if lost:
            hours = Hours(lost=hours.total)
        cpus = local_cpus * (config.train.ranks if stage == "train" else 1) or start.cpus
        cost.gpu.add(hours, start.gpus)
        cost.cpu.add(hours, cpus)
        cost.starts += 1
        cost.restarts += not start.first
        cost.open_ended += start.ended == "killed"
        cost.kwh_measured &= start.joules is not None
        guessed = start.seconds * (start.gpus * GPU_WATTS + cpus * CPU_CORE_WATTS)
        cost.kwh += (start.joules if start.joules is not None else guessed) / 3.6e6


def _superseded(run: Run) -> Iterable[StageCost]:
    """What iterations have cost that were moved away (`regrade`): all of it is lost, and was paid all the same."""
    for number, path in run.layout.superseded_folders():
        cost = StageCost(number, SUPERSEDED)
        for stage, _, starts in _starts(IterationLayout(run.layout.root, cost.iteration, path)):
            _add(cost, stage, starts, run.config, lost=True)
        if cost.starts:
            yield cost


def summarise(
    stages: Sequence[StageCost], kept: dict[int, int | None], gain: float | None, taken_over: int = 0
) -> RunCost:
    """PURE: the run's cost from its stages', the rationales newly kept in each iteration (None where not all of their cost is known), the
    gain in points, and the number of tasks whose work another run has paid for."""
    gpu, cpu = Hours(), Hours()
    for cost in stages:
        gpu.add(cost.gpu)
        cpu.add(cost.cpu)
    device = "GPU" if gpu.total > 0 else "CPU"

    def hours(cost: StageCost) -> float:
        return (cost.gpu if device == "GPU" else cost.cpu).total

    per_rationale = {
        number: sum(hours(c) for c in stages if c.iteration == number and c.stage in GENERATION) * 3600 / rows
        if rows
        else None
        for number, rows in kept.items()
    }
    total = (gpu if device == "GPU" else cpu).total
    return RunCost(
        list(stages),
        device,
        gpu,
        cpu,
        sum(c.kwh for c in stages),
        bool(stages) and all(c.kwh_measured for c in stages),
        per_rationale,
        total / gain if gain and gain > 0 and not taken_over else None,
        taken_over,
    )


def _starts(at: IterationLayout) -> Iterable[tuple[str, int, list[Start]]]:
    for path in sorted(at.events_folder.glob("*.jsonl")):
        found = _FILE.match(path.name)
        if not found:
            continue
        progress = read_fast(at.progress(found[1], int(found[2]))) or {}
        yield found[1], int(found[2]), starts_of(read_rows_tolerant(path), finite(progress, "time"))


def _interval_s(config: RunConfig, stage: str) -> float:
    if stage == "train":
        return 60 * config.train.checkpoint.every_minutes or float("inf")
    return config.storage.flush_seconds


def _kept(run: Run, worked: Mapping[int, set[int]]) -> dict[int, int | None]:
    """Rationales newly kept in each merged iteration; None where not all shards that it was made of were generated by this run."""
    kept: dict[int, int | None] = {}
    for number in run.layout.iterations():
        data = read_fast(run.layout.iteration(number).stage_manifest("merge"))
        manifest = as_manifest(data) if data else None
        if manifest is not None:
            counts = manifest.counts
            mine = set(manifest.details.get("generate_used", ())) <= worked.get(number, set())
            kept[number] = int(counts.get("rows", 0)) - int(counts.get("carried", 0)) if mine else None
    return kept


def _gain(run: Run) -> float | None:
    """Points of validation accuracy that the best iteration lies above the untrained student, or above iteration 0."""
    found = gain_on_validation(all_metrics(run))
    return None if found is None else 100 * found


def energy(kwh: float) -> str:
    """Energy in words, with the unit that suits it."""
    return f"{kwh:,.2f} kWh" if kwh >= 1 else f"{1000 * kwh:.2f} Wh"


def rationale_cost(cost: RunCost) -> list[str]:
    """PURE: what each kept rationale has cost, a line an iteration."""
    said = [
        f"iteration {number}: {three_digits(seconds)} {cost.device}-seconds of generation for each rationale kept"
        for number, seconds in cost.per_rationale_s.items()
        if seconds is not None
    ]
    if cost.taken_over:
        said.append(
            f"{counted(cost.taken_over, 'task')} taken over from other runs: their hours are counted there"
        )
    return said
