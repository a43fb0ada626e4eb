"""Which job is ours. The number that sbatch prints is only a hint: sites print lines of their own around it, or none at all.

Each submission has a unique name (see names), which stands in the job's name, its comment, and the path of its batch file. A job is
written down, depended on or cancelled only where one of these three marks was read from the queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from undo_hpc.cluster.commands import TooLate, run
from undo_hpc.cluster.names import JobName

FORMAT = "%j|%k|%o"  # name, comment, command
_PRINTED = re.compile(r"^\s*(?P<said>Submitted batch job )?(?P<id>\d+)(?:;\S+| on cluster \S+)?\s*$")


@dataclass(frozen=True, slots=True)
class Marks:
    """A job in the queue: its id (of the whole array), the name that its marks say (None: not ours), the path of its batch file."""

    job_id: str
    name: JobName | None
    script: str


def comment_of(name: JobName) -> str:
    """The comment of a job."""
    return f"undo {name}"


def script_name(name: JobName) -> str:
    """Name of the batch file of a job."""
    return f"{name}.sh"


def read_marks(text: str) -> tuple[JobName | None, str]:
    """(name, path of the batch file) out of squeue's FORMAT; any of the three marks is enough, for plugins rewrite the others."""
    name, _, rest = text.partition("|")
    comment, _, script = rest.partition("|")
    last = script.rstrip().rpartition("/")[2]
    found = (  # the name last: with a prefix it may still look like one of ours, of another stage
        JobName.parse(comment.removeprefix("undo ").strip().partition(" ")[0])  # prelude.sh may add a word
        or JobName.parse(last.removesuffix(".sh"))
        or JobName.parse(name)
    )
    return found, script


def printed_ids(text: str) -> list[str]:
    """Numbers in sbatch's answer that may be the job's id, the likeliest first: `Submitted batch job N`, then a bare number or
    `N;CLUSTER`; of several lines the last."""
    found = [match for line in reversed(text.splitlines()) if (match := _PRINTED.match(line))]
    found.sort(key=lambda match: match["said"] is None)  # stable
    return list(dict.fromkeys(match["id"] for match in found))


def jobs_of(users: Iterable[int], cluster: str = "") -> list[Marks]:
    """All jobs of these users that SLURM still knows, ended ones too. Raises ClusterError where it does not answer."""
    whose = f"--user={','.join(map(str, sorted(users)))}"
    return _marks(["squeue", "-h", "-a", "-t", "all", whose], cluster)


def job_by_id(job_id: str, cluster: str = "") -> list[Marks]:
    """The marks of one job; nothing where SLURM does not know it."""
    try:
        return _marks(["squeue", "-h", "-a", "-t", "all", "-j", job_id], cluster)
    except TooLate:
        return []


def shown_job(job_id: str, cluster: str = "") -> tuple[Marks, set[str]] | None:
    """The marks of one job and the states of its tasks, by `scontrol show job`; None where SLURM does not know it.

    It asks the controller itself: what squeue lists may be a site's copy that is minutes old.
    """
    try:
        said = run(["scontrol", "show", "job", "-o", job_id], cluster=cluster)
    except TooLate:
        return None
    values = {
        key: found[1]
        if (found := re.search(rf"(?:^|\s){key}=(.*?)(?=\s[A-Z]\w*=|\s*$)", said, re.MULTILINE))
        else ""
        for key in ("JobName", "Comment", "Command")
    }
    marks = Marks(job_id, *read_marks("|".join(values.values())))
    return marks, set(re.findall(r"(?:^|\s)JobState=(\w+)", said, re.MULTILINE))


def _marks(command: list[str], cluster: str) -> list[Marks]:
    lines = [
        line.partition("|") for line in run([*command, "-o", f"%F|{FORMAT}"], cluster=cluster).split("\n")
    ]
    return [Marks(job_id, *read_marks(rest)) for job_id, _, rest in lines if job_id.isdigit()]
