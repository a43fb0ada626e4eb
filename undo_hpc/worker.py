"""What a compute node runs: `python -m undo_hpc.worker RUN_DIR STAGE --iteration I --index K`. One task, one exit code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import time
from pathlib import Path

from undo_hpc.cluster.signals import StopSignals, count_restarts
from undo_hpc.config.schema import ClusterConfig
from undo_hpc.control.ahead import wait_for_plan
from undo_hpc.engines.vllm_nodes import MEETING, dismiss, follow
from undo_hpc.errors import ConfigError, EvidenceError, ExitCode, Incomplete, Requeue, UndoError
from undo_hpc.pipeline.damage import explain_in_run
from undo_hpc.pipeline.evidence import task_evidence
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.run import open_run, require_trusted_run
from undo_hpc.pipeline.stages import LAST_STAGE, spec_of
from undo_hpc.records import SCHEMA_VERSION
from undo_hpc.stages import load_stage
from undo_hpc.stages.context import VISIBILITY_WAIT_S, StageContext, require_parent
from undo_hpc.stages.train import cluster_rank
from undo_hpc.storage.events import EventLog, read_events
from undo_hpc.storage.heartbeat import STALE_S
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import withdraw_manifest
from undo_hpc.storage.progress import ProgressFile, read_progress
from undo_hpc.storage.reading import finite
from undo_hpc.system.energy import joules
from undo_hpc.system.logs import log_to_task_log
from undo_hpc.system.own_places import code_caches, use_own_places
from undo_hpc.system.ownership import keep_from_everybody, leave_folder_for_everybody
from undo_hpc.system.parent_death import die_with_parent_if_asked
from undo_hpc.system.plugins import search_folders

log = logging.getLogger(
    "undo_hpc.worker"
)  # not __name__: it is run as __main__, which is outside of our logger tree


def main(argv: list[str] | None = None) -> int:
    """Runs one task and returns its exit code (see errors.ExitCode)."""
    parser = argparse.ArgumentParser(prog="python -m undo_hpc.worker", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("stage")
    parser.add_argument("--iteration", type=int, required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument(
        "--ahead", action="store_true", help="submitted before there was a plan: there may be no such task"
    )
    arguments = parser.parse_args(argv)
    arguments.run_dir = arguments.run_dir.absolute()  # the working folder may change
    die_with_parent_if_asked(pass_on=False)
    keep_from_everybody()
    use_own_places()
    os.environ.update(code_caches())
    log_to_task_log()
    with StopSignals() as stop_signals:
        try:
            code = run_task(
                arguments.run_dir,
                arguments.stage,
                arguments.iteration,
                arguments.index,
                stop_signals,
                ahead=arguments.ahead,
            )
        except KeyboardInterrupt:
            return int(ExitCode.INTERRUPTED)
        except SystemExit as end:  # of code that is not ours; with 0 it would look like success
            ended = UndoError(
                f"{arguments.stage} ended its own process (sys.exit({end.code!r}))",
                hint="an engine, a checker or a stage of your own raises an error instead",
            )
            code = _report(ended, arguments.run_dir)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the log says it, and where the traceback is
            code = _report(error, arguments.run_dir)
        if code == ExitCode.NO_SUCH_TASK:
            return code if arguments.ahead else int(ExitCode.COMPLETE)
        # Set in jobs of a cluster: 1 submits what follows, plan leaves that to the login node.
        if (how := os.environ.get("UNDO_CONTINUES_RUN")) in ("1", "plan") and not cluster_rank()[0]:
            from undo_hpc.control.continue_run import continue_run, plan_next

            try:
                if how == "1":
                    code = continue_run(arguments.run_dir, arguments.stage, code)
                else:
                    code = plan_next(arguments.run_dir, arguments.stage, arguments.iteration, code)
                if arguments.stage == LAST_STAGE and code == ExitCode.COMPLETE and how == "1":
                    _continue_campaign(arguments.run_dir)
            except Exception as error:  # noqa: BLE001
                failed = _report(error, arguments.run_dir)
                code = code or failed
        if code == ExitCode.COMPLETE and not cluster_rank()[0]:
            try:
                _afterwards(arguments.run_dir, arguments.stage, arguments.iteration)
            except Exception as error:  # noqa: BLE001
                log.warning("the task is complete; afterwards: %s", explain_in_run(error, arguments.run_dir))
        return code


def _continue_campaign(run_dir: Path) -> None:
    from undo_hpc.campaign.continuing import continue_campaign

    try:
        continue_campaign(open_run(run_dir))
    except Exception as error:  # noqa: BLE001
        told = explain_in_run(error, run_dir)
        log.warning("the iteration is complete; its campaign was not continued: %s", told)


def _afterwards(run_dir: Path, stage: str, iteration: int) -> None:
    """Report and push, last of all: the next iteration is submitted by then, and nothing in the run waits for them or fails with them."""
    if stage not in ("merge", "advance"):
        return
    run = open_run(run_dir)

    if stage == "merge":
        from undo_hpc.control.spent import measure, rationale_cost

        log.info(next((line for line in reversed(rationale_cost(measure(run)))), "no rationale was kept"))
    if stage == "advance":
        from undo_hpc.control.tidy import tidy

        tidy(run)
        from undo_hpc.observe.after import after_iteration

        after_iteration(run, iteration)
    if run.config.hub.push_every_min or run.config.hub.push_at_end:
        from undo_hpc.hub.auto import has_ended, maybe_push

        maybe_push(run, time.time(), ended=has_ended(run, iteration))


def _report(error: Exception, run_dir: Path) -> int:
    told = explain_in_run(error, run_dir)
    log.error("%s: %s", type(told).__name__, told)
    return int(told.exit_code)


def run_task(
    run_dir: Path,
    stage_name: str,
    iteration: int,
    index: int,
    stop_signals: StopSignals,
    *,
    ahead: bool = False,
) -> int:
    """One task from its lease to its manifest, with its events.

    Args:
        ahead: it was submitted before its iteration was planned; where the plan has no such task, NO_SUCH_TASK is returned.

    Raises:
        UndoError: what went wrong, with the exit code to end with.
    """
    require_trusted_run(run_dir)
    run = open_run(run_dir)
    leave_folder_for_everybody(run.layout.prepared.parent)  # not the run itself: messages name it as a whole
    search_folders(run.config.plugins)
    plan = wait_for_plan(run, iteration, wait_s=_visibility_wait_s())
    if plan is None:
        log.info("nothing to do: the run has ended before iteration %d", iteration)
        return int(ExitCode.NO_SUCH_TASK)
    stages = {stage.name: stage for stage in build_graph(run.config, run.layout, plan)}
    if stage_name not in stages:
        raise ConfigError(
            f"no stage '{stage_name}' in iteration {iteration}", hint=f"stages: {', '.join(stages)}"
        )
    stage = stages[stage_name]
    if ahead and index >= len(stage.tasks):
        log.info("nothing to do: %s of iteration %d has %d tasks", stage_name, iteration, len(stage.tasks))
        return int(ExitCode.NO_SUCH_TASK)
    if not 0 <= index < len(stage.tasks):
        raise ConfigError(
            f"{stage_name} has no task {index}", hint=f"its tasks are 0 to {len(stage.tasks) - 1}"
        )
    task = stage.tasks[index]
    at = run.layout.iteration(iteration)
    events = EventLog(at.events(stage_name, index))
    lease = Lease(
        at.lease(stage_name, index), f"{stage_name} {index} of iteration {iteration}", wait_s=2 * STALE_S
    )
    context = StageContext(
        run=run,
        plan=plan,
        stage=stage,
        task=task,
        events=events,
        progress=ProgressFile(at.progress(stage_name, index)),
        lease=lease,
        should_stop=stop_signals.requested,
        time_left_s=stop_signals.time_left_s,
        visibility_wait_s=_visibility_wait_s(),
    )
    if cluster_rank()[0]:
        return _run_further_rank(context)
    with lease:
        if _is_complete(context):
            log.info("%s %d of iteration %d is complete already", stage_name, index, iteration)
            return int(ExitCode.COMPLETE)
        require_parent(context)
        if task.manifest:
            withdraw_manifest(run.layout.root / task.manifest)
        alive = finite(read_progress(context.progress.path) or {}, "time")
        context.progress.clear()
        context.started, began = time.time(), time.monotonic()  # without the wait for the lease
        events.append(
            "start",
            alive=alive,  # the last sign of life of the start before, which may have been killed: its hours count up to there
            job=os.environ.get("SLURM_JOB_ID", ""),
            restart=os.environ.get("SLURM_RESTART_COUNT", "0"),
            gpus=_gpus(),
            cpus=len(os.sched_getaffinity(0)),
            nodes=int(os.environ.get("SLURM_STEP_NUM_NODES", "1")),
            tasks=int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")),
            joules=joules(),
        )
        status, code = "failed", ExitCode.FAILED
        several = cluster_rank()[1] > 1 and spec_of(stage_name).spans
        if several:
            os.environ[MEETING] = str(at.meeting(stage_name, index))
        try:
            load_stage(run.config, stage_name)(context)
            status, code = "complete", ExitCode.COMPLETE
        except Requeue as stop:
            log.info("%s (%s)", stop, stop_signals.requeue_reason())
            code = ExitCode.INCOMPLETE
            _within_limits(run.config.cluster, events, stop_signals.reason)
            status, code = "requeue", ExitCode.REQUEUE
        except UndoError as error:
            code = error.exit_code
            raise
        finally:
            if several:
                dismiss()
            events.append(
                "end",
                status=status,
                code=int(code),
                reason=stop_signals.reason,
                seconds=round(time.monotonic() - began, 3),  # a clock that is set meanwhile costs no hours
                joules=joules(),
            )
    return int(code)


def _within_limits(limits: ClusterConfig, events: EventLog, reason: str) -> None:
    """Raises Incomplete where a task has been preempted, or has reached its time limit, too often."""
    so_far = count_restarts(read_events(events.path))
    if reason == "timeout" and so_far.timeout >= limits.max_timeouts:
        raise Incomplete(
            f"this task has reached its time limit {so_far.timeout + 1} times",
            hint="give it more minutes (cluster.resources), or raise cluster.max_timeouts; all progress is kept",
        )
    if reason == "preempted" and so_far.preempted >= limits.max_preemptions:
        raise Incomplete(
            f"this task has been preempted {so_far.preempted + 1} times",
            hint="choose another partition or qos, or raise cluster.max_preemptions; all progress is kept",
        )


def _visibility_wait_s() -> float:
    """Seconds in which a file of another node shows (the profile's `visible_within_s`); none outside of SLURM."""
    if not os.environ.get("SLURM_JOB_ID"):
        return 0.0
    return float(os.environ.get("UNDO_VISIBLE_WITHIN_S", VISIBILITY_WAIT_S))


def _run_further_rank(context: StageContext) -> int:
    """A rank other than 0 trains with the others, or runs its part of the first node's model, but holds no lease and writes
    no events or manifest. Only rank 0 exits with REQUEUE:
    the first rank that ends with a code other than 0 ends the others (--kill-on-bad-exit)."""
    if _is_complete(context):
        return int(ExitCode.COMPLETE)
    if spec_of(context.stage.name).spans:
        follow(context.at.meeting(context.stage.name, context.task.index), cluster_rank()[0])
        return int(ExitCode.COMPLETE)
    with contextlib.suppress(Requeue):
        load_stage(context.run.config, context.stage.name)(context)
    return int(ExitCode.COMPLETE)


def _is_complete(context: StageContext) -> bool:
    """Whether an earlier start has completed the task under this configuration. A damaged manifest counts as none.

    Raises:
        EvidenceError: the manifest is another version's: it is not overwritten.
    """
    run, task = context.run, context.task
    found = task_evidence(run.layout.root, task, context.plan.iteration) if task.manifest else None
    if found is None or found.manifest is None:
        return False
    if found.manifest.schema_version != SCHEMA_VERSION:
        raise EvidenceError(
            f"{task.manifest}: {found.problem}",
            hint="continue this run with the version of undo-hpc that made it, or start a new run directory",
        )
    if found.problem:
        log.warning("%s: %s; the task is done again", task.manifest, found.problem)
    if found.manifest.pruned:  # asked for by hand: the launcher takes a pruned task for done
        log.info("%s: its outputs were pruned; the task is done again", task.manifest)
        return False
    return not found.problem and found.manifest.inputs.get("config", run.config_digest) == run.config_digest


def _gpus() -> int:
    """GPUs that this task was given, by the variable that SLURM and users set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return len([device for device in visible.split(",") if device.strip()])


if (
    __name__ == "__mp_main__"
):  # a process that multiprocessing has spawned from this one, such as vLLM's engine
    die_with_parent_if_asked()
if __name__ == "__main__":
    raise SystemExit(main())
