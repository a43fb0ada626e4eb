"""What happens to a run: processes, jobs, nodes, the controller and files are disturbed, by the seed's dice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.simulation.scheduler import Slurm, Task
from tests.simulation.world import Process, World


class Faults:
    """The ways; each returns False where there was nothing to disturb."""

    world: World
    slurm: Slurm
    root: Path

    def launch(self) -> None:
        """Another launcher."""
        raise NotImplementedError

    def disturb(self, counts: Counter[str]) -> None:
        """One of them, and its count."""
        rng = self.world.rng
        kinds: dict[str, Callable[[random.Random], object]] = {
            "kill": self._kill, "scancel": self._scancel, "requeue": self._requeue, "preempt": self._preempt, "hang": self._hang,
            "hold": self._hold, "down": self._down, "lost reply": self._lost_reply, "lost request": self._lost_request,
            "launch failed": self._launch_failed, "fail": lambda _: True, "second launcher": self._second, "delete": self._delete,
            "tear": self._tear, "forgotten": self._forget, "limit lowered": self._limit,
        }  # fmt: skip
        name = rng.choice(sorted(kinds))
        if kinds[name](rng) is not False:
            counts[name] += 1

    def _process(self, rng: random.Random) -> Process | None:
        alive = [p for p in self.world.processes if not p.ended and not p.killed]
        return rng.choice(alive) if alive else None

    def _task(self, rng: random.Random, *states: str) -> Task | None:
        found = [t for t in self.slurm.live() if t.state in states]
        return rng.choice(found) if found else None

    def _kill(self, rng: random.Random) -> bool:
        process = self._process(rng)
        if process is None:
            return False
        self.world.kill(process)
        for task in self.slurm.running():
            if task.process is process:
                task.process = None
                self.slurm._end(task, "FAILED")
        return True

    def _scancel(self, rng: random.Random) -> bool:
        task = self._task(rng, "PENDING", "RUNNING")
        if task:
            self.slurm.cancel(task)
        return task is not None

    def _requeue(self, rng: random.Random) -> bool:
        task = self._task(rng, "RUNNING")
        if task:
            self.slurm.requeue(task, delay=rng.choice((5.0, 125.0)))
        return task is not None

    def _preempt(self, rng: random.Random) -> bool:
        task = self._task(rng, "RUNNING")
        if task is None or task.process is None:
            return False
        task.process.signalled, victim = True, task.process

        def end() -> None:
            if task.process is victim:
                self.slurm.requeue(task)

        self.world.at(rng.choice((0.0, 20.0, 120.0)), end)
        return True

    def _hang(self, rng: random.Random) -> bool:
        """A node hangs; SLURM takes it for dead and starts the task elsewhere; then it comes back with our old process."""
        task = self._task(rng, "RUNNING")
        if task is None or task.process is None:
            return False
        task.process.frozen_until = self.world.now + rng.choice((20.0, 100.0, 400.0, 2000.0))
        if rng.random() < 0.7:
            self.world.at(rng.choice((15.0, 60.0)), lambda: self.slurm.requeue(task, delay=1.0, kill=False))
        return True

    def _hold(self, rng: random.Random) -> bool:
        task = self._task(rng, "PENDING")
        if task:
            task.reason = "JobHeldUser"
        return task is not None

    def _limit(self, rng: random.Random) -> bool:
        """What a queued job asks for is not allowed any more: for good, or for a while, as where the controller has lost its accounts."""
        task = self._task(rng, "PENDING")
        if task is None or task.reason == "DependencyNeverSatisfied":
            return False
        reason, ends = rng.choice((("PartitionTimeLimit", False), ("InvalidAccount", True)))
        job = task.job
        job.beyond = reason
        if ends:
            self.world.at(rng.choice((60.0, 900.0)), lambda: setattr(job, "beyond", ""))
        self.slurm.schedule()
        return True

    def _down(self, rng: random.Random) -> None:
        self.slurm.down_until = self.world.now + rng.choice((5.0, 60.0, 900.0, 5000.0))

    def _lost_reply(self, rng: random.Random) -> None:
        self.slurm.lose_reply = True

    def _lost_request(self, rng: random.Random) -> None:
        self.slurm.lose_request = True

    def _launch_failed(self, rng: random.Random) -> None:
        self.slurm.fail_launch = True

    def _second(self, rng: random.Random) -> None:
        self.launch()

    def _forget(self, rng: random.Random) -> bool:
        """A controller that fails over with an old state: its newest job is gone."""
        waiting = [
            j for j in self.slurm.jobs.values() if j.id != "77" and all(t.state == "PENDING" for t in j.tasks)
        ]
        if waiting:
            del self.slurm.jobs[waiting[-1].id]
        return bool(waiting)

    def _damaged(self, rng: random.Random) -> Path | None:
        found = [
            path for pattern in ("iter_*/*.manifest.json", "iter_*/*/shard-*.jsonl", "iter_*/*/*.manifest.json", "iter_*/student/*", "iter_*/targets/*")
            for path in sorted(self.root.glob(pattern))
        ]  # fmt: skip
        newest = max((p.relative_to(self.root).parts[0] for p in found), default="")
        found = [
            p for p in found if p.relative_to(self.root).parts[0] == newest
        ]  # what later ones rest on is another matter
        return rng.choice(found) if found else None

    def _delete(self, rng: random.Random) -> bool:
        path = self._damaged(rng)
        if path:
            path.unlink()
        return path is not None

    def _tear(self, rng: random.Random) -> bool:
        path = self._damaged(rng)
        if path:
            data = path.read_bytes()
            path.write_bytes(rng.choice((b"", bytes(len(data)), data[: len(data) // 2], data[:-2] + b"#\n")))
        return path is not None
