"""One run from the first launch to its end, disturbed by what its seed says, with the invariants checked after every event."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.observe.synthetic import RunBuilder
from tests.simulation.faults import Faults
from tests.simulation.graphs import Graphs
from tests.simulation.outputs import PUBLISH
from tests.simulation.scheduler import Slurm, Task
from tests.simulation.world import EPOCH, Killed, Process, World
from undo_hpc import worker
from undo_hpc.cluster import identity, journal, limits, slurm
from undo_hpc.control import continue_run, planning, position
from undo_hpc.control.dispatch import submit_missing
from undo_hpc.control.patience import on_login_node
from undo_hpc.control.position import read_state
from undo_hpc.control.run_cluster import open_cluster
from undo_hpc.control.tidy import tidy
from undo_hpc.errors import ExitCode, Requeue, TrainingError, UndoError
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.run import open_run
from undo_hpc.prompts import load_prompts
from undo_hpc.stages import context
from undo_hpc.stages.context import StageContext, gate, previous_evidence
from undo_hpc.stages.prepare import prepared_digest
from undo_hpc.storage import events, lease
from undo_hpc.storage.heartbeat import STALE_S
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest

ITERATIONS = 2
RELAUNCH_S = 1800.0  # a person, or cron, calls the launcher so often
FAULTS_END_S = 6 * 3600.0
GIVE_UP_S = 4 * 86400.0
SKEWS = (0.0, 0.0, -90.0, 40.0, 300.0)  # how wrong a node's clock may be
STILL_S = 2 * STALE_S + max(
    SKEWS
)  # a lease of a process that died looks alive for so long, by the clock of another node


@dataclass
class Outcome:
    """What a simulation found.

    Attributes:
        relaunches: calls of the launcher after the first.
        needed: those that submitted something themselves.
    """

    seed: int
    ended: bool = False
    hours: float = 0.0
    events: int = 0
    relaunches: int = 0
    needed: int = 0
    submissions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def make_template(root: Path) -> Path:
    """A prepared run: what the launcher leaves before it plans."""
    builder = RunBuilder(
        root, problems=6, validation=2, benchmarks={},
        sets=[f"iterations={ITERATIONS}", "generate.shards=3", "evaluate.problems_per_task=50", "evaluate.baseline=true",
              "stop.enabled=false", "cluster.kind=slurm", "cluster.code_snapshot=false", "cluster.check_shared=false",
              "display.report=false"],
    )  # fmt: skip
    return builder.root


class Simulation(Faults):
    """One run, by its seed."""

    def __init__(self, seed: int, template: Path, place: Path, *, faults: bool = True) -> None:
        self.world, self.root = World(seed), place / "run"
        shutil.copytree(template, self.root)
        rng = self.world.rng
        self.opened = open_run(self.root)  # its configuration stays: it is read once, not by each process
        self.slurm = Slurm(
            self.world, self._job, places=rng.randint(1, 4), limit=rng.choice((10**6, 10**6, 9, 7))
        )
        self.out = Outcome(seed)
        self.login = self.world.rng.random() < 0.3  # nodes may not submit
        self._skews = {f"n{k}": rng.choice(SKEWS) for k in range(4)}
        self._working: dict[tuple[int, str, int], list[Process]] = {}
        self._published: dict[tuple[int, str, int, str], str] = {}
        self._launchers = 0
        self._still_since: float | None = None
        if faults:
            for _ in range(rng.randint(0, 14)):
                self.world.at(rng.uniform(0.0, FAULTS_END_S), lambda: self.disturb(self.out.faults))

    # -- the run --------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Until the run has ended, an invariant does not hold, or nothing moves any more."""
        world = self.world
        with self._edges(), world.patched():
            self.launch()
            while world.step():
                self.out.events += 1
                self._require_next()
                if world.violations or self.out.ended:
                    break
                if world.now - EPOCH > GIVE_UP_S:
                    world.violate(f"no end after {GIVE_UP_S / 3600:.0f} hours: {self._where()}")
            world.finish()
        out = self.out
        out.hours, out.submissions = (world.now - EPOCH) / 3600, self.slurm.accepted
        bound = 14 * ITERATIONS * (1 + self.login) + 9 * sum(out.faults.values()) + 2 * out.relaunches
        if out.submissions > bound:
            world.violate(f"{out.submissions} submissions, more than {bound}")
        out.violations = world.violations
        return out

    def _where(self) -> str:
        state = read_state(self.opened)
        missing = [f"{s.stage} {s.index} {s.state} {s.why}" for s in state.missing] if state else ["no plan"]
        queue = [f"{t.id} {t.job.name.split('-')[0]} {t.state} {t.reason}" for t in self.slurm.live()]
        return f"{missing[:4]}, queue {queue[:6]}"

    def launch(self) -> None:
        """The person's command, and the next one later."""
        self._launchers += 1
        first = self._launchers == 1

        def work() -> int:
            run = self.opened
            try:
                with Lease(run.layout.lease, "the run directory"):
                    cluster = on_login_node(lambda: open_cluster(run, from_launcher=True))
                    tidy(run)
                    if self.login:
                        cluster.profile = cluster.profile.model_copy(update={"submit_from": "login"})
                    done = on_login_node(lambda: submit_missing(run, cluster, ahead=self.login))
                    self.out.needed += not first and bool(done.submitted or done.ahead)
                    for job in done.held:  # the launcher says: scontrol release
                        self.slurm.run(["scontrol", "release", job.task_id])
                    if done.state.ended and not self.slurm.live():
                        self.out.ended = True
            except UndoError as error:
                if not (error.message and error.hint):
                    self.world.violate(f"an error without a hint: {error!r}")
                return int(error.exit_code)
            return 0

        self.world.start(self.world.new(f"launcher {self._launchers}", work))
        again = RELAUNCH_S * self.world.rng.choice((0.01, 1.0, 1.0, 2.0))

        def later() -> None:
            if not self.out.ended:
                if not first:
                    self.out.relaunches += 1
                self.launch()

        self.world.at(again, later)

    def _require_next(self) -> None:
        """Where nothing has moved by itself for a while, `status` names the command that makes it move."""
        world = self.world
        if self.slurm.moves() or any(not (p.ended or p.killed) for p in world.processes):
            self._still_since = None
            return
        if self._still_since is None:
            self._still_since = world.now
            world.at(STILL_S, lambda: None)
        if world.now - self._still_since < STILL_S or world.now < self.slurm.down_until:
            return
        self._still_since = world.now  # the next look is later
        with world.look():
            view = collect_status(self.opened)
        held = any(t.reason == "JobHeldUser" for t in self.slurm.live())
        if not (
            view.ended or "run_iteration" in view.next_command or (held and "release" in view.next_command)
        ):
            world.violate(
                f"nothing moves ({self._where()}), and status says: {view.next_command} ({view.next_why})"
            )

    def _job(self, task: Task, env: dict[str, str]) -> Process:
        """The process of a job: the worker, as the batch file calls it."""
        _, stage, _, iteration, offset, group, _ = task.job.command
        index = (int(offset) + (task.index or 0)) * int(group) if int(group) else task.index or 0
        argv = [str(self.root), stage, "--iteration", iteration, "--index"]
        host = self.world.rng.choice(list(self._skews))

        def share() -> int:
            """As the prelude does for an array that was submitted ahead of its plan."""
            worst, number = 0, index
            while worst not in (ExitCode.INCOMPLETE, ExitCode.REQUEUE):
                code = worker.main([*argv, str(number), "--ahead"])
                if code == ExitCode.NO_SUCH_TASK:
                    break
                worst, number = max(worst, code), number + int(offset)
            return worst

        return self.world.new(
            f"{stage} {index} of {iteration} (job {task.id})",
            (lambda: worker.main([*argv, str(index)])) if int(group) else share,
            env=env | ({"UNDO_CONTINUES_RUN": "plan"} if self.login else {}),
            host=host,
            skew=self._skews[host],
        )

    # -- the stages -----------------------------------------------------------------------------------------------------

    def _stage(self, ctx: StageContext) -> None:
        """Any stage: it takes its time, stops when asked, sometimes fails, and makes its outputs from its inputs alone."""
        world, me = self.world, self.world.current
        assert me is not None
        key = (ctx.plan.iteration, ctx.stage.name, ctx.task.index)
        at_work = self._working.setdefault(key, [])
        awake = [p for p in at_work if not (p.ended or p.killed or p.replaced or p.frozen_until > world.now)]
        if awake:
            world.violate(f"{key} is at work twice: {awake[0].name} and {me.name}")
        at_work[:] = [*awake, me]
        try:
            inputs = self._inputs(ctx)
            for _ in range(world.rng.randint(1, 4)):
                world.sleep(world.rng.uniform(1.0, 400.0))
                ctx.lease.check()
                if ctx.should_stop():
                    raise Requeue("asked to stop", hint="start again")
            if self.out.faults["fail"] and world.rng.random() < 0.1 and world.now - EPOCH < FAULTS_END_S:
                raise TrainingError("it failed", hint="look at the log")
            PUBLISH[ctx.stage.name](ctx, inputs)
        finally:
            if me in at_work:
                at_work.remove(me)

    @staticmethod
    def _inputs(ctx: StageContext) -> dict[str, str]:
        inputs: dict[str, str] = dict(ctx.task.inputs)
        for name in ctx.stage.after:
            inputs |= gate(ctx, name)[2]
        if ctx.stage.name in ("merge", "evaluate", "baseline"):
            inputs["splits"] = prepared_digest(ctx.run)
        if ctx.plan.iteration and ctx.stage.name == "merge":
            inputs["previous"] = previous_evidence(ctx, "merge").digest
        return inputs

    def _report(self, error: Exception, *_: Any) -> int:
        """What the worker says of an error, if it is one of ours."""
        if not isinstance(error, UndoError):
            self.world.violate(f"a bare {type(error).__name__} in a worker: {error}")
            return 1
        return int(error.exit_code)

    def _note(self, path: Path, manifest: Manifest) -> None:
        """Every manifest that is written: its writer must own the task, and the same inputs give the same outputs."""
        me = self.world.current
        if manifest.stage != "prepare" and me is not None:
            if me.killed:
                raise Killed
            index = manifest.index
            held = lease.read_lease(
                self.opened.layout.iteration(manifest.iteration).lease(manifest.stage, index)
            )
            if (held or {}).get("pid") != me.pid:
                self.world.violate(
                    f"{me.name} publishes {manifest.stage} {index}, which {(held or {}).get('pid')} holds"
                )
            basis = (manifest.iteration, manifest.stage, index, repr(sorted(manifest.inputs.items())))
            if self._published.setdefault(basis, manifest.digest) != manifest.digest:
                self.world.violate(f"{manifest.stage} {index}: the same inputs gave other bytes")
        self._write_manifest(path, manifest)

    # -- the edges ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _edges(self) -> Iterator[None]:
        """Puts the simulated scheduler, stages, nodes and deaths in the places of the real ones."""
        world = self.world
        self._write_manifest = context.write_manifest
        append, leave = events.append_line, Lease.__exit__

        def appended(path: Path, row: dict[str, Any], **more: Any) -> None:
            if world.current is not None and world.current.killed:
                raise Killed
            append(path, row, **more)

        def left(self: Lease, *error: Any) -> None:
            me = world.current
            if me is not None and not me.killed:
                leave(self, *error)

        def own() -> dict[str, Any]:
            me = world.current
            assert me is not None
            return {"host": me.host, "pid": me.pid, "start": str(me.pid)}

        def alive(pid: int, start: str) -> bool:
            return any(p.pid == pid and not p.ended and not p.killed for p in world.processes)

        class Signals:
            reason = "preempted"

            def __init__(self, *_: Any) -> None: ...
            def __enter__(self) -> Signals:
                return self

            def __exit__(self, *error: object) -> None: ...
            def requested(self) -> bool:
                assert world.current is not None
                return world.current.signalled

            def time_left_s(self) -> None: ...
            def requeue_reason(self) -> str:
                return self.reason

        class Beat:
            """The heartbeat's thread: the world's clock moves it."""

            def __init__(self, target: Any, **_: Any) -> None:
                self._lease, self._process = target.__self__, world.current

            def start(self) -> None:
                assert self._process is not None
                self._process.leases.append(self)

            def join(self) -> None:
                if self._process and self in self._process.leases:
                    self._process.leases.remove(self)

            def beat(self) -> None:
                held = self._lease
                with suppress(OSError):
                    lease._beat(held.path, held.token, held._content())

        class Inline:
            def __init__(self, *_: Any) -> None: ...
            def __enter__(self) -> Inline:
                return self

            def __exit__(self, *error: object) -> None: ...
            def map(self, work: Any, items: Any) -> Any:
                return map(work, items)

        class Threads:
            Thread = Beat

            class Event:
                def set(self) -> None: ...

        changes: list[tuple[Any, str, Any]] = [
            (slurm, "run", self.slurm.run), (limits, "run", self.slurm.run), (identity, "run", self.slurm.run), (slurm, "require_slurm", lambda: None),
            (worker, "_report", self._report), (worker, "load_stage", lambda config, name: self._stage), (worker, "StopSignals", Signals),
            (worker, "log_to_task_log", lambda: None), (worker, "die_with_parent_if_asked", lambda **_: None),
            (worker, "_afterwards", lambda root, stage, k: tidy(self.opened) if stage == "advance" else None),
            (worker, "open_run", lambda root: self.opened), (continue_run, "open_run", lambda root: self.opened),
            (planning, "load_prompts", _prompts), (worker, "joules", lambda: None), (context, "ThreadPoolExecutor", Inline),
            (context, "write_manifest", self._note),
            (lease, "threading", Threads), (lease, "own_process", own), (lease, "alive_here", alive),
            (Lease, "__exit__", left), (events, "append_line", appended), (journal, "append_line", appended),
            (socket, "gethostname", lambda: world.current.host if world.current else "login"),
        ]  # fmt: skip
        graphs = Graphs().build
        changes += [(module, "build_graph", graphs) for module in (worker, context, position)]
        level = logging.getLogger("undo_hpc").level
        logging.getLogger("undo_hpc").setLevel(logging.CRITICAL)
        with ExitStack() as stack:
            for place, name, value in changes:
                stack.enter_context(patch.object(place, name, value))
            try:
                yield
            finally:
                logging.getLogger("undo_hpc").setLevel(level)


_prompts = cache(load_prompts)  # templates are parsed once, not at each look


def simulate(seed: int, template: Path, *, faults: bool = True, login: bool | None = None) -> Outcome:
    """One run by its seed; `login`: whether nodes may submit nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        simulation = Simulation(seed, template, Path(place), faults=faults)
        simulation.login = simulation.login if login is None else login
        return simulation.run()


__all__ = ["ExitCode", "Outcome", "make_template", "simulate"]
