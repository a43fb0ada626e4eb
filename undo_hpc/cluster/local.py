"""The machine at hand as a cluster: at most N worker processes, dependencies kept, a log for each task.

Unlike a SLURM cluster it needs a process that stays: the launcher. Workers end with it (see system.parent_death), after they have
saved, and the same command resumes the run.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from undo_hpc.cluster.snapshot import project_root
from undo_hpc.errors import ExitCode, Incomplete
from undo_hpc.pipeline.plan import Stage, Task
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.stages import LAST_STAGE
from undo_hpc.pipeline.state import Key, TaskStatus, enough, unmet
from undo_hpc.storage.atomic import translate_os_error
from undo_hpc.storage.opening import open_append
from undo_hpc.storage.progress import read_progress
from undo_hpc.system.invocation import python_module
from undo_hpc.system.own_places import code_caches
from undo_hpc.system.parent_death import bound_to_this_process
from undo_hpc.system.warm import WarmProcess, WarmServer

log = logging.getLogger(__name__)

POLL_S = 0.1
STOP_WAIT_S = 120.0
MAX_FAILURES = 3


def has_gpu() -> bool:
    """Whether a task would find a CUDA GPU here; told without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible not in ("", "-1") and any(Path("/dev").glob("nvidia[0-9]*"))


