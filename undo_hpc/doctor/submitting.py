"""May compute nodes call sbatch? Merge and advance do; where they may not, the launcher is called again from outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from undo_hpc.cluster.commands import config_values, run
from undo_hpc.cluster.profile import Profile
from undo_hpc.config.schema import StageResources
from undo_hpc.control.checks.finding import Finding
from undo_hpc.errors import ClusterError

WAIT_S = 30  # for a free node
_ANSWER = "undo-hpc: sbatch ended with"


def check_submitting(profile: Profile) -> Iterator[Finding]:
    """Lets a node ask `sbatch --test-only`, in a step of a minute such as merge would have, and proposes what to do where it may not."""
    what = "submitting from nodes"
    if profile.submit_from == "login":
        yield Finding("ok", what, "not needed (submit_from: login); " + proposed_line())
        return
    asked = profile.for_stage("merge", StageResources())
    options = [
        f"--{key}={value}"
        for key, value in {
            "partition": asked.partition,
            "account": asked.account,
            "qos": asked.qos,
            "constraint": asked.constraint,
            "export": profile.exports(),
        }.items()
        if value
    ]
    command = f"sbatch --test-only {' '.join(options[:-1])} --time=1 --wrap=true 2>&1; echo '{_ANSWER}' $?"
    try:
        said = run(
            [
                "srun",
                "-Q",
                f"--immediate={WAIT_S}",
                "--ntasks=1",
                "--time=1",
                *options,
                "bash",
                "-c",
                command,
            ],
            timeout=4 * WAIT_S,
            cluster=profile.cluster,
        )
    except ClusterError as error:
        yield Finding(
            "warning",
            what,
            f"not found out: {error.message}",
            f"no node was free within {WAIT_S} s, or srun is not for login nodes: try `sbatch --test-only` inside a job",
        )
        return
    words, _, code = said.rpartition(_ANSWER)
    if code.strip() == "0":
        yield Finding("ok", what, "a node may call sbatch")
        return
    reason = words.strip().splitlines()[-1] if words.strip() else "no reason given"
    yield Finding(
        "error",
        what,
        f"a node may not call sbatch ({reason}), as merge and advance would",
        "set `submit_from: login` in the profile; " + proposed_line(),
    )


def proposed_line() -> str:
    """How the launcher is called again: by scrontab where the site has enabled it, else by cron."""
    try:
        values = config_values(run(["scontrol", "show", "config"]))
    except ClusterError:
        values = {}
    table = "scrontab -e" if "enable" in values.get("ScronParameters", "") else "crontab -e"
    return (
        f"`{table}` then takes the line that the launcher prints: */10 * * * * cd PROJECT && {sys.executable} "
        "launchers/run_iteration.py --run-dir RUN_DIR --unattended --quiet"
    )
