"""Pausing and cancelling: on SLURM by its jobs; on this machine by the launcher's process, which its owner stops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console


def stop(run_dir: Path, how: Literal["pause", "cancel"], console: Console) -> int:
    """Stops a run.

    Raises:
        ConfigError: the run, or a file in it that says what is stopped, is another user's.
        ClusterError: the scheduler cannot be reached; nothing was changed but the mark of a pause.
    """
    from undo_hpc.pipeline.run import open_run, require_trusted_run
    from undo_hpc.storage.heartbeat import is_alive
    from undo_hpc.storage.lease import read_lease
    from undo_hpc.system.invocation import resume_hint
    from undo_hpc.system.wording import counted

    require_trusted_run(run_dir)  # the profile says where to ask, and the run's id whose jobs are ended
    run = open_run(run_dir)
    if run.config.cluster.kind == "local":
        lease = read_lease(run.layout.lease)
        if lease and is_alive(lease):
            console.print(
                f"this run is running on {lease.get('host')} (process {lease.get('pid')}), not on a cluster.",
                highlight=False,
            )
            console.print(
                f"stop it there with Ctrl-C, or: kill -TERM {lease.get('pid')}    (it saves, then ends)",
                highlight=False,
            )
            return 3
        console.print("nothing runs; nothing to stop", highlight=False)
        return 0
    from undo_hpc.control.patience import on_login_node
    from undo_hpc.control.stopping_run import cancel, pause

    count = on_login_node(lambda: pause(run) if how == "pause" else cancel(run))
    words = (
        "asked to save and stop, or cancelled while waiting"
        if how == "pause"
        else "cancelled; all data stays"
    )
    console.print(f"{counted(count, 'job')} {words}", highlight=False)
    console.print(f"resume: {resume_hint(run.layout.root)}", highlight=False, soft_wrap=True)
    return 0