def default_parallelism(threads: int) -> int:
    """How many tasks of that many threads run well side by side here: one where there is a GPU, for a task takes all of its memory.

    More threads than CPUs would wait for each other in busy loops: with two tasks of two threads on two
    busy CPUs vLLM wrote 15 tokens a second, one task of one thread 253.
    """
    return 1 if has_gpu() else max(1, min(2, len(os.sched_getaffinity(0)) // threads))


def worker_command(run_dir: Path, stage: Stage, index: int) -> list[str]:
    """The command line of a worker."""
    task = [str(run_dir), stage.name, "--iteration", str(stage.iteration), "--index", str(index)]
    return python_module("undo_hpc.worker", *task)


def worker_environment(run: Run) -> dict[str, str]:
    """The environment of this run's workers."""
    return {
        **os.environ,
        **bound_to_this_process("TERM"),
        **code_caches(),
        "OMP_NUM_THREADS": str(run.config.cluster.threads_per_process),
        "TOKENIZERS_PARALLELISM": "false",
        # workers run the code that this launcher runs, whatever else is installed
        "PYTHONPATH": os.pathsep.join([str(project_root()), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def suits_warm_start(run: Run, stage: str) -> bool:
    """Whether a stage's workers may be copies of a process that has torch imported: of the table, and with an engine that starts no process
    and changes no library at its import, as vLLM does."""
    return _engine_of(run, stage) in ("", "transformers")


def _engine_of(run: Run, stage: str) -> str:
    """The engine with which a stage's tasks load a model; empty for one that loads none, or starts a process of its own for it."""
    config = run.config
    engines = {
        "generate": config.generate.engine.name, "evaluate": config.evaluate.engine.name, "baseline": config.evaluate.engine.name,
        "merge": "", "advance": "", "train": "",
    }  # fmt: skip
    return engines.get(stage, "another")


def warm_server(run: Run, stages: Collection[str]) -> WarmServer | None:
    """The warm process of a run (`cluster.warm_start`); None where it is off, where no stage would use it, and where there is a GPU: a driver
    may be initialised by an import. On Linux alone: elsewhere a copy does not end with its parent, and some libraries do not bear a fork.

    Args:
        stages: those that are still to be done. Five seconds of imports are nothing for a run that ends behind its rationales.
    """
    if not run.config.cluster.warm_start or has_gpu() or sys.platform != "linux":
        return None
    if "transformers" not in {_engine_of(run, stage) for stage in stages}:
        return None
    return WarmServer(python_module("undo_hpc.warm"), worker_environment(run))


class Display(Protocol):
    """Who shows what happens."""

    def started(self, stage: Stage, task: Task) -> None: ...

    def ended(self, stage: Stage, task: Task, code: int, seconds: float) -> None: ...

    def tick(self, running: Sequence[tuple[Stage, Task, dict[str, Any] | None, float]]) -> None: ...


@dataclass
class _Running:
    stage: Stage
    task: Task
    process: subprocess.Popen[bytes] | WarmProcess
    began: float = field(default_factory=time.monotonic)


class LocalCluster:
    """Runs the missing tasks of an iteration.

    Args:
        display: told of each start and end, and several times a second of all that runs.
        warm: starts the workers that it suits; None starts each from nothing.
    """

    def __init__(self, run: Run, display: Display, warm: WarmServer | None = None) -> None:
        self._run, self._display, self._warm = run, display, warm
        self._max_processes = run.config.cluster.max_processes or default_parallelism(
            run.config.cluster.threads_per_process
        )
        self._running: list[_Running] = []
        self._failed: list[tuple[Stage, Task, int]] = []

    def run_graph(
        self, stages: Sequence[Stage], statuses: Sequence[TaskStatus], given_up: Collection[Key] = ()
    ) -> bool:
        """Runs until every task is done that can be done now, or until nothing more can start because one failed.

        What rests on a finished stage waits where something before that stage is made again, for it may have to be made again, too:
        the caller looks at the run again.

        Args:
            given_up: tasks that a policy does without, and that nothing waits for any more.

        Returns:
            Whether the iteration was closed: its last stage has run, and ended.

        Raises:
            Incomplete: a task failed; says which, the end of its log, and the next command.
            KeyboardInterrupt: after all workers have saved and ended.
        """
        todo = {(s.stage, s.index) for s in statuses if s.state != "done"} - set(given_up)
        waiting = [
            (stage, task) for stage in stages for task in stage.tasks if (stage.name, task.index) in todo
        ]
        open_tasks: dict[str, int] = {
            stage.name: sum((stage.name, t.index) in todo for t in stage.tasks) for stage in stages
        }
        plan = self._run.plan(stages[0].iteration)

        def settled(stage: Stage) -> bool:
            """Whether what comes behind a stage may start: all of it is done, or enough of it and no more is to come."""
            still = [s for s, _ in waiting if s is stage] + [r for r in self._running if r.stage is stage]
            done = len(stage.tasks) - open_tasks[stage.name]
            return (
                not still and plan is not None and enough(plan.policy_of(stage.name), done, len(stage.tasks))
            )

        by_name: dict[str, Stage] = {stage.name: stage for stage in stages}
        policies = {stage.name: plan.policy_of(stage.name) for stage in stages} if plan else {}
        made = unmet(
            stages, policies, statuses
        )  # a task that nothing rests on may be done beside what comes behind it
        doubtful: set[str] = set()  # with finished tasks behind something that is made again
        for stage in stages:
            finished = any((stage.name, task.index) not in todo for task in stage.tasks)
            if any(name in doubtful or (finished and name in made) for name in stage.after):
                doubtful.add(stage.name)
        try:
            while waiting or self._running:
                for stage, task in list(waiting):
                    if (
                        stage.name != "serve" and self._count_busy() >= self._max_processes
                    ):  # servers wait most of their time
                        break
                    if (
                        all(settled(by_name[name]) and name not in doubtful for name in stage.after)
                        and self._failures(stage) < MAX_FAILURES
                    ):
                        waiting.remove((stage, task))
                        self._start(stage, task)
                if not self._count_busy() or self._clients_are_stranded(by_name):
                    self._stop_all()  # servers without clients, or clients that wait for a server in vain
                    break
                time.sleep(POLL_S)
                for item in [r for r in self._running if r.process.poll() is not None]:
                    self._end(item, waiting, open_tasks)
                self._show()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and self._running:
                log.warning(
                    "stopping: running tasks save, in %g s at most; Ctrl-C again ends them at once",
                    STOP_WAIT_S,
                )
            self._stop_all()
            raise
        if self._failed and not all(settled(stage) for stage in stages if stage.name != "serve"):
            raise self._explain()
        return (LAST_STAGE, 0) in todo and settled(by_name[LAST_STAGE])

    def _failures(self, stage: Stage) -> int:
        """Failed tasks of a stage: after a few, the cause is likely the same for all."""
        return sum(failed.name == stage.name for failed, _, _ in self._failed)

    def _clients_are_stranded(self, stages: Mapping[str, Stage]) -> bool:
        """Whether all teacher servers have failed while generation waits for them: in vain, and for long (generate.service_slack_s)."""
        waits = any(item.stage.name == "generate" for item in self._running)
        return waits and "serve" in stages and self._failures(stages["serve"]) == len(stages["serve"].tasks)

    def _count_busy(self) -> int:
        return sum(item.stage.name != "serve" for item in self._running)

    def _start(self, stage: Stage, task: Task) -> None:
        log = self._run.layout.iteration(stage.iteration).log(stage.name, task.index)
        with translate_os_error(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            open_append(log).close()
        command, environment = (
            worker_command(self._run.layout.root, stage, task.index),
            worker_environment(self._run),
        )
        process: subprocess.Popen[bytes] | WarmProcess
        if self._warm is not None and self._warm.alive and suits_warm_start(self._run, stage.name):
            process = self._warm.start(command[command.index("undo_hpc.worker") + 1 :], log, environment)
        else:
            with open_append(
                log
            ) as file:  # a session of its own: Ctrl-C reaches the launcher, which asks the workers to save
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        self._running.append(_Running(stage, task, process))
        self._display.started(stage, task)

    def _end(self, item: _Running, waiting: list[tuple[Stage, Task]], open_tasks: dict[str, int]) -> None:
        self._running.remove(item)
        code = item.process.wait()
        if isinstance(item.process, WarmProcess) and item.process.is_lost:
            log.warning(
                "the process that %s was a copy of has died; the task is started again as a process of its own",
                item.stage.name,
            )
        self._display.ended(item.stage, item.task, code, time.monotonic() - item.began)
        if code == ExitCode.COMPLETE:
            open_tasks[item.stage.name] -= 1
        elif code == ExitCode.REQUEUE:
            waiting.insert(0, (item.stage, item.task))
        else:
            self._failed.append((item.stage, item.task, code))

    def _show(self) -> None:
        now = time.monotonic()
        self._display.tick(
            [(r.stage, r.task, read_progress(self._progress(r)), now - r.began) for r in self._running]
        )

    def _progress(self, item: _Running) -> Path:
        return self._run.layout.iteration(item.stage.iteration).progress(item.stage.name, item.task.index)

    def _stop_all(self) -> None:
        """Asks all workers to save, waits, and kills those that do not end."""
        for item in self._running:
            if item.process.poll() is None:
                item.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WAIT_S
        try:
            for item in self._running:
                item.process.wait(max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        for item in self._running:
            if item.process.poll() is None:
                item.process.kill()
                item.process.wait()

    def _explain(self) -> Incomplete:
        stage, task, code = self._failed[0]
        log = self._run.layout.iteration(stage.iteration).log(stage.name, task.index)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        what = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        others = f" ({len(self._failed) - 1} more failed too)" if len(self._failed) > 1 else ""
        error = Incomplete(
            f"{stage.name}{f' {task.label}' if stage.is_array else ''} of iteration {stage.iteration} {what}{others}. The end of its log ({log}):\n"
            + "\n".join(f"  | {line}" for line in lines),
            hint="all finished work is kept. Fix the cause, then run the same command again: it resumes from there",
        )
        if code == ExitCode.WRONG_INPUT:
            error.exit_code = ExitCode.WRONG_INPUT
        return error
