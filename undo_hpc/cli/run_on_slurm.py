"""What the launcher does on a SLURM cluster: submit, show what was submitted, leave."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.messages import show_workload
from undo_hpc.cluster.commands import require_slurm
from undo_hpc.cluster.shared import check_shared
from undo_hpc.control.dispatch import submit_missing
from undo_hpc.control.patience import on_login_node
from undo_hpc.control.results import require_results
from undo_hpc.control.run_cluster import open_cluster
from undo_hpc.observe.summary import show_summary
from undo_hpc.pipeline.run import Run
from undo_hpc.system.invocation import cli_hint, display_path, launcher_hint
from undo_hpc.system.wording import counted

if TYPE_CHECKING:
    from rich.console import Console


def run_on_slurm(run: Run, console: Console, *, unattended: bool = False) -> int:
    """Submits what is missing of the run and returns at once; the jobs continue by themselves.

    Args:
        unattended: cron calls, not a person: a paused run stays paused, and tries are limited.

    Raises:
        ClusterError: the cluster refuses or cannot be reached; nothing was submitted.
        ConfigError: the profile is wrong.
    """
    require_slurm()
    cluster = on_login_node(lambda: open_cluster(run, from_launcher=True))
    if run.config.cluster.check_shared:
        on_login_node(lambda: check_shared(run.layout.root, cluster.profile.cluster))
    if unattended and run.layout.paused.exists():
        console.print("the run is paused; nothing is submitted")
        return 0
    run.layout.paused.unlink(missing_ok=True)
    login = cluster.profile.submit_from == "login"
    done = on_login_node(lambda: submit_missing(run, cluster, check=True, unattended=unattended, ahead=login))
    if done.state.ended:
        if not unattended:  # they are read whole
            require_results(run, done.state.iteration, done.state.ended.best_iteration)
        console.print(
            f"nothing to do: this run ended after iteration {done.state.iteration} ({done.state.ended.why})."
        )
        show_summary(run, console)
        return 0
    if done.live:
        console.print(
            f"{counted(done.live, 'task')} of iteration {done.state.iteration}: queued or running already",
            highlight=False,
        )
    for stage, ids, tasks in done.submitted:
        console.print(
            f"submitted {stage} of iteration {done.state.iteration}: {counted(tasks, 'task')}, job {', '.join(ids)}",
            highlight=False,
        )
    for iteration in dict.fromkeys(number for number, *_ in done.ahead):
        mine = [each for each in done.ahead if each[0] == iteration]
        names = ", ".join(job_id for _, _, new, _ in mine for job_id in new)
        console.print(
            f"submitted iteration {iteration} ahead: {counted(sum(n for *_, n in mine), 'task')} behind advance of iteration "
            f"{iteration - 1}, jobs {names}",
            highlight=False,
            soft_wrap=True,
        )
    if done.state.plan.canary_problems:
        first = f"{done.state.plan.canary_problems} of {counted(done.state.plan.problems, 'problem')}"
        console.print(
            f"  canary: the teacher writes for {first} first; the array is planned and submitted when it is released (generate.canary)",
            highlight=False,
            soft_wrap=True,
        )
    elif any(stage == "generate" for stage, _, _ in done.submitted):
        show_workload(run.config, done.state.plan, console)
    for job in done.released:
        console.print(
            f"job {job.task_id} ({job.stage}) was held by SLURM ({job.reason}); it is released",
            highlight=False,
        )
    if not done.submitted and not done.released and not done.ahead:
        console.print("nothing to submit")
    for job_id, stage in {job.id: job.stage for job in done.held}.items():
        console.print(f"job {job_id} ({stage}) is held: scontrol release {job_id}", highlight=False)
    root = display_path(run.layout.root)
    if login:
        here = (
            f"cd {shlex.quote(str(Path.cwd()))} && {launcher_hint(f'--run-dir {root} --unattended --quiet')}"
        )
        console.print(
            "No process stays behind, and the nodes submit nothing (submit_from: login): what is queued runs through, iteration after "
            "iteration. The same command again submits what failed, and what the queue did not take; cron or scrontab may call it:\n"
            f"  */10 * * * * {here}\nNext:",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    else:
        console.print(
            "No process stays behind: the jobs continue the run, iteration after iteration. Next:",
            highlight=False,
            soft_wrap=True,
        )
    for command in (
        cli_hint(f"status {root}"),
        "squeue --me",
        cli_hint(f"pause {root}"),
        cli_hint(f"cancel {root}"),
    ):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
    return 0
